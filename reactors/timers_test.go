package reactors_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/reactors"
)

func rowsOf(t interface{ Fatal(...any) }, events ...engine.Event) []reactors.Due {
	u := engine.NewUnit()
	if err := u.Replay(reactors.Timers(), events...); err != nil {
		t.Fatal(err)
	}
	rows := reactors.Table.Rows(u)
	slices.SortFunc(rows, func(a, b reactors.Due) int {
		return strings.Compare(a.ReservationID+a.Kind, b.ReservationID+b.Kind)
	})
	return rows
}

// TestEachStepSetsMovesOrEndsATimer is every arrow of a reservation's life, on a log of its own.
func TestEachStepSetsMovesOrEndsATimer(t *testing.T) {
	t.Parallel()
	near := foldtest.NewLog().Now.Add(24*time.Hour + time.Minute) // nearer than a day a minute after the log begins
	far := near.Add(10 * 24 * time.Hour)
	day := -24 * time.Hour
	type step = func(*foldtest.Log, *foldtest.Salon, *foldtest.Visit)
	confirm := func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.Confirm(v) }
	move := func(to time.Time) step {
		return func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.Move(v, to) }
	}
	wait := func(l *foldtest.Log, _ *foldtest.Salon, _ *foldtest.Visit) { l.Now = l.Now.Add(time.Minute) }
	remind := func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.Remind(v) }
	for _, c := range []struct {
		name  string
		start time.Time
		steps []step
		want  map[string]time.Time // by kind
	}{
		{"a request expires", far, nil, map[string]time.Time{reactors.Expire: far}},
		{"moved, its time counts anew", far, []step{move(near)}, map[string]time.Time{reactors.Expire: near}},
		{"confirmed, it is reminded of", far, []step{confirm}, map[string]time.Time{reactors.Remind: far.Add(day)}},
		{"confirmed within a day, it is not", near, []step{wait, confirm}, nil},
		{"confirmed just before that, it is", near, []step{confirm}, map[string]time.Time{reactors.Remind: near.Add(day)}},
		{"moved, it is reminded of the new start", far, []step{confirm, move(near)}, map[string]time.Time{reactors.Remind: near.Add(day)}},
		{"moved into the next day, it is not", far, []step{confirm, wait, move(near)}, nil},
		{"moved out of it, it is", near, []step{wait, confirm, move(far)}, map[string]time.Time{reactors.Remind: far.Add(day)}},
		{"a moved request is reminded of the new start", near, []step{move(far), confirm}, map[string]time.Time{reactors.Remind: far.Add(day)}},
		{"reminded of once", far, []step{confirm, remind}, nil},
		{"but anew when it is moved", near, []step{confirm, remind, move(far)}, map[string]time.Time{reactors.Remind: far.Add(day)}},
		{"declined", far, []step{func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.Decline(v) }}, nil},
		{"expired", far, []step{func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.Expire(v) }}, nil},
		{"a request is cancelled", far, []step{func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.Cancel(v, 100) }}, nil},
		{"a visit is cancelled", far, []step{confirm, func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.Cancel(v, 100) }}, nil},
		{"the dogs arrived", far, []step{confirm, func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.CheckIn(v) }}, nil},
		{"completed", far, []step{confirm, func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.CheckIn(v); s.Complete(v) }}, nil},
		{"missed", far, []step{confirm, func(_ *foldtest.Log, s *foldtest.Salon, v *foldtest.Visit) { s.Miss(v) }}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := foldtest.NewLog()
			s := log.Open("kim", "Asia/Seoul")
			v := s.Request("c1", c.start)
			for _, do := range c.steps {
				do(log, s, v)
			}
			got := map[string]time.Time{}
			for _, d := range rowsOf(t, log.Events...) {
				got[d.Kind] = d.DueAt
				if d.ReservationID != v.ID || d.GroomerID != "kim" || !d.StartAt.Equal(v.Start) {
					t.Errorf("row %+v of visit %+v", d, v)
				}
			}
			if c.want == nil {
				c.want = map[string]time.Time{}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// An instant booking has its confirmation in the same append, and no time in which it could expire.
func TestABookingAtOnceIsRemindedOf(t *testing.T) {
	t.Parallel()
	log := foldtest.NewLog()
	s := log.Open("kim", "Asia/Seoul")
	start := log.Now.Add(72 * time.Hour)
	v := s.Request("c1", start)
	asked := &log.Events[len(log.Events)-1]
	r := asked.Event.(groomer.Requested)
	r.ExpiresAt = time.Time{}
	asked.Event = r
	asked.Meta.CorrelationID = "walk-in"
	s.Confirm(v)
	want := []reactors.Due{{
		ReservationID: v.ID, Kind: reactors.Remind, GroomerID: "kim", DueAt: start.Add(-24 * time.Hour), StartAt: start,
		CauseID: asked.ID.String(), CorrelationID: "walk-in",
	}}
	if diff := cmp.Diff(want, rowsOf(t, log.Events...)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The write side knows what may be done; a row is there as long as its command would do something.
func TestRowsAgreeWithWhatTheCommandsWouldDo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		salons := []*foldtest.Salon{log.Open("kim", "Asia/Seoul"), log.Open("lee", "America/New_York")}
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			salons[choose(2)].Step(choose)
		}
		rows := rowsOf(t, log.Events...)
		states := map[string]groomer.Groomer{}
		for _, e := range log.Events {
			states[e.Key] = groomer.Evolve(states[e.Key], e.Fact)
		}
		timers := log.Events[0].By
		timers.ID, timers.Role = "timers", "system"
		due := map[string]bool{}
		for _, d := range rows {
			due[d.ReservationID+" "+d.Kind] = true
			decide := states[d.GroomerID].Expire
			if d.Kind == reactors.Remind {
				decide = states[d.GroomerID].Remind
			}
			if events, err := decide(d.ReservationID, timers, d.DueAt); err != nil || len(events) != 1 {
				t.Fatalf("%+v: %d events, %v", d, len(events), err)
			}
			if _, err := decide(d.ReservationID, timers, d.DueAt.Add(-time.Microsecond)); err == nil {
				t.Fatalf("%+v could be done earlier", d)
			}
		}
		for _, s := range salons {
			for _, v := range s.Visits {
				if got, want := due[v.ID+" "+reactors.Expire], v.Status == groomer.StatusRequested; got != want {
					t.Fatalf("visit %+v expires: %t", v, got)
				}
				// All visits begin more than a day after the log's end.
				if got, want := due[v.ID+" "+reactors.Remind], v.Status == groomer.StatusConfirmed && !v.Reminded; got != want {
					t.Fatalf("visit %+v is reminded of: %t", v, got)
				}
			}
		}
	})
}

func TestRowsDoNotDependOnTheOrderOfOtherKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		salons := []*foldtest.Salon{log.Open("kim", "Asia/Seoul"), log.Open("lee", "Asia/Seoul")}
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			salons[choose(2)].Step(choose)
		}
		byKey := slices.Clone(log.Events)
		slices.SortStableFunc(byKey, func(a, b engine.Event) int { return strings.Compare(a.Key, b.Key) })
		if diff := cmp.Diff(rowsOf(t, log.Events...), rowsOf(t, byKey...)); diff != "" {
			t.Fatalf("(-in the store's order +key by key)\n%s", diff)
		}
	})
}
