package groomer

import (
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
)

func spans(s IDs, id string) [][2]uint64 {
	var out [][2]uint64
	for from, to := range s.Spans(id) {
		out = append(out, [2]uint64{from, to})
	}
	return out
}

// TestEveryIDIsFoundWhereItBegan over several pages, from each state that ever was, also after JSON.
func TestEveryIDIsFoundWhereItBegan(t *testing.T) {
	t.Parallel()
	const n = 3*idPage + 5
	var all []IDs
	var s IDs
	for i := range n {
		s = s.with(fmt.Sprint("kim.", i), uint64(3*i))
		all = append(all, s)
	}
	for had, s := range all {
		var again IDs
		if b, err := json.Marshal(s); err != nil || json.Unmarshal(b, &again) != nil {
			t.Fatalf("not readable: %s, %v", b, err)
		}
		if s.Len() != had+1 || again.Len() != had+1 {
			t.Fatalf("%d, after JSON %d, want %d", s.Len(), again.Len(), had+1)
		}
		if had%37 != 0 && had != n-1 && (had+1)%idPage != 0 {
			continue
		}
		for i := range n {
			found := spans(s, fmt.Sprint("kim.", i))
			if diff := cmp.Diff(found, spans(again, fmt.Sprint("kim.", i))); diff != "" {
				t.Fatalf("after JSON (-before +after)\n%s", diff)
			}
			switch {
			case i > had && len(found) > 0:
				t.Fatalf("%d of %d is found at %v", i, had, found)
			case i <= had && len(found) != 1:
				t.Fatalf("%d of %d is found at %v", i, had, found)
			case i <= had && (found[0][0] > uint64(3*i) || found[0][1] <= uint64(3*i)):
				t.Fatalf("%d of %d began at %d, not within %v", i, had, 3*i, found)
			case i/idPage < had/idPage && found[0][1] == math.MaxUint64:
				t.Fatalf("%d of %d: %v ends nowhere", i, had, found)
			}
		}
	}
}

// TestTheIDsOfTwoFuturesDoNotMeet: a decision may be folded on a state that another one was folded on as well.
func TestTheIDsOfTwoFuturesDoNotMeet(t *testing.T) {
	t.Parallel()
	var s IDs
	for i := range idPage - 1 {
		s = s.with(fmt.Sprint(i), uint64(i))
	}
	for range 2 * idPage {
		a, b := s.with("a", 1000), s.with("b", 1000)
		if len(spans(a, "b"))+len(spans(b, "a"))+len(spans(s, "a")) > 0 || len(spans(a, "a")) != 1 || len(spans(b, "b")) != 1 {
			t.Fatal("one future sees the other's ID")
		}
		s = s.with("x", 1000)
	}
}

func TestBrokenIDsAreRefused(t *testing.T) {
	t.Parallel()
	for _, b := range []string{`{"from":[],"sums":"AAAAAA=="}`, `{"from":[1],"sums":""}`, `{"from":[1],"sums":"AAA="}`, `{"from":[1,2],"sums":"AAAAAA=="}`, `[]`} {
		var s IDs
		if json.Unmarshal([]byte(b), &s) == nil {
			t.Errorf("%s was read", b)
		}
	}
}

// TestARestoredStateGoesOnAsTheFold: a snapshot taken anywhere in a history folds on to what the whole history gives.
func TestARestoredStateGoesOnAsTheFold(t *testing.T) {
	t.Parallel()
	history := everything(t)
	var g Groomer
	for i, e := range history {
		g = Evolve(g, fact(e, i))
		var again Groomer
		if err := json.Unmarshal([]byte(show(t, g)), &again); err != nil {
			t.Fatal(err)
		}
		if again = again.Restored(); again.loc != g.loc && (again.loc == nil || again.loc.String() != g.loc.String()) {
			t.Fatalf("at %d: zone %v, want %v", i, again.loc, g.loc)
		}
		if again.Size() != g.Size() {
			t.Errorf("at %d: restored it is of %d bytes, folded of %d", i, again.Size(), g.Size())
		}
		whole := g
		for j, e := range history[i+1:] {
			again, whole = Evolve(again, fact(e, i+1+j)), Evolve(whole, fact(e, i+1+j))
		}
		if diff := cmp.Diff(show(t, whole), show(t, again)); diff != "" {
			t.Fatalf("a snapshot at %d (-folded +restored)\n%s", i, diff)
		}
	}
}

// TestTheSizeIsNearWhatTheHeapSays, for books with short and with long texts, small and large. It is not parallel: the
// heap is everybody's.
func TestTheSizeIsNearWhatTheHeapSays(t *testing.T) {
	long := domain.Sealed{Subject: "customer:ana", KeyID: "01kaz1d2x4", Cipher: make([]byte, 3000)}
	opening, err := json.Marshal(fold(registered(t, salon())))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		reservations, holds, off, ended int
		note                            domain.Sealed
	}{
		"a busy book":    {reservations: 500, holds: 50, off: 50},
		"long notes":     {reservations: 300, note: long},
		"a long history": {reservations: 10, ended: 50_000},
		"holds":          {holds: 500},
		"time off":       {off: 900},
	} {
		var g Groomer
		if err := json.Unmarshal(opening, &g); err != nil {
			t.Fatal(err)
		}
		for i := range c.ended {
			g.IDs = g.IDs.with(fmt.Sprint(i), uint64(i))
		}
		for i := range c.reservations {
			r := requested(fmt.Sprintf("kim.%026d", i), "24 10:00", ana)
			r.Note = c.note
			g = Evolve(g, fact(r, i))
		}
		for i := range c.holds {
			g = Evolve(g, fact(held(fmt.Sprintf("kim.h%025d", i), "24 10:00", ana, "24 10:00"), i))
		}
		for i := range c.off {
			g = Evolve(g, fact(TimeOffAdded{TimeOffID: fmt.Sprintf("kim.o%025d", i), From: kst("24 10:00"), To: kst("24 10:00").Add(time.Hour), Reason: secret}, i))
		}
		// Decoded, it shares nothing with the test's own values: as it comes from a store.
		b := []byte(show(t, g))
		var before, after runtime.MemStats
		runtime.GC()
		runtime.GC() // pools hold on for one more
		runtime.ReadMemStats(&before)
		var again Groomer
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap := float64(after.HeapAlloc) - float64(before.HeapAlloc)
		if ratio := float64(again.Size()) / heap; ratio < 0.7 || ratio > 1.5 {
			t.Errorf("%s: estimated %d bytes, the heap grew by %.0f: %.2f", name, again.Size(), heap, ratio)
		} else {
			t.Logf("%s: %d bytes, %.2f of the heap's", name, again.Size(), ratio)
		}
		runtime.KeepAlive(b)
		runtime.KeepAlive(g)
		runtime.KeepAlive(again)
	}
}
