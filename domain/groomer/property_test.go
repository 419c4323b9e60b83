package groomer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// world is one groomer's stream with rivals working on it: commands as the write side runs them, one after the other,
// each deciding on the folded state at max(clock, last fact).
type world struct {
	facts  []domain.Fact
	state  Groomer
	shown  []string // the state after each fact, as it looked then
	states []Groomer
	clock  time.Time
	ids    int
}

func (w *world) now() time.Time {
	if n := len(w.facts); n > 0 && w.facts[n-1].At.After(w.clock) {
		return w.facts[n-1].At
	}
	return w.clock
}

func (w *world) newID(prefix string) string {
	w.ids++
	return fmt.Sprintf("%s%03d", prefix, w.ids)
}

// run executes a command; a refusal must bring no events. That it left the state alone is seen at the end, by replays.
func (w *world) run(t *rapid.T, by domain.Actor, decide func(Groomer, time.Time) ([]domain.Event, error)) error {
	events, err := decide(w.state, w.now())
	if err != nil && len(events) > 0 {
		t.Fatalf("refused with %v, and %d events", err, len(events))
	}
	if len(events) > 0 {
		recorded := w.now().Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 4 * time.Second}).Draw(t, "append took"))
		for _, e := range events {
			f := domain.Fact{Event: e, Revision: uint64(len(w.facts)), At: recorded, By: by}
			w.facts = append(w.facts, f)
			w.state = Evolve(w.state, f)
			w.states, w.shown = append(w.states, w.state), append(w.shown, show(t, w.state))
		}
	}
	return err
}

// known is the state with what it let go of that reservation or hold, folded alone, as the write side does.
func (w *world) known(id string) Groomer {
	g := w.state
	var r Reservation
	var h Hold
	for _, f := range w.facts {
		if About(f.Event) == id && r.ReservationID != "" && ReservationOver(r, f.At) || AboutHold(f.Event) == id && h.HoldID != "" && HoldOver(h, f.At) {
			panic(fmt.Sprintf("%#v is of %s, which was over", f, id))
		}
		if About(f.Event) == id {
			r = EvolveReservation(r, f)
		}
		if AboutHold(f.Event) == id {
			h = EvolveHold(h, f)
		}
	}
	if _, ok := g.FindReservation(id); !ok && r.ReservationID != "" {
		g = g.WithReservation(r)
	}
	if _, ok := g.FindHold(id); !ok && h.HoldID != "" {
		g = g.WithHold(h)
	}
	return g
}

// taken is what owns time at a moment, told from the facts alone and not by the fold under test.
type taken struct {
	schedule.Interval
	id, customer string
	hold         bool
}

func (w *world) taken(now time.Time) []taken {
	slots := map[string]taken{}
	length := map[string]int{}
	for _, f := range w.facts {
		switch e := f.Event.(type) {
		case SlotHeld:
			if now.Before(e.ExpiresAt) {
				slots[e.HoldID] = taken{span(e.Start, e.Minutes+e.BufferMinutes), e.HoldID, e.CustomerID, true}
			}
		case HoldReleased:
			delete(slots, e.HoldID)
		case Requested:
			delete(slots, e.HoldID)
			length[e.ReservationID] = e.Minutes
			slots[e.ReservationID] = taken{span(e.Start, e.Minutes+e.BufferMinutes), e.ReservationID, e.CustomerID, false}
		case Rescheduled:
			slots[e.ReservationID] = taken{span(e.Start, length[e.ReservationID]+e.BufferMinutes), e.ReservationID, "", false}
		case Cancelled:
			delete(slots, e.ReservationID)
		case Declined:
			delete(slots, e.ReservationID)
		case Expired:
			delete(slots, e.ReservationID)
		}
	}
	var out []taken
	for _, s := range slots {
		out = append(out, s)
	}
	return out
}

func span(start time.Time, minutes int) schedule.Interval {
	return schedule.Interval{Start: start, End: start.Add(time.Duration(minutes) * time.Minute)}
}

func (w *world) noOverlap(t *rapid.T) {
	slots := w.taken(w.now())
	for i, a := range slots {
		for _, b := range slots[:i] {
			if a.Start.Before(b.End) && b.Start.Before(a.End) {
				t.Fatalf("two live slots overlap at %v:\n%+v\n%+v", w.now(), a, b)
			}
		}
	}
}

func (w *world) limits(t *rapid.T) {
	holds := map[string]int{}
	for _, s := range w.taken(w.now()) {
		if s.hold {
			if holds[s.customer]++; holds[s.customer] > 2 {
				t.Fatalf("%s has three live holds", s.customer)
			}
		}
	}
	open := map[string]int{}
	for r := range w.state.Reservations.All() {
		if r.Status == StatusRequested {
			if open[r.CustomerID]++; open[r.CustomerID] > 3 {
				t.Fatalf("%s has four open requests", r.CustomerID)
			}
		}
	}
}

var rivals = []domain.Actor{ana, ben, {ID: "cho", Role: domain.Customer}}

// anyID is one of the latest of a kind, which matter most; now and then one that never was.
func (w *world) anyID(t *rapid.T, kind string) string {
	ids := []string{"none"}
	for _, f := range w.facts {
		var id string
		switch e := f.Event.(type) {
		case Requested:
			id = e.ReservationID
		case SlotHeld:
			id = e.HoldID
		case TimeOffAdded:
			id = e.TimeOffID
		}
		if strings.HasPrefix(id, kind) {
			ids = append(ids, id)
		}
	}
	return rapid.SampledFrom(ids[max(0, len(ids)-5):]).Draw(t, "id")
}

// quarters are how far ahead of now somebody wants to start.
var quarters = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 0, -1}

// anyStart is a quarter of an hour near by, so that rivals meet; now and then one that is none.
func (w *world) anyStart(t *rapid.T) time.Time {
	base := w.now().Truncate(15 * time.Minute)
	start := base.Add(time.Duration(rapid.SampledFrom(quarters).Draw(t, "quarters")) * 15 * time.Minute)
	if rapid.SampledFrom(quarters).Draw(t, "off the grid") == 20 {
		start = start.Add(7 * time.Minute)
	}
	return start
}

func (w *world) anyWish(t *rapid.T) Wish {
	services := rapid.SampledFrom([][]string{{"nails"}, {"bath"}, {"bath", "nails"}}).Draw(t, "services")
	return Wish{Start: w.anyStart(t), Mode: Shop, Dogs: []Dog{{Size: "small", Services: services}}}
}

// anySettings keep the salon open round the clock as a rule, so that most commands are accepted.
func anySettings(t *rapid.T) Settings {
	s := salon()
	opens := rapid.SampledFrom([]string{"00:00", "00:00", "00:00", "08:00"}).Draw(t, "opens")
	s.Hours = nil
	for _, d := range []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} {
		s.Hours = append(s.Hours, schedule.Hours{Weekday: d, Opens: opens, Closes: "24:00"})
	}
	s.Policies.BufferMinutes = rapid.SampledFrom([]int{0, 10, 15, 25}).Draw(t, "buffer")
	s.Policies.MinNoticeMinutes = rapid.SampledFrom([]int{0, 0, 20}).Draw(t, "notice")
	s.Policies.Booking = rapid.SampledFrom([]Booking{Instant, OnRequest}).Draw(t, "booking")
	s.Policies.RequestExpiresMinutes = rapid.SampledFrom([]int{1, 60, 600}).Draw(t, "expires")
	return s
}

// action is something that happens, drawn in proportion to often.
type action struct {
	often int
	do    func(*rapid.T)
}

func (w *world) actions() []action {
	customer := func(t *rapid.T) domain.Actor { return rapid.SampledFrom(rivals).Draw(t, "customer") }
	anyone := func(t *rapid.T) domain.Actor {
		return rapid.SampledFrom([]domain.Actor{kim, kim, root, rivals[0], rivals[1], rivals[2], timer, lee}).Draw(t, "by")
	}
	// A transition is tried by anyone on anything; the same by the same again must be a success without events.
	transition := func(kind string, decide func(g Groomer, id string, by domain.Actor, now time.Time) ([]domain.Event, error)) func(*rapid.T) {
		return func(t *rapid.T) {
			by, id := anyone(t), w.anyID(t, kind)
			once := func(_ Groomer, now time.Time) ([]domain.Event, error) { return decide(w.known(id), id, by, now) }
			if w.run(t, by, once) != nil {
				return
			}
			if events, err := decide(w.known(id), id, by, w.now()); err != nil || len(events) > 0 {
				t.Fatalf("the same again on %s by %s: %v, %v", id, by.Subject(), events, err)
			}
		}
	}
	return []action{
		{2, func(t *rapid.T) {
			by := []time.Duration{time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour}
			w.clock = w.clock.Add(rapid.SampledFrom(by).Draw(t, "time passes"))
		}},
		{6, func(t *rapid.T) {
			by, wish, ttl := customer(t), w.anyWish(t), time.Duration(rapid.SampledFrom([]int{2, 300, 7200}).Draw(t, "ttl"))*time.Second
			_ = w.run(t, by, func(g Groomer, now time.Time) ([]domain.Event, error) {
				return g.PlaceHold(w.newID("h"), by, wish, ttl, now)
			})
		}},
		{6, func(t *rapid.T) {
			by, wish := customer(t), w.anyWish(t)
			_ = w.run(t, by, func(g Groomer, now time.Time) ([]domain.Event, error) {
				return g.Request(w.newID("r"), by, wish, nobody, now)
			})
		}},
		{5, func(t *rapid.T) {
			by, id := customer(t), w.anyID(t, "h")
			_ = w.run(t, by, func(_ Groomer, now time.Time) ([]domain.Event, error) {
				return w.known(id).RequestHeld(w.newID("r"), by, id, nobody, now)
			})
		}},
		{2, transition("h", Groomer.ReleaseHold)},
		{6, func(t *rapid.T) {
			start := w.anyStart(t)
			transition("r", func(g Groomer, id string, by domain.Actor, now time.Time) ([]domain.Event, error) {
				return g.Reschedule(id, by, start, now)
			})(t)
		}},
		{4, transition("r", func(g Groomer, id string, by domain.Actor, _ time.Time) ([]domain.Event, error) {
			return g.Confirm(id, by)
		})},
		{1, transition("r", func(g Groomer, id string, by domain.Actor, _ time.Time) ([]domain.Event, error) {
			return g.Decline(id, by, nobody)
		})},
		{2, transition("r", func(g Groomer, id string, by domain.Actor, now time.Time) ([]domain.Event, error) {
			return g.Cancel(id, by, nobody, now)
		})},
		{3, transition("r", Groomer.CheckIn)},
		{3, transition("r", func(g Groomer, id string, by domain.Actor, _ time.Time) ([]domain.Event, error) {
			return g.Complete(id, by)
		})},
		{2, transition("r", Groomer.NoShow)},
		{2, transition("r", Groomer.Expire)},
		{2, transition("r", Groomer.Remind)},
		{1, func(t *rapid.T) {
			from, minutes := w.anyStart(t), rapid.IntRange(1, 60).Draw(t, "minutes off")
			_ = w.run(t, kim, func(g Groomer, now time.Time) ([]domain.Event, error) {
				return g.AddTimeOff(w.newID("t"), kim, from, from.Add(time.Duration(minutes)*time.Minute), nobody, now)
			})
		}},
		{1, func(t *rapid.T) {
			id := w.anyID(t, "t")
			_ = w.run(t, kim, func(g Groomer, _ time.Time) ([]domain.Event, error) { return g.RemoveTimeOff(id, kim) })
		}},
		{1, func(t *rapid.T) {
			s := anySettings(t)
			_ = w.run(t, kim, func(g Groomer, _ time.Time) ([]domain.Event, error) { return g.Put("kim", kim, s) })
		}},
	}
}

// TestNoTwoLiveSlotsOverlap is G9 within one book, and with it what must hold of any history: replay equals the live
// state, every prefix folds (also from a snapshot of it), older values stay as they were, and the free slots that
// screens compute are those that a decision accepts.
func TestNoTwoLiveSlotsOverlap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &world{clock: now}
		_ = w.run(t, kim, func(g Groomer, _ time.Time) ([]domain.Event, error) { return g.Put("kim", kim, anySettings(t)) })
		var actions []int
		all := w.actions()
		for i, a := range all {
			for range a.often {
				actions = append(actions, i)
			}
		}
		// Sampled, not from ranges: rapid prefers a range's small end, and a short history books next to nothing.
		for range rapid.SampledFrom([]int{5, 20, 50, 100}).Draw(t, "commands") {
			all[rapid.SampledFrom(actions).Draw(t, "what")].do(t)
			w.noOverlap(t)
			w.limits(t)
		}
		w.replays(t)
		w.screensAgree(t)
	})
}

func (w *world) replays(t *rapid.T) {
	var g Groomer
	for i, f := range w.facts {
		if g = Evolve(g, f); show(t, g) != w.shown[i] {
			t.Fatalf("the first %d facts fold into another state than live (-live +replay)\n%s", i+1, cmp.Diff(w.shown[i], show(t, g)))
		}
		if now := show(t, w.states[i]); now != w.shown[i] {
			t.Fatalf("a later fact or decision changed the state after fact %d (-then +now)\n%s", i, cmp.Diff(w.shown[i], now))
		}
		var decoded Groomer
		if err := json.Unmarshal([]byte(w.shown[i]), &decoded); err != nil {
			t.Fatal(err)
		}
		if i+1 < len(w.facts) {
			if got := show(t, Evolve(decoded, w.facts[i+1])); got != w.shown[i+1] {
				t.Fatalf("a snapshot after fact %d goes on differently (-live +snapshot)\n%s", i, cmp.Diff(w.shown[i+1], got))
			}
		}
	}
	for r := range w.state.Reservations.All() {
		var alone Reservation
		for _, f := range w.facts {
			if About(f.Event) == r.ReservationID {
				alone = EvolveReservation(alone, f)
			}
		}
		if diff := cmp.Diff(alone, *r); diff != "" {
			t.Fatalf("a reservation folded alone differs (-alone +state)\n%s", diff)
		}
	}
}

// screensAgree compares schedule.Free, which the calendar shows, with what decisions accept of somebody new.
func (w *world) screensAgree(t *rapid.T) {
	loc, err := w.state.Location()
	if err != nil {
		t.Fatal(err)
	}
	now, p := w.now(), w.state.Policies
	from, to := now.Add(-time.Hour), now.Add(30*time.Hour)
	var busy, off []schedule.Interval
	for _, s := range w.taken(now) {
		busy = append(busy, s.Interval)
	}
	for o := range w.state.TimeOff.All() {
		off = append(off, schedule.Interval{Start: o.From, End: o.To})
	}
	bookable := schedule.Bookable(now, p.MinNoticeMinutes, p.HorizonDays, loc)
	open := schedule.Subtract(schedule.OpenBetween(w.state.Hours, from, to, loc), off)
	var free, accepted []string
	for _, i := range schedule.Free(open, busy, bookable.Start, to, 45, p.BufferMinutes, loc) {
		free = append(free, i.Start.Format(time.RFC3339))
	}
	stranger := domain.Actor{ID: "dora", Role: domain.Customer}
	for at := from.Truncate(15 * time.Minute); at.Before(to); at = at.Add(15 * time.Minute) {
		wish := Wish{Start: at, Mode: Shop, Dogs: []Dog{{Size: "small", Services: []string{"bath", "nails"}}}}
		if _, err := w.state.Request("r", stranger, wish, nobody, now); err == nil {
			accepted = append(accepted, at.Format(time.RFC3339))
		}
	}
	if diff := cmp.Diff(accepted, free); diff != "" {
		t.Fatalf("the screen shows other slots than decisions accept (-accepted +shown)\n%s", diff)
	}
}
