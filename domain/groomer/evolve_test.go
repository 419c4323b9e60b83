package groomer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
)

// show is a state as a snapshot and the audit keep it. Two states that show the same decide the same.
func show(t interface{ Fatal(...any) }, g Groomer) string {
	b, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// everything is a history with every event type of the catalogue in it.
func everything(t testing.TB) []domain.Event {
	withHold := requested("r4", "25 11:00", ana)
	withHold.HoldID = "h1"
	again := moved("r2", "24 11:00", "26 11:00")
	again.Status, again.ExpiresAt = StatusRequested, kst("25 09:00")
	asking := waiting("r2", "24 11:00", ben, "24 10:00")
	asking.Note = secret
	history := then(registered(t, salon()), booked("r1", "24 10:00", ana)...)
	return then(history,
		TimeOffAdded{TimeOffID: "t1", From: kst("24 15:00"), To: kst("24 16:00"), Reason: secret},
		TimeOffAdded{TimeOffID: "t2", From: kst("27 15:00"), To: kst("27 16:00")},
		TimeOffRemoved{TimeOffID: "t2"},
		as(ben, asking),
		held("h1", "25 11:00", ana, "23 09:05"), held("h2", "25 12:00", ana, "23 09:05"), held("h3", "25 14:00", ana, "23 09:05"),
		HoldReleased{HoldID: "h2", CustomerID: "ana"},
		as(ana, withHold), as(ana, Confirmed{ReservationID: "r4", Day: day("25")}),
		as(ben, again), Confirmed{ReservationID: "r2", Day: day("26")},
		as(ben, waiting("r5", "26 14:00", ben, "24 10:00")), Declined{ReservationID: "r5", Day: day("26"), Reason: secret, RefundPercent: 100},
		as(ben, waiting("r6", "26 14:00", ben, "24 10:00")), as(timer, Expired{ReservationID: "r6", Day: day("26"), RefundPercent: 100}),
		as(ana, Cancelled{ReservationID: "r4", Day: day("25"), RefundPercent: 50}),
		at(kst("23 10:00"), as(timer, Reminded{ReservationID: "r1", Day: day("24"), Start: kst("24 10:00")})),
		at(kst("24 09:50"), CheckedIn{ReservationID: "r1", Day: day("24")}),
		at(kst("24 10:20"), Completed{ReservationID: "r1", Day: day("24"), PriceKRW: 25_000}),
		at(kst("24 10:39"), MenuChanged{Menu: []MenuItem{{"bath", "small", 45, 30_000}}}),
		at(kst("26 11:05"), NoShow{ReservationID: "r2", Day: day("26")}),
		at(kst("26 12:00"), as(ana, waiting("r7", "27 10:00", ana, "27 10:00"))),
	)
}

// TestTheFoldIsItsVersion fails when the same history folds into another state than it did. Snapshots taken by the old
// fold would then be believed by the new one: raise FoldVersion, and
// the test says what the new version's file holds.
func TestTheFoldIsItsVersion(t *testing.T) {
	t.Parallel()
	history := everything(t)
	seen := map[string]bool{}
	sum := sha256.New()
	var g Groomer
	for i, e := range history {
		f := fact(e, i)
		seen[f.Event.EventType()] = true
		g = Evolve(g, f)
		sum.Write([]byte(show(t, g)))
	}
	for _, e := range Catalog() {
		if !seen[e.EventType()] {
			t.Errorf("the history lacks a %s", e.EventType())
		}
	}
	got := hex.EncodeToString(sum.Sum(nil))
	file := filepath.Join("testdata", fmt.Sprintf("fold_v%d.sha256", FoldVersion))
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("a new fold version? Then %s says %s (%v)", file, got, err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), got); diff != "" {
		t.Errorf("version %d folds the same history into another state than it did; if that is meant, raise FoldVersion (-want +got)\n%s", FoldVersion, diff)
	}
}

// TestWhatTheStateHolds shows the bounds: what each list keeps and when it lets go.
func TestWhatTheStateHolds(t *testing.T) {
	t.Parallel()
	holds := func(g Groomer) string {
		var out []string
		for h := range g.Holds.All() {
			out = append(out, h.HoldID)
		}
		for r := range g.Reservations.All() {
			out = append(out, r.ReservationID+" "+string(r.Status))
		}
		for r := range g.Kept.All() {
			out = append(out, r.ReservationID+" kept")
		}
		for o := range g.TimeOff.All() {
			out = append(out, o.TimeOffID)
		}
		return strings.Join(out, ", ")
	}
	tick := func(when string) domain.Event { return at(kst(when), MenuChanged{}) }
	off := TimeOffAdded{TimeOffID: "t1", From: kst("24 15:00"), To: kst("24 16:00")}
	short := held("h1", "25 10:00", ana, "23 09:05")
	for _, c := range []struct {
		name  string
		given []domain.Event
		want  string
	}{
		{"a hold until its expiry", []domain.Event{short, tick("23 09:04")}, "h1"},
		{"not at it", []domain.Event{short, tick("23 09:05")}, ""},
		{"a used hold is gone", []domain.Event{short, Requested{ReservationID: "r1", HoldID: "h1", Visit: short.Visit}}, "r1 requested"},
		{"a request past its expiry stays", then(asked, tick("27 09:00")), "r1 requested"},
		{"a booking whose time has passed stays until it ends", then(agreed, tick("27 09:00")), "r1 confirmed"},
		{"one checked in stays", then(arrived, tick("27 09:00")), "r1 checked_in"},
		{"a cancelled one goes", cancelled, ""},
		{"a declined one goes", declined, ""},
		{"an expired one goes", lapsed, ""},
		{"a completed one keeps its slot", then(completed, tick("24 10:39")), "r1 kept"},
		{"until the buffer has passed", then(completed, tick("24 10:40")), ""},
		{"a no-show too", then(missed, tick("24 10:39")), "r1 kept"},
		{"a no-show noted later is gone at once", then(agreed, at(kst("24 10:40"), NoShow{ReservationID: "r1"})), ""},
		{"time off until it is over", []domain.Event{off, tick("24 15:59")}, "t1"},
		{"not then", []domain.Event{off, tick("24 16:00")}, ""},
		{"what nobody asked for is passed over", []domain.Event{HoldReleased{HoldID: "h7"}, TimeOffRemoved{TimeOffID: "t7"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, holds(fold(c.given))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestTheLastAnswerIsInTheState: the commands answer from the state right after their events, also when these ended
// the reservation.
func TestTheLastAnswerIsInTheState(t *testing.T) {
	t.Parallel()
	r, ok := fold(cancelled).FindReservation("r1")
	refund := 50
	want := Reservation{
		ReservationID: "r1", Visit: visit("24 10:00", ana), Cancellation: salon().Policies.Cancellation, FirstStart: kst("24 10:00"),
		Status: StatusCancelled, StatusBy: ana, RefundPercent: &refund,
		CreatedAt: kst("22 20:00"), UpdatedAt: kst("22 20:00"), Revision: 2,
	}
	if diff := cmp.Diff(want, r); !ok || diff != "" {
		t.Errorf("found %v (-want +got)\n%s", ok, diff)
	}
	if diff := cmp.Diff(kst("24 10:30"), r.End()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func BenchmarkEvolve(b *testing.B) {
	for _, open := range []int{10, 1000} {
		b.Run(fmt.Sprintf("open=%d", open), func(b *testing.B) {
			g := fold(registered(b, salon()))
			for i := range open {
				r := requested(fmt.Sprintf("kim.%026d", i*7919%open), "24 10:00", ana)
				r.Start = r.Start.Add(time.Duration(i) * time.Hour)
				g = Evolve(g, fact(r, i))
			}
			id := fmt.Sprintf("kim.%026d", open/2)
			confirm, add := fact(Confirmed{ReservationID: id}, 1), fact(requested("kim.00000000000000000000000500x", "24 10:00", ana), 2)
			b.ReportAllocs()
			for b.Loop() {
				Evolve(g, confirm)
				Evolve(g, add)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/fact")
		})
	}
}
