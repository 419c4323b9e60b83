package rebuild

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// fresh holds a live version to a fold of the store, while both go on: the rows are those of one snapshot, and each key is
// folded up to where its partition stands there. So it finds what a comparison of two versions cannot: what both have wrong.
//
// Memory is bounded by the rows of as many slices as have MostRows in the tables, at least one: the whole is folded in such
// portions.
func (k *work) fresh(ctx context.Context, p engine.Projection) error {
	report := &Report{Seed: k.run.Options.Seed}
	err := k.lease.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		s, err := k.side(ctx, q, p, report)
		if err != nil {
			return err
		}
		for at := range s.parked {
			report.Parked = append(report.Parked, at.key)
		}
		slices.Sort(report.Parked)
		report.Parked = slices.Compact(report.Parked)
		if k.run.Options.Sample > 0 {
			return s.sample(ctx, k.run.Options.Sample)
		}
		return s.whole(ctx)
	})
	if err != nil {
		return err
	}
	return k.finish(ctx, report.told, nil)
}

// tally is how many rows a table has of each slice: with it, rows of keys that the store does not know are found, without
// all the others in memory.
type tally [eventstore.Slices]int64

func (s *side) tally(ctx context.Context, d *engine.Def) (*tally, error) {
	out, name := &tally{}, d.Name(s.p.Version)
	rows, err := s.q.QueryContext(ctx, "SELECT ordering_key, COUNT(*) FROM "+name+" GROUP BY ordering_key")
	if err != nil {
		return nil, fmt.Errorf("count the rows of %s: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var n int64
		if err := rows.Scan(&key, &n); err != nil {
			return nil, fmt.Errorf("count the rows of %s: %w", name, err)
		}
		out[eventstore.Slice(key)] += n
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count the rows of %s: %w", name, err)
	}
	return out, nil
}

// whole holds every row.
func (s *side) whole(ctx context.Context) error {
	tallies := map[*engine.Def]*tally{}
	var rows tally
	for _, t := range s.p.Tables {
		one, err := s.tally(ctx, t.Def())
		if err != nil {
			return err
		}
		tallies[t.Def()] = one
		for i, n := range one {
			rows[i] += n
		}
	}
	s.work.at(Comparing, eventstore.Slices)
	for r := eventstore.OneSlice(0); r.From < eventstore.Slices; r = eventstore.OneSlice(r.To) {
		for n := rows[r.From]; r.To < eventstore.Slices && n+rows[r.To] <= int64(s.mostRows()); r.To++ {
			n += rows[r.To]
		}
		u, known := engine.NewUnit(), map[string]bool{}
		if err := s.foldSlices(ctx, r, u, known, nil); err != nil {
			return err
		}
		keys := slices.Sorted(maps.Keys(known))
		for d, t := range tallies {
			found, err := s.hold(ctx, d, u, keys)
			if err != nil {
				return err
			}
			there := int64(0)
			for _, n := range t[r.From:r.To] {
				there += n
			}
			if there > found {
				if err := s.strangers(ctx, d, r, known, there-found); err != nil {
					return err
				}
			}
			s.report.Rows += there
		}
		s.report.Refolded += len(keys)
		s.say(func(run *Run) { run.Done, run.Rows = int64(r.To), s.report.Rows })
	}
	return nil
}

const stayAwake = 10 * time.Second

// foldSlices folds the events of slices that the version has, of all keys or of some, and notes the keys.
func (s *side) foldSlices(ctx context.Context, r eventstore.SliceRange, u *engine.Unit, known, only map[string]bool) error {
	events, said := int64(0), time.Now()
	for e, err := range s.Store.ReadAll(ctx, 0, eventstore.Filter{Slices: r}) {
		if err != nil {
			return fmt.Errorf("read slices %d to %d: %w", r.From, r.To-1, err)
		}
		if e.Position > s.through() {
			break
		}
		if time.Since(said) > stayAwake { // the server ends a snapshot that says nothing for a minute
			said = time.Now()
			if err := s.q.QueryRowContext(ctx, "SELECT 1").Scan(new(int)); err != nil {
				return fmt.Errorf("keep the snapshot: %w", err)
			}
		}
		if !s.has(e) || only != nil && !only[e.Key] {
			continue
		}
		known[e.Key] = true
		events++
		if u == nil {
			continue
		}
		if err := s.fold(u, e); err != nil {
			return err
		}
	}
	s.say(func(r *Run) { r.Events += events })
	return nil
}

// strangers tells of n rows whose keys the store does not have.
func (s *side) strangers(ctx context.Context, d *engine.Def, r eventstore.SliceRange, known map[string]bool, n int64) error {
	listed := s.report.Differ
	if s.report.more() {
		keys, err := s.unknown(ctx, d, r, known)
		if err != nil {
			return err
		}
		if _, err := s.hold(ctx, d, engine.NewUnit(), keys); err != nil {
			return err
		}
	}
	s.report.Differ = max(s.report.Differ, listed+n)
	return nil
}

// unknown lists the first keys of some slices that a table has and the store has not.
func (s *side) unknown(ctx context.Context, d *engine.Def, r eventstore.SliceRange, known map[string]bool) (keys []string, err error) {
	rows, err := s.q.QueryContext(ctx, "SELECT DISTINCT ordering_key FROM "+d.Name(s.p.Version))
	if err != nil {
		return nil, fmt.Errorf("list the keys of %s: %w", d.Name(s.p.Version), err)
	}
	defer rows.Close()
	for rows.Next() && len(keys) < mostListed {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, fmt.Errorf("list the keys of %s: %w", d.Name(s.p.Version), err)
		}
		if r.Has(eventstore.Slice(key)) && !known[key] {
			keys = append(keys, key)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the keys of %s: %w", d.Name(s.p.Version), err)
	}
	return keys, nil
}

// sample holds the rows of n keys of the store: whole slices in a random order, of the last one as many keys as are left. A
// key's slice is a hash of it. Rows of keys that the store does not have are for the whole to find.
func (s *side) sample(ctx context.Context, n int) error {
	s.work.at(Comparing, int64(n))
	random := rand.New(rand.NewPCG(uint64(s.report.Seed), 0)) //nolint:gosec // the same seed draws the same keys
	for _, slice := range random.Perm(eventstore.Slices) {
		if n == 0 {
			break
		}
		known := map[string]bool{}
		if err := s.foldSlices(ctx, eventstore.OneSlice(slice), nil, known, nil); err != nil {
			return err
		}
		keys := slices.Sorted(maps.Keys(known))
		random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		keys = keys[:min(n, len(keys))]
		n -= len(keys)
		u, drawn := engine.NewUnit(), map[string]bool{}
		for _, key := range keys {
			drawn[key] = true
		}
		if err := s.foldSlices(ctx, eventstore.OneSlice(slice), u, known, drawn); err != nil {
			return err
		}
		for _, t := range s.p.Tables {
			rows, err := s.hold(ctx, t.Def(), u, keys)
			if err != nil {
				return err
			}
			s.report.Rows += rows
		}
		s.report.Refolded += len(keys)
		s.say(func(r *Run) { r.Done, r.Rows = int64(s.report.Refolded), s.report.Rows })
	}
	return nil
}
