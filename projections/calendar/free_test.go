package calendar

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/schedule"
	"github.com/dangdangsalon/salon/projections/engine"
)

// zones and a night each in which something happens to their clock: forward, back, half an hour, never.
var zones = map[string]time.Time{
	"America/New_York":    time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC),
	"Europe/London":       time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC),
	"Australia/Lord_Howe": time.Date(2026, 10, 3, 15, 30, 0, 0, time.UTC),
	"Asia/Beirut":         time.Date(2026, 3, 28, 22, 0, 0, 0, time.UTC), // at midnight: the day begins at 01:00
	"Asia/Kathmandu":      time.Date(2026, 5, 5, 5, 0, 0, 0, time.UTC),
	"Asia/Seoul":          time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC),
}

// salonBook is one book on both sides: the state that decides and the rows that screens read.
type salonBook struct {
	t     *rapid.T
	state groomer.Groomer
	unit  *engine.Unit
	next  int
	now   time.Time
	holds map[string]string // by customer: the last hold
}

func (b *salonBook) record(events ...domain.Event) {
	for _, e := range events {
		f := domain.Fact{Event: e, Revision: uint64(b.next), At: b.now}
		b.next++
		b.state = groomer.Evolve(b.state, f)
		if err := b.unit.Replay(Projection(), engine.Event{Fact: f, Key: "kim"}); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *salonBook) id() string { return fmt.Sprintf("kim.%026d", b.next) }

func (b *salonBook) choose(n int) int { return rapid.IntRange(0, n-1).Draw(b.t, "choice") }

func hours(b *salonBook) []schedule.Hours {
	var out []schedule.Hours
	for _, day := range []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} {
		switch b.choose(5) {
		case 0: // closed
		case 1:
			out = append(out, schedule.Hours{Weekday: day, Opens: "00:00", Closes: "24:00"})
		case 2:
			out = append(out, schedule.Hours{Weekday: day, Opens: "01:10", Closes: "09:50"}, schedule.Hours{Weekday: day, Opens: "12:00", Closes: "24:00"})
		default:
			out = append(out, schedule.Hours{
				Weekday: day, Opens: "10:00", Closes: "19:00", Breaks: []schedule.Break{{From: "13:00", To: "14:05"}},
			})
		}
	}
	return out
}

func (b *salonBook) policies() groomer.PoliciesChanged {
	return groomer.PoliciesChanged{
		BufferMinutes: []int{0, 10, 45}[b.choose(3)], MinNoticeMinutes: []int{0, 60, 600}[b.choose(3)], HorizonDays: b.choose(4),
		Booking: groomer.OnRequest, RequestExpiresMinutes: 1440,
	}
}

func open(t *rapid.T) *salonBook {
	zone := rapid.SampledFrom([]string{
		"America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Beirut", "Asia/Kathmandu", "Asia/Seoul",
	}).Draw(t, "zone")
	b := &salonBook{t: t, unit: engine.NewUnit(), holds: map[string]string{}}
	b.now = zones[zone].Add(-time.Duration(b.choose(48)) * time.Hour).Add(time.Duration(b.choose(60)) * time.Minute)
	b.record(
		groomer.Registered{GroomerID: "kim", Zone: zone},
		groomer.ProfileChanged{Name: "kim", Modes: []groomer.Mode{groomer.Shop}},
		groomer.MenuChanged{Menu: []groomer.MenuItem{{Service: "bath", Size: "small", Minutes: 15 + 5*b.choose(20)}}},
		groomer.HoursChanged{Hours: hours(b)},
		b.policies(),
	)
	return b
}

func (b *salonBook) wish(start time.Time) groomer.Wish {
	return groomer.Wish{Start: start, Mode: groomer.Shop, Dogs: []groomer.Dog{{Size: "small", Services: []string{"bath"}}}}
}

// step does one thing, if the book allows it.
func (b *salonBook) step() {
	customers := []domain.Actor{{ID: "c1", Role: domain.Customer}, {ID: "c2", Role: domain.Customer}, {ID: "c3", Role: domain.Customer}}
	who, self := customers[b.choose(3)], domain.Actor{ID: "kim", Role: domain.Groomer}
	start := schedule.NextOnGrid(b.now.Add(time.Duration(b.choose(4*72))*schedule.Step), time.UTC)
	var events []domain.Event
	switch b.choose(12) {
	case 0, 1, 2:
		events, _ = b.state.PlaceHold(b.id(), who, b.wish(start), 30*time.Minute, b.now)
		if len(events) > 0 {
			b.holds[who.ID] = b.id()
		}
	case 3, 4, 5:
		events, _ = b.state.Request(b.id(), who, b.wish(start), domain.Sealed{}, b.now)
	case 6:
		events, _ = b.state.RequestHeld(b.id(), who, b.holds[who.ID], domain.Sealed{}, b.now)
	case 7:
		if open := slices.Collect(b.state.Reservations.All()); len(open) > 0 {
			events, _ = b.state.Reschedule(open[b.choose(len(open))].ReservationID, self, start, b.now)
		}
	case 8:
		if open := slices.Collect(b.state.Reservations.All()); len(open) > 0 {
			events, _ = b.state.Cancel(open[b.choose(len(open))].ReservationID, self, domain.Sealed{}, b.now)
		}
	case 9:
		events, _ = b.state.AddTimeOff(b.id(), self, start, start.Add(time.Duration(1+b.choose(600))*time.Minute), domain.Sealed{}, b.now)
	case 10:
		events = []domain.Event{b.policies()}
	case 11:
		b.now = b.now.Add(time.Duration(b.choose(180)) * time.Minute)
	}
	b.record(events...)
}

func (b *salonBook) free(a Ask) map[time.Time]bool {
	salon := Salons.Rows(b.unit)[0]
	a.Now = b.now
	if a.Minutes == 0 {
		a.Minutes, _ = salon.Duration([]string{"bath"}, "small")
	}
	slots, err := Free(salon, Intervals.Rows(b.unit), a)
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[time.Time]bool{}
	for i, s := range slots {
		if out[s.Start] || i > 0 && !slots[i-1].Start.Before(s.Start) || s.End.Sub(s.Start) != time.Duration(a.Minutes)*time.Minute {
			b.t.Fatalf("slots are not ascending visits: %v", slots)
		}
		out[s.Start] = true
	}
	return out
}

// A start is free exactly when the book would accept it, on the grid or off it, however odd the night.
func TestFreeAgreesWithTheDecision(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := open(t)
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			b.step()
		}
		customer := rapid.SampledFrom([]string{"c1", "c2", "c3", "nobody"}).Draw(t, "asks")
		who := domain.Actor{ID: customer, Role: domain.Customer}
		a := Ask{From: b.now.Truncate(time.Hour).Add(-time.Hour), To: b.now.Add(80 * time.Hour), Customer: customer}
		free := b.free(a)
		found := 0
		for at := a.From; at.Before(a.To); at = at.Add(5 * time.Minute) {
			_, err := b.state.PlaceHold("probe", who, b.wish(at), time.Minute, b.now)
			accepted := err == nil || errors.Is(err, groomer.ErrHoldTooMany) // which is not about this slot
			if free[at] != accepted {
				t.Fatalf("%s, at %s: free is %t, the decision says %v", b.state.Zone, at, free[at], err)
			}
			if accepted {
				found++
			}
		}
		if found != len(free) {
			t.Fatalf("%d slots, of which %d were looked at", len(free), found)
		}
	})
}

func TestFreeAgreesWithTheDecisionToMove(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := open(t)
		for range rapid.IntRange(10, 40).Draw(t, "steps") {
			b.step()
		}
		by := domain.Actor{ID: "kim", Role: domain.Groomer}
		for r := range b.state.Reservations.All() {
			if !b.now.Before(r.Start) {
				continue
			}
			a := Ask{From: b.now, To: b.now.Add(80 * time.Hour), Minutes: r.Minutes, Customer: r.CustomerID, Moving: r.ReservationID}
			free := b.free(a)
			for at := schedule.NextOnGrid(a.From, time.UTC); at.Before(a.To); at = at.Add(5 * time.Minute) {
				if at.Equal(r.Start) {
					continue // where it is already
				}
				if _, err := b.state.Reschedule(r.ReservationID, by, at, b.now); free[at] != (err == nil) {
					t.Fatalf("%s, at %s: free is %t, the decision says %v", b.state.Zone, at, free[at], err)
				}
			}
		}
	})
}

func TestDaysCountTheFreeStarts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := open(t)
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			b.step()
		}
		salon, taken := Salons.Rows(b.unit)[0], Intervals.Rows(b.unit)
		loc, err := salon.Location()
		if err != nil {
			t.Fatal(err)
		}
		a := Ask{Now: b.now, Minutes: 30, From: b.now.Add(time.Duration(b.choose(96)-24) * time.Hour)}
		a.To = a.From.Add(time.Duration(b.choose(96)) * time.Hour)
		days, next, ok, err := FreeDays(salon, taken, a)
		if err != nil {
			t.Fatal(err)
		}
		slots := b.free(a)
		want := map[string]int{}
		for start := range slots {
			want[start.In(loc).Format(time.DateOnly)]++
		}
		sum := 0
		for i, d := range days {
			sum += d.Free
			if d.Free != want[d.Date] || i > 0 && d.Date <= days[i-1].Date {
				t.Fatalf("%s: %d free, counted %d", d.Date, d.Free, want[d.Date])
			}
		}
		if sum != len(slots) {
			t.Fatalf("%d free on all days, %d slots", sum, len(slots))
		}
		// The first from a.From on, as far ahead as anything can be.
		a.To = b.now.AddDate(0, 0, 30)
		var first time.Time
		for start := range b.free(a) {
			if first.IsZero() || start.Before(first) {
				first = start
			}
		}
		if ok != !first.IsZero() || !next.Equal(first) {
			t.Fatalf("next free %s (%t), want %s", next, ok, first)
		}
	})
}
