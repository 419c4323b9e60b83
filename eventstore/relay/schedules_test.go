package relay

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// play runs one schedule and returns what came out wrong.
func play(seed uint64, f faults) (w *world, wrong error) {
	w = newWorld(seed, f)
	w.append(w.IntN(10))
	for range 150 + w.IntN(150) {
		w.relays = slices.DeleteFunc(w.relays, func(r *modelRelay) bool { return r.dead })
		switch n := w.IntN(100); {
		case n < 8:
			w.append(1 + w.IntN(4))
		case n < 12 && len(w.relays) < 4:
			w.start()
		case n < 15 && len(w.relays) > 0:
			// Killed, or paused for longer than this schedule: what it sent may still arrive.
			w.relays[w.IntN(len(w.relays))].dead = true
		case n < 18:
			w.fail()
		case n < 20 && f.tailLoss:
			w.loseTail()
		case n < 45:
			w.arrive()
		case n < 65:
			w.follow(w.readers[w.IntN(len(w.readers))])
		case len(w.relays) > 0:
			w.step(w.relays[w.IntN(len(w.relays))])
		}
	}
	return w, w.finish()
}

// finish lets everything come to rest, has one relay write what is missing and mark the ends, and looks.
func (w *world) finish() error {
	for len(w.flying) > 0 {
		w.arrive()
	}
	for _, r := range w.readers { // they notice that they are behind the end before more comes
		w.follow(r)
	}
	last := w.started
	for attempt := 0; ; attempt++ {
		if attempt == 100 {
			return errors.New("no relay came to the end")
		}
		if w.finalRelay() {
			break
		}
	}
	w.note("relay %d to %d end it", last, w.started-1)
	for _, r := range w.readers {
		for r.next < len(w.logs[r.p]) {
			w.follow(r)
		}
		late := &reader{p: r.p} // one that comes when all is over
		for late.next < len(w.logs[r.p]) {
			w.follow(late)
		}
		want := w.events(r.p, 0)
		for name, r := range map[string]*reader{"follower": r, "late reader": late} {
			if !slices.Equal(r.applied, want) {
				return fmt.Errorf("%v: the %s applied %d, want %d", r.p, name, r.applied, want)
			}
		}
		if w.lost == 0 && !w.faults.reorder && !w.faults.drop {
			if r.holes+late.holes > 0 {
				return fmt.Errorf("%v: %d holes in a log of which nothing was lost", r.p, r.holes+late.holes)
			}
			if err := errors.Join(w.early(r.p, want), w.follows(r.p, want)); err != nil {
				return err
			}
			if first, complete := w.firsts(r.p); !complete {
				return fmt.Errorf("%v: first occurrences are %d, want %d", r.p, first, want)
			}
		}
		if early := w.early(r.p, want); (late.holes > 0) != (early != nil) {
			return fmt.Errorf("%v: a reader saw %d holes in a log in which this is wrong: %w", r.p, late.holes, early)
		}
	}
	return nil
}

// finalRelay runs a relay to the end of the store, with markers in every partition; false when it died on the way.
func (w *world) finalRelay() bool {
	f := w.faults
	w.faults.reorder, w.faults.drop = false, false
	defer func() { w.faults = f }()
	r := w.start()
	for len(r.order) > 0 {
		w.step(r)
	}
	settle := func() {
		for len(w.flying) > 0 {
			w.arrive()
		}
		for r.await != nil && !r.dead {
			w.answered(r)
		}
	}
	for !r.dead && len(w.store) > 0 && r.c.at.Position < w.store[len(w.store)-1].Position {
		w.read(r)
		settle()
	}
	if r.dead {
		return false
	}
	batch := map[partition][]entry{}
	for p, m := range r.c.markers(func(partition, end) bool { return true }) {
		batch[p] = []entry{markerEntry(m)}
	}
	w.send(r, batch)
	settle()
	return !r.dead
}

// firsts are the first occurrences of a partition's log, by nothing but the positions; complete says that none is
// missing and that they ascend.
func (w *world) firsts(p partition) (first []uint64, complete bool) {
	seen := map[uint64]bool{}
	for _, e := range w.logs[p] {
		if e.marker == nil && !seen[e.pos] {
			seen[e.pos] = true
			first = append(first, e.pos)
		}
	}
	return first, slices.Equal(first, w.events(p, 0))
}

// early finds a record that came before one that it should come after. It looks at positions alone: what prev says is
// what is tested.
func (w *world) early(p partition, want []uint64) error {
	there := map[uint64]bool{}
	for i, e := range w.logs[p] {
		for _, pos := range want {
			if (pos < e.pos || e.marker != nil && pos == e.pos) && !there[pos] {
				return fmt.Errorf("%v: offset %d speaks of %d, and %d is not before it", p, i, e.pos, pos)
			}
		}
		if e.marker == nil {
			there[e.pos] = true
		}
	}
	return nil
}

// follows looks whether each record names the partition's event before it.
func (w *world) follows(p partition, want []uint64) error {
	for i, e := range w.logs[p] {
		var before uint64
		for _, pos := range want {
			if pos < e.pos || e.marker != nil && pos == e.pos {
				before = pos
			}
		}
		if e.prev != before {
			return fmt.Errorf("%v: offset %d (position %d) names %d as the event before it, want %d", p, i, e.pos, e.prev, before)
		}
	}
	return nil
}

// schedules is how many seeds a test plays: SALON_MODEL_SCHEDULES, or its own number.
func schedules(t *testing.T, n int) (from uint64, count int) {
	from = 1
	if s := os.Getenv("SALON_MODEL_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return seed, 1
	}
	if s := os.Getenv("SALON_MODEL_SCHEDULES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
		from = rand.Uint64() //nolint:gosec // a test's dice
	}
	return from, n
}

func TestNoScheduleLosesDoublesOrSwaps(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]faults{
		"crashes and zombies":                   {},
		"crashes, zombies and lost tails":       {tailLoss: true},
		"a producer that reorders":              {reorder: true},
		"a producer that leaves records out":    {drop: true},
		"a producer that does both, lost tails": {tailLoss: true, reorder: true, drop: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, n := schedules(t, 2000)
			records, lost, holes, relays := 0, 0, 0, 0
			for seed := from; seed < from+uint64(n); seed++ { //nolint:gosec // a count
				w, err := play(seed, f)
				if err != nil {
					t.Fatalf("SALON_MODEL_SEED=%d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
				}
				for _, r := range w.readers {
					records += len(w.logs[r.p])
					holes += r.holes
				}
				lost += w.lost
				relays += w.started
			}
			t.Logf("%d schedules from seed %d: %d relays wrote %d records, brokers lost their tails %d times, readers saw %d holes; 0 wrong outcomes",
				n, from, relays, records, lost, holes)
		})
	}
}

// The model is worth something only if it sees what it is for.
func TestTheModelSeesWhatIsPlanted(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]faults{
		"going on from the largest position":             {fromLargest: true},
		"a marker before the acknowledgements":           {markerBeforeAcks: true},
		"going on after an error":                        {goOnAfterError: true},
		"taking a marker for the partition's last event": {forgetPrevOfMarkers: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 2000; seed++ {
				if _, err := play(seed, f); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("2,000 schedules came out right")
		})
	}
}
