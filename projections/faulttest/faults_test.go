package faulttest

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// plan is how many faults a test is to see, and where it keeps the count.
type plan struct {
	faults int
	file   string // keeps the count
	only   string // kinds whose name has this
}

func planned(t *testing.T) plan {
	t.Helper()
	p := plan{faults: 30, only: os.Getenv("SALON_TEST_FAULTS_ONLY"), file: filepath.Join(t.TempDir(), "faults.jsonl")}
	if v := os.Getenv("SALON_TEST_FAULTS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("SALON_TEST_FAULTS=%q is not a number of faults", v)
		}
		p.faults = n
		if p.only == "" && n > 60 {
			p.file = filepath.Join("..", "..", ".run", "faults.jsonl")
		}
	}
	return p
}

// TestFaults hurts a system in every way that it knows, and then systems that lack a protection: the oracle must stay
// green with the one, and become red with each of the others.
func TestFaults(t *testing.T) {
	harness.NeedsServers(t)
	s := newServers(t)
	t.Run("nothing is lost, doubled or swapped", func(t *testing.T) { endures(t, s, planned(t)) })
	for _, b := range breaks() {
		t.Run("the oracle is red without "+b.name, func(t *testing.T) { seesBroken(t, s, brokenBinary(t, b.changes), b.faults) })
	}
}

// endures takes SALON_TEST_FAULTS faults (30: about one of each kind), up to five at once, and compares every row after
// each round. More than 60 are counted over several runs, each as long as -timeout lets it.
func endures(t *testing.T, s *servers, p plan) {
	seed := rand.Uint64()
	if v := os.Getenv("SALON_TEST_FAULTS_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	var counted tally
	defer func() { t.Logf("seeds %d\n%s", counted.seeds, counted.table()) }()

	dice := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's dice
	t.Logf("seed %d", seed)
	w := newWorld(t, s, "")
	began := time.Now()
	for !t.Failed() {
		if err := counted.load(p.file); err != nil { // another run may add to it at the same time
			t.Fatal(err)
		}
		if counted.count() >= p.faults {
			return
		}
		if deadline, ok := t.Deadline(); ok && time.Until(deadline) < 4*time.Minute {
			t.Logf("no more time in this run: %d of %d faults; run it again to go on", counted.count(), p.faults)
			return
		}
		round := choose(dice, &counted, p)
		if round[0].alone && w.oracle.events() > 20_000 || w.oracle.events() > 1_000_000 {
			w.end()
			w = newWorld(t, s, "")
		}
		o, compared := w.round(round, dice)
		if !compared {
			return
		}
		o.Seed = seed
		if err := o.save(p.file); err != nil {
			t.Fatal(err)
		}
		if round[0].ends && !t.Failed() {
			w.end()
			w = newWorld(t, s, "")
		}
		t.Logf("%6.1f s: %d faults, the last %s", time.Since(began).Seconds(), counted.count()+len(round), strings.Join(o.Kinds, ", "))
	}
}

// choose takes one to three kinds that can be at once: those seen least, by the dice among equals.
func choose(dice *rand.Rand, counted *tally, p plan) []kind {
	all := slices.DeleteFunc(kinds(), func(k kind) bool { return !strings.Contains(k.name, p.only) })
	dice.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b kind) int { return cmp.Compare(counted.of(a.name).count, counted.of(b.name).count) })
	most := min(1+dice.IntN(5), p.faults-counted.count())
	var round []kind
	taken := map[string]int{}
	for _, k := range all {
		if len(round) == most {
			break
		}
		if !free(taken, k.needs) || k.alone && len(round) > 0 {
			continue
		}
		if k.alone {
			return []kind{k}
		}
		for _, n := range k.needs {
			taken[n]++
		}
		round = append(round, k)
	}
	return round
}

// free tells whether what a fault needs is nobody else's. Two faults may have a projector each.
func free(taken map[string]int, needs []string) bool {
	for _, n := range needs {
		switch {
		case n == oneProjector && taken[n] < 2 && taken["projectors"] == 0:
		case n == oneProjector, taken[n] > 0, n == "projectors" && taken[oneProjector] > 0:
			return false
		}
	}
	return true
}

// round injects the faults at once, waits until the system is well again, and compares.
func (w *world) round(kinds []kind, dice *rand.Rand) (o outcome, compared bool) {
	w.t.Helper()
	clear(w.taken)
	o = outcome{Kinds: make([]string, len(kinds)), Recovery: make([]int64, len(kinds))}
	var all sync.WaitGroup
	for i, k := range kinds {
		o.Kinds[i] = k.name
		f := &fault{w: w, t: w.t, dice: rand.New(rand.NewPCG(dice.Uint64(), uint64(i)))} //nolint:gosec // a test's dice
		all.Go(func() {
			k.hurt(f)
			if !k.ends {
				o.Recovery[i] = w.recovered(k.name).Milliseconds()
			}
		})
	}
	all.Wait()
	if w.t.Failed() {
		w.t.Logf("in the round of %s", strings.Join(o.Kinds, ", "))
		return o, false
	}
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	found, err := w.oracle.compare(ctx)
	if err != nil {
		w.t.Errorf("compare: %v", err)
		return o, false
	}
	o.Lost, o.Doubled, o.Swapped = found.Lost, found.Doubled, found.Swapped
	if found.sum() > 0 {
		w.t.Errorf("after %s: %d lost, %d doubled, %d swapped\n%s", strings.Join(o.Kinds, ", "), found.Lost, found.Doubled, found.Swapped, strings.Join(found.Says, "\n"))
	}
	return o, true
}
