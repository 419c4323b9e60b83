package rebuild

import (
	"context"
	"fmt"
	"slices"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// side is a version in a snapshot: its rows are to be the fold of exactly the events that it has there.
type side struct {
	*work
	q          reads.Queryer
	p          engine.Projection
	decode     engine.Decoder
	at         map[Partition]uint64 // position through which a partition is complete
	partitions map[string]int       // of each topic
	parked     map[parkedKey]uint64 // position from which on a key waits
	report     *Report
}

type parkedKey struct{ topic, key string }

func (k *work) side(ctx context.Context, q reads.Queryer, p engine.Projection, report *Report) (*side, error) {
	s := &side{
		work: k, q: q, p: p, decode: engine.NewDecoder(k.Codec, p), report: report,
		at: map[Partition]uint64{}, partitions: map[string]int{}, parked: map[parkedKey]uint64{},
	}
	places, err := engine.PlacesOf(ctx, q, []string{p.ID()})
	if err != nil {
		return nil, err
	}
	for _, at := range places {
		s.at[Partition{at.Topic, at.Part}] = at.LastPos
	}
	for _, topic := range p.Topics {
		if s.partitions[topic], err = engine.Partitions(ctx, q, topic); err != nil {
			return nil, err
		}
	}
	waiting, err := engine.ParkedAmong(ctx, q, []string{p.ID()}, nil)
	if err != nil {
		return nil, err
	}
	for _, w := range waiting {
		s.parked[parkedKey{w.Topic, w.Key}] = w.FromPos
	}
	return s, nil
}

// has tells whether the version has applied an event.
func (s *side) has(e eventstore.Recorded) bool {
	topic := wire.TopicOf(e.Stream)
	n := s.partitions[topic]
	if n == 0 {
		return false
	}
	if from, waits := s.parked[parkedKey{topic, e.Key}]; waits && e.Position >= from {
		return false
	}
	return e.Position <= s.at[Partition{topic, engine.PartitionOf(e.Key, n)}]
}

// through is the position after which the version has nothing.
func (s *side) through() (last uint64) {
	for _, at := range s.at {
		last = max(last, at)
	}
	return last
}

func (s *side) fold(u *engine.Unit, e eventstore.Recorded) error { return u.Step(s.decode, s.p, e) }

// holdKey holds the rows of one key to the fold of the store.
func (s *side) holdKey(ctx context.Context, key string) error {
	u := engine.NewUnit()
	for e, err := range s.Store.ReadAll(ctx, 0, eventstore.Filter{Key: key}) {
		if err != nil {
			return fmt.Errorf("read the events of %q: %w", key, err)
		}
		if s.has(e) {
			if err := s.fold(u, e); err != nil {
				return err
			}
		}
	}
	for _, t := range s.p.Tables {
		if _, err := s.hold(ctx, t.Def(), u, []string{key}); err != nil {
			return err
		}
	}
	return nil
}

// keysAtOnce is of how many keys the rows are read together.
const keysAtOnce = 100

// hold compares the rows that a table has of some keys with those that a unit has, which are of these keys alone.
func (s *side) hold(ctx context.Context, d *engine.Def, u *engine.Unit, keys []string) (rows int64, err error) {
	r := s.ranges(d)
	want, err := r.rowsOf(u)
	if err != nil {
		return 0, err
	}
	got := map[string]row{}
	for some := range slices.Chunk(keys, keysAtOnce) {
		part, err := r.readKeys(ctx, s.q, s.p.Version, some)
		if err != nil {
			return 0, err
		}
		for n, one := range part {
			got[n] = one
		}
	}
	for _, n := range namesOf(want, got) {
		x, wanted := want[n]
		y, found := got[n]
		one := Unlike{Table: d.Base, Row: n, Key: x.ordering}
		switch {
		case !found:
			one.Why = fmt.Sprintf("version %d does not have it, and the fold of the store does", s.p.Version)
		case !wanted:
			one.Key, one.Why = y.ordering, fmt.Sprintf("version %d has it, and the fold of the store does not", s.p.Version)
			x.parts = y.parts
		default:
			if one.Columns = r.unlike(x, y); len(one.Columns) == 0 {
				continue
			}
			one.Why = fmt.Sprintf("in version %d it is not the fold of the store", s.p.Version)
		}
		if s.report.more() {
			if one.Event, err = s.changed(ctx, r, x.parts, one.Key); err != nil {
				return 0, err
			}
		}
		s.report.differ(one)
	}
	return int64(len(got)), nil
}

func (s *side) ranges(d *engine.Def) *ranges {
	return newRanges(s.lease.db.Dialect(), d, d.At(s.p.Version).Columns)
}

// changed finds the last event that changed a row in the fold of the store; nil when none has.
func (s *side) changed(ctx context.Context, r *ranges, parts []any, key string) (last *EventRef, err error) {
	u, ref := engine.NewUnit(), r.d.Ref(parts...)
	var before []string
	for e, err := range s.Store.ReadAll(ctx, 0, eventstore.Filter{Key: key}) {
		if err != nil {
			return nil, fmt.Errorf("read the events of %q: %w", key, err)
		}
		if !s.has(e) {
			continue
		}
		if err := s.fold(u, e); err != nil {
			return nil, err
		}
		now, err := r.texts(u.Row(ref))
		if err != nil {
			return nil, err
		}
		if !slices.Equal(before, now) {
			before, last = now, refTo(e)
		}
	}
	return last, nil
}
