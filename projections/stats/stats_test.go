package stats_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/stats"
)

type key struct{ groomer, day string }

func rowsOf(t interface{ Fatal(...any) }, events ...engine.Event) map[key]stats.Row {
	u := engine.NewUnit()
	if err := u.Replay(stats.Projection(), events...); err != nil {
		t.Fatal(err)
	}
	rows := map[key]stats.Row{}
	for _, r := range stats.Table.Rows(u) {
		rows[key{r.GroomerID, r.Day}] = r
	}
	return rows
}

// recount counts what became of the visits, the slow and plain way.
func recount(salons ...*foldtest.Salon) map[key]stats.Row {
	rows := map[key]stats.Row{}
	for _, s := range salons {
		for _, v := range s.Visits {
			k := key{s.ID, v.Day(s)}
			r := rows[k]
			r.GroomerID, r.Day = k.groomer, k.day
			r.Requested++
			if v.Confirmed {
				r.Confirmed++
			}
			switch v.Status {
			case groomer.StatusDeclined:
				r.Declined++
			case groomer.StatusExpired:
				r.Expired++
			case groomer.StatusCancelled:
				r.Cancelled++
			case groomer.StatusNoShow:
				r.NoShows++
			case groomer.StatusCompleted:
				r.Completed++
				r.RevenueKRW += v.PriceKRW
			}
			rows[k] = r
		}
	}
	return rows
}

func TestAVisitThatMovesTakesItsCountsAlong(t *testing.T) {
	t.Parallel()
	log := foldtest.NewLog()
	s := log.Open("kim", "Asia/Seoul")
	v := s.Request("c1", time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC))
	s.Confirm(v)
	s.Move(v, time.Date(2026, 11, 10, 16, 0, 0, 0, time.UTC)) // the 11th in Seoul
	s.CheckIn(v)
	s.Complete(v)
	want := map[key]stats.Row{
		{"kim", "2026-11-11"}: {GroomerID: "kim", Day: "2026-11-11", Requested: 1, Confirmed: 1, Completed: 1, RevenueKRW: 25_000},
	}
	if diff := cmp.Diff(want, rowsOf(t, log.Events...)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSumsEqualARecount(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		salons := []*foldtest.Salon{log.Open("kim", "Asia/Seoul"), log.Open("lee", "America/New_York")}
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			salons[choose(2)].Step(choose)
		}
		if diff := cmp.Diff(recount(salons...), rowsOf(t, log.Events...)); diff != "" {
			t.Fatalf("(-recount +rows)\n%s", diff)
		}
	})
}
