package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// maxTimeOff bounds the state: more than anybody plans ahead.
const maxTimeOff = 1000

// AddTimeOff blocks [from, to) for visits. A booking or a live hold in it must be moved first; the buffer after one may
// lie in it, as it may when the visit is booked.
func (g Groomer) AddTimeOff(id string, by domain.Actor, from, to time.Time, reason domain.Sealed, now time.Time) ([]domain.Event, error) {
	if err := g.mayRun(by); err != nil {
		return nil, err
	}
	// Microseconds is what databases keep; the years are those that all of them can spell.
	off := schedule.Interval{Start: from.UTC().Truncate(time.Microsecond), End: to.UTC().Truncate(time.Microsecond)}
	switch {
	case off.Empty():
		return nil, invalid("to: must be after from")
	case off.Start.Year() < 2000 || off.End.Year() > 2200:
		return nil, invalid("from, to: want the years 2000 to 2200")
	case !now.Before(off.End):
		return nil, invalid("to: lies in the past")
	case g.TimeOff.Len() >= maxTimeOff:
		return nil, invalid("at most %d times off ahead", maxTimeOff)
	}
	for r := range g.Reservations.All() {
		if r.interval().Overlaps(off) {
			return nil, ErrCalendarBooked
		}
	}
	for h := range g.Holds.All() {
		if h.live(now) && h.interval().Overlaps(off) {
			return nil, ErrCalendarBooked
		}
	}
	return []domain.Event{TimeOffAdded{TimeOffID: id, From: off.Start, To: off.End, Reason: reason}}, nil
}

// RemoveTimeOff frees it again. One that is removed already is a success.
func (g Groomer) RemoveTimeOff(id string, by domain.Actor) ([]domain.Event, error) {
	if err := g.mayRun(by); err != nil {
		return nil, err
	}
	t, ok := g.FindTimeOff(id)
	if !ok {
		return nil, ErrTimeOffUnknown
	}
	if t.Removed {
		return nil, nil
	}
	return []domain.Event{TimeOffRemoved{TimeOffID: id}}, nil
}

func (g Groomer) mayRun(by domain.Actor) error {
	if !g.Registered() {
		return ErrGroomerUnknown
	}
	if !g.runBy(by) {
		return ErrForbidden
	}
	return nil
}
