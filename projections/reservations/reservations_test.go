package reservations_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/reservations"
)

func rowsOf(t interface{ Fatal(...any) }, events ...engine.Event) []reservations.Row {
	u := engine.NewUnit()
	if err := u.Replay(reservations.Projection(), events...); err != nil {
		t.Fatal(err)
	}
	rows := reservations.Table.Rows(u)
	slices.SortFunc(rows, func(a, b reservations.Row) int { return strings.Compare(a.ReservationID, b.ReservationID) })
	return rows
}

func TestARowShowsAllOfAReservation(t *testing.T) {
	t.Parallel()
	log := foldtest.NewLog()
	s := log.Open("kim", "Asia/Seoul")
	start := time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC)
	v := s.Request("c1", start)
	asked := log.Now
	s.Confirm(v)
	s.Move(v, start.Add(24*time.Hour))
	s.Cancel(v, 50)

	fifty := 50
	want := []reservations.Row{{
		ReservationID: v.ID,
		GroomerID:     "kim",
		CustomerID:    "c1",
		Status:        "cancelled",
		StartAt:       start.Add(24 * time.Hour),
		EndAt:         start.Add(24*time.Hour + 30*time.Minute),
		Minutes:       30,
		Mode:          "shop",
		Dogs:          []groomer.Dog{{Name: foldtest.Seal("customer:c1", "콩이"), Size: "small", Services: []string{"bath"}}},
		Phone:         foldtest.Seal("customer:c1", "010-1234-5678"),
		Note:          foldtest.Seal("customer:c1", "겁이 많아요"),
		PriceKRW:      25_000,
		RefundPercent: &fifty,
		Cancellation:  []groomer.RefundTier{{HoursBefore: 24, RefundPercent: 100}},
		CreatedAt:     asked,
		UpdatedAt:     log.Now,
		Revision:      v.Revision,
		Moves:         1,
	}}
	if diff := cmp.Diff(want, rowsOf(t, log.Events...)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAnEventOfAReservationNeverRequestedIsPoison(t *testing.T) {
	t.Parallel()
	u := engine.NewUnit()
	e := engine.Event{Key: "kim", Fact: domain.Fact{Event: groomer.Confirmed{ReservationID: "kim.x"}}}
	if err := u.Replay(reservations.Projection(), e); err == nil {
		t.Error("a confirmation of nothing was folded")
	}
}

func TestRowsAgreeWithWhatBecameOfEachVisit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		salons := []*foldtest.Salon{log.Open("kim", "Asia/Seoul"), log.Open("lee", "America/New_York")}
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			salons[choose(2)].Step(choose)
		}
		got := rowsOf(t, log.Events...)
		i := 0
		for _, s := range salons {
			for _, v := range s.Visits {
				r := got[i]
				i++
				if r.ReservationID != v.ID || r.GroomerID != s.ID || r.CustomerID != v.CustomerID || r.Status != string(v.Status) ||
					!r.StartAt.Equal(v.Start) || !r.EndAt.Equal(v.Start.Add(30*time.Minute)) || r.PriceKRW != v.PriceKRW ||
					r.Revision != v.Revision || !cmp.Equal(r.RefundPercent, v.Refund) {
					t.Fatalf("row %+v\nvisit %+v", r, v)
				}
			}
		}
		if i != len(got) {
			t.Fatalf("%d rows for %d visits", len(got), i)
		}
	})
}

// The write side answers a reservation from its own fold of the same events: both must say the same.
func TestRowsAgreeWithTheWriteSidesState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		s := log.Open("kim", "Asia/Seoul")
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			s.Step(choose)
		}
		states, moves := map[string]groomer.Reservation{}, map[string]int{}
		for _, e := range log.Events {
			if id := groomer.About(e.Event); id != "" {
				states[id] = groomer.EvolveReservation(states[id], e.Fact)
				if _, moved := e.Event.(groomer.Rescheduled); moved {
					moves[id]++
				}
			}
		}
		want := map[string]reservations.Row{}
		for id, r := range states {
			want[id] = reservations.Row{
				ReservationID: id, GroomerID: "kim", CustomerID: r.CustomerID, Status: string(r.Status), StartAt: r.Start, EndAt: r.End(),
				Minutes: r.Minutes, Mode: string(r.Mode), Dogs: r.Dogs, VisitAddress: r.VisitAddress, Phone: r.Phone, Note: r.Note,
				PriceKRW: r.PriceKRW, RefundPercent: r.RefundPercent, Cancellation: r.Cancellation,
				CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Revision: r.Revision, Moves: moves[id],
			}
		}
		got := map[string]reservations.Row{}
		for _, r := range rowsOf(t, log.Events...) {
			got[r.ReservationID] = r
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-state +row)\n%s", diff)
		}
	})
}

// Keys may come in any order against one another; only the order inside a key counts.
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
