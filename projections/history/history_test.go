package history_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/history"
)

func rowsOf(t interface{ Fatal(...any) }, events ...engine.Event) []history.Row {
	u := engine.NewUnit()
	if err := u.Replay(history.Projection(), events...); err != nil {
		t.Fatal(err)
	}
	rows := history.Table.Rows(u)
	slices.SortFunc(rows, func(a, b history.Row) int {
		return cmp.Or(cmp.Compare(a.ReservationID, b.ReservationID), cmp.Compare(a.Revision, b.Revision))
	})
	return rows
}

func TestEachEventIsARowWithWhoAndWhat(t *testing.T) {
	t.Parallel()
	log := foldtest.NewLog()
	s := log.Open("kim", "Asia/Seoul")
	start := time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC)
	v := s.Request("c1", start)
	s.Confirm(v)
	s.Move(v, start.Add(time.Hour))
	s.Cancel(v, 50)
	first, price, refund := v.Revision-3, v.PriceKRW, 50
	at := func(before int) time.Time { return log.Now.Add(-time.Duration(before) * time.Second) }
	want := []history.Row{
		{
			ReservationID: v.ID, Revision: first, GroomerID: "kim", CustomerID: "c1", What: "requested", At: at(3),
			ActorID: "c1", ActorRole: "customer", StartAt: start, PriceKRW: &price,
		},
		{ReservationID: v.ID, Revision: first + 1, GroomerID: "kim", What: "confirmed", At: at(2), ActorID: "kim", ActorRole: "groomer"},
		{
			ReservationID: v.ID, Revision: first + 2, GroomerID: "kim", What: "rescheduled", At: at(1), ActorID: "c1",
			ActorRole: "customer", StartAt: start.Add(time.Hour), FromStartAt: start,
		},
		{
			ReservationID: v.ID, Revision: first + 3, GroomerID: "kim", What: "cancelled", At: at(0), ActorID: "c1",
			ActorRole: "customer", Reason: foldtest.Seal("customer:c1", "감기"), RefundPercent: &refund,
		},
	}
	if diff := gocmp.Diff(want, rowsOf(t, log.Events...)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestEveryEventOfAVisitIsThereOnceAndTheLastIsItsStatus(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		s := log.Open("kim", "Asia/Seoul")
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			s.Step(choose)
		}
		rows := rowsOf(t, log.Events...)
		for _, v := range s.Visits {
			mine := slices.DeleteFunc(slices.Clone(rows), func(r history.Row) bool { return r.ReservationID != v.ID })
			if len(mine) != v.Happened || mine[0].CustomerID != v.CustomerID || mine[len(mine)-1].Revision != v.Revision {
				t.Fatalf("visit %+v\nrows %+v", v, mine)
			}
			stays := func(r history.Row) bool { return r.What == "rescheduled" }
			if ends := slices.DeleteFunc(mine, stays); ends[len(ends)-1].What != string(v.Status) {
				t.Fatalf("visit %+v\nends with %+v", v, ends[len(ends)-1])
			}
		}
	})
}
