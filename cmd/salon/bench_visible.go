package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// visibility knows when each accepted command was in the rows: every projection tells each batch that it committed.
type visibility struct {
	partitions int

	mu      sync.Mutex
	marks   []placedMark
	highest map[partition]uint64
	commits map[string]map[partition][]batchCommit
	ways    map[string][]engine.Way // of batches, by projection
	relayed []time.Duration         // of the relay's batches
}

type partition struct {
	topic string
	part  int32
}

// placedMark is an accepted command: where it stands and when its caller knew.
type placedMark struct {
	partition
	pos uint64
	at  time.Time
}

// batchCommit is a committed batch: how far it came, and when.
type batchCommit struct {
	through uint64
	at      time.Time
}

// accepted notes a command that was answered.
func (v *visibility) accepted(m mark, at time.Time) {
	p := partition{m.topic, eventstore.Partition(m.key, v.partitions)}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.highest == nil {
		v.highest = map[partition]uint64{}
	}
	v.marks = append(v.marks, placedMark{p, m.pos, at})
	v.highest[p] = max(v.highest[p], m.pos)
}

// note is what the runners call.
func (v *visibility) note(a engine.Applied) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.commits == nil {
		v.commits = map[string]map[partition][]batchCommit{}
	}
	if v.commits[a.Projection] == nil {
		v.commits[a.Projection] = map[partition][]batchCommit{}
	}
	p := partition{a.Topic, a.Part}
	v.commits[a.Projection][p] = append(v.commits[a.Projection][p], batchCommit{a.Position, now})
	if !a.Way.Recorded.IsZero() {
		if v.ways == nil {
			v.ways = map[string][]engine.Way{}
		}
		v.ways[a.Projection] = append(v.ways[a.Projection], a.Way)
	}
}

// noteRelayed is what the relay calls.
func (v *visibility) noteRelayed(_ int, took time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.relayed = append(v.relayed, took)
}

// stages is how long each stage took of each batch's first event, into one target.
func (v *visibility) stages(target engine.Target) (took [len(engine.Stages)][]time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range allProjections() {
		if p.Target != target {
			continue
		}
		for _, w := range v.ways[p.ID()] {
			for i, d := range w.Took() {
				took[i] = append(took[i], d)
			}
		}
	}
	return took
}

// reset forgets the commands so far, and the batches' ways.
func (v *visibility) reset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.marks, v.ways, v.relayed = nil, nil, nil
}

// drained waits until every projection has all that was accepted, and tells how long that took.
func (v *visibility) drained(ctx context.Context, n *node) (time.Duration, error) {
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for !v.all(n) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-deadline:
			return 0, errors.New("the projections have not caught up after two minutes: salon doctor tells why")
		}
	}
	return time.Since(began), nil
}

func (v *visibility) all(n *node) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range n.runners {
		if !slices.ContainsFunc(allProjections(), func(p engine.Projection) bool { return p.ID() == r.Projection.ID() }) {
			continue // an earlier version: a new system has none
		}
		for p, pos := range v.highest {
			if !slices.Contains(r.Projection.Topics, p.topic) {
				continue
			}
			done := v.commits[r.Projection.ID()][p]
			if len(done) == 0 || done[len(done)-1].through < pos {
				return false
			}
		}
	}
	return true
}

// took is, for each accepted command, how long until the last projection of its topic and target had committed it.
// A commit may come before the answer reaches the caller: that counts as 0.
func (v *visibility) took(target engine.Target) []time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []time.Duration
	for _, m := range v.marks {
		var last time.Duration
		for _, p := range allProjections() {
			if p.Target != target || !slices.Contains(p.Topics, m.topic) {
				continue
			}
			commits := v.commits[p.ID()][m.partition]
			i, _ := slices.BinarySearchFunc(commits, m.pos, func(c batchCommit, pos uint64) int {
				if c.through < pos {
					return -1
				}
				return 1
			})
			if i < len(commits) {
				last = max(last, commits[i].at.Sub(m.at))
			}
		}
		out = append(out, last)
	}
	return out
}

// quantile sorts a copy; q within 0 to 1.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// lines is what a process printed, for another goroutine to search.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.b.Bytes(), []byte(text))
}
