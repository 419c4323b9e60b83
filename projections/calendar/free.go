package calendar

import (
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/domain/schedule"
)

// Slot is a visit that could be booked.
type Slot = schedule.Interval

// Day is one day of a salon's calendar.
type Day struct {
	Date string // "2026-11-24", in the salon's zone
	Free int    // starts
}

// Ask is what is wanted of a salon's free time.
type Ask struct {
	Now      time.Time
	From, To time.Time // starts in [From, To)
	Minutes  int
	Customer string // for whom: their own holds are no obstacle to them; "" for anybody
	Moving   string // a reservation that wants another start: its own time is free for it; "" for none
}

// Location is the salon's zone.
func (s Salon) Location() (*time.Location, error) {
	loc, err := time.LoadLocation(s.Zone)
	if err != nil {
		return nil, fmt.Errorf("zone of groomer %s: %w", s.GroomerID, err)
	}
	return loc, nil
}

// Duration is how long these services take for a dog of this size; ok is false when one is not offered.
func (s Salon) Duration(services []string, size string) (minutes int, ok bool) {
	offered := map[string]int{}
	for _, item := range s.Menu {
		if item.Size == size {
			offered[item.Service] = item.Minutes
		}
	}
	for _, service := range services {
		m, ok := offered[service]
		if !ok {
			return 0, false
		}
		minutes += m
	}
	return minutes, true
}

// Free lists the slots that a decision would accept now, ascending, given all that is taken from now on.
func Free(s Salon, taken []Interval, a Ask) ([]Slot, error) {
	loc, err := s.Location()
	if err != nil {
		return nil, err
	}
	return s.free(taken, a, loc), nil
}

func (s Salon) free(taken []Interval, a Ask, loc *time.Location) []Slot {
	from, to := a.From, a.To
	bookable := schedule.Bookable(a.Now, s.MinNoticeMinutes, s.HorizonDays, loc)
	if from.Before(bookable.Start) {
		from = bookable.Start
	}
	if to.After(bookable.End) {
		to = bookable.End
	}
	if !from.Before(to) {
		return nil
	}
	var busy, off []schedule.Interval
	for _, i := range taken {
		switch {
		case i.Kind == TimeOff:
			off = append(off, Slot{Start: i.StartAt, End: i.EndAt})
		case i.blocks(a):
			busy = append(busy, Slot{Start: i.StartAt, End: i.BusyUntil})
		}
	}
	open := schedule.Subtract(schedule.OpenBetween(s.Hours, from, to, loc), off)
	return schedule.Free(open, busy, from, to, a.Minutes, s.BufferMinutes, loc)
}

// blocks tells whether a hold or reservation is in the way. A hold is dead from its expiry on.
func (i Interval) blocks(a Ask) bool {
	if i.Kind == Hold {
		return a.Now.Before(i.ExpiresAt) && (a.Customer == "" || i.CustomerID != a.Customer)
	}
	return i.ID != a.Moving || a.Moving == ""
}

// lookAhead is how many days at a time are searched for the next free slot.
const lookAhead = 14

// FreeDays counts the free starts of each day that [From, To) touches, and finds the first one from From on, also
// beyond To; ok is false when there is none within the salon's horizon.
func FreeDays(s Salon, taken []Interval, a Ask) (days []Day, next time.Time, ok bool, err error) {
	loc, err := s.Location()
	if err != nil {
		return nil, next, false, err
	}
	slots := s.free(taken, a, loc)
	if len(slots) > 0 {
		next, ok = slots[0].Start, true
	}
	for _, d := range schedule.Days(a.From, a.To, loc) {
		day := d.Interval(loc)
		n := 0
		for n < len(slots) && slots[n].Start.Before(day.End) {
			n++
		}
		slots = slots[n:]
		days = append(days, Day{d.String(), n})
	}
	end := schedule.Bookable(a.Now, s.MinNoticeMinutes, s.HorizonDays, loc).End
	for from := later(a.To, a.Now); !ok && from.Before(end); {
		a.From, a.To = from, from.AddDate(0, 0, lookAhead)
		if slots := s.free(taken, a, loc); len(slots) > 0 {
			next, ok = slots[0].Start, true
		}
		from = a.To
	}
	return days, next, ok, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
