package faulttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tally is what all runs so far have counted.
type tally struct {
	seeds []uint64
	kinds map[string]*kindTally
}

type kindTally struct {
	count                  int
	lost, doubled, swapped int64
	recovery               []int64 // ms
}

// outcome is one round of faults, all at once: a line of the file that keeps what a thousand faults have shown, over
// several runs, some of them at the same time.
type outcome struct {
	Seed     uint64   `json:"seed"` // of the run
	Kinds    []string `json:"kinds"`
	Recovery []int64  `json:"recovery_ms"` // of each kind
	Lost     int64    `json:"lost"`
	Doubled  int64    `json:"doubled"`
	Swapped  int64    `json:"swapped"`
}

func (a *tally) of(kind string) *kindTally {
	if a.kinds == nil {
		a.kinds = map[string]*kindTally{}
	}
	if a.kinds[kind] == nil {
		a.kinds[kind] = &kindTally{}
	}
	return a.kinds[kind]
}

func (a *tally) count() (n int) {
	for _, k := range a.kinds {
		n += k.count
	}
	return n
}

// add counts a round. What was found wrong after it is each of its faults'.
func (a *tally) add(o outcome) {
	if !slices.Contains(a.seeds, o.Seed) {
		a.seeds = append(a.seeds, o.Seed)
	}
	for i, name := range o.Kinds {
		k := a.of(name)
		k.count++
		k.recovery = append(k.recovery, o.Recovery[i])
		k.lost, k.doubled, k.swapped = k.lost+o.Lost, k.doubled+o.Doubled, k.swapped+o.Swapped
	}
}

// load counts what the file has. There is no file before the first run.
func (a *tally) load(file string) error {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	*a = tally{}
	for line := range bytes.Lines(b) {
		var o outcome
		if err := json.Unmarshal(line, &o); err != nil || len(o.Recovery) != len(o.Kinds) {
			return fmt.Errorf("%s has a line that is no round: %q, %w", file, line, err)
		}
		a.add(o)
	}
	return nil
}

// save adds a line to the file, by one write: a run that is killed leaves the whole line, or none.
func (o outcome) save(file string) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Close())
}

// table shows everything, for people.
func (a *tally) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-42s %6s %6s %8s %8s %14s %14s\n", "fault", "count", "lost", "doubled", "swapped", "recovery p50", "recovery p99")
	line := func(name string, k kindTally) {
		fmt.Fprintf(&b, "%-42s %6d %6d %8d %8d %12.1f s %12.1f s\n", name, k.count, k.lost, k.doubled, k.swapped, quantile(k.recovery, 50), quantile(k.recovery, 99))
	}
	var all kindTally
	for _, k := range kinds() {
		t := a.of(k.name)
		line(k.name, *t)
		all.count += t.count
		all.lost, all.doubled, all.swapped = max(all.lost, t.lost), max(all.doubled, t.doubled), max(all.swapped, t.swapped)
		all.recovery = append(all.recovery, t.recovery...)
	}
	line("all", all)
	return b.String()
}

func quantile(ms []int64, percent int) float64 {
	if len(ms) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(ms))
	return float64(sorted[min(len(sorted)-1, len(sorted)*percent/100)]) / 1000
}

func TestATallyIsKeptBetweenRuns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "run", "faults.jsonl")
	err := errors.Join(
		outcome{Seed: 1, Kinds: []string{"broker killed", "Redis killed"}, Recovery: []int64{4000, 1000}, Lost: 2}.save(file),
		outcome{Seed: 2, Kinds: []string{"broker killed"}, Recovery: []int64{6000}}.save(file))
	if err != nil {
		t.Fatal(err)
	}
	var all tally
	if err := all.load(file); err != nil {
		t.Fatal(err)
	}
	if k := all.of("broker killed"); all.count() != 3 || k.lost != 2 || quantile(k.recovery, 99) != 6 || !slices.Equal(all.seeds, []uint64{1, 2}) {
		t.Errorf("got %+v, seeds %d", k, all.seeds)
	}
	if err := all.load(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("no earlier run: %v", err)
	}
}
