package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// An event of a history that fails by itself parks its key, as a live one does (G6). What is known of it then is known
// before the histories are folded again, so that its key's rows are the fold of exactly what comes before it:
//
//	a Filling fails by poison ──▶ Park finds the event ──▶ the same histories again, without what follows for the key ──▶ Commit,
//	                                                                                               with the parked key's row

// parkedAt is where a key waits: in each topic for itself.
type parkedAt struct{ topic, key string }

// culprit is an error with the event that gives it.
type culprit struct {
	error
	at        parkedAt
	pos       uint64
	after     uint64 // a position of the store before it
	eventType string
}

func (c *culprit) Unwrap() error { return c.error }

// suspects is an error of the database about some of a unit's rows, which come of events after through and up to last.
type suspects struct {
	error
	unit          *Unit
	through, last uint64
}

func (s *suspects) Unwrap() error { return s.error }

// blame names the event that a fold came to, if its error is poison. Deferred.
func (f *Filling) blame(err *error, at *int) {
	if *at >= len(f.pending) || !poison(*err) {
		return
	}
	e, after := f.pending[*at], f.after
	if *at > 0 {
		after = f.pending[*at-1].Position
	}
	*err = &culprit{*err, parkedAt{wire.TopicOf(e.Stream), e.Key}, e.Position, after, e.Event.EventType()}
}

// suspect keeps the rows that were to be written, if one of them is refused. Deferred.
func (f *Filling) suspect(err *error) {
	if poison(*err) {
		*err = &suspects{*err, f.unit, f.through, f.last}
	}
}

// waits tells whether an event is left to the store, since its key is parked.
func (f *Filling) waits(r eventstore.Recorded) bool {
	if len(f.parked) == 0 {
		return false
	}
	p, found := f.parked[parkedAt{wire.TopicOf(r.Stream), r.Key}]
	if !found || r.Position < p.FromPos {
		return false
	}
	if r.Position == p.FromPos {
		f.met = append(f.met, p)
	}
	return true
}

// park writes down the keys that were met.
func (f *Filling) park(ctx context.Context, tx *transaction) error {
	for _, p := range f.met {
		if err := (&parkChange{now: &p}).write(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// Park finds the event by which a Filling failed, and has its key wait from there on in those that are begun from now on: the
// same histories may be folded again. again is false for an error of another kind, which is answered as it came, and when so
// many keys are parked that they are hardly at fault themselves. partitions are those of each topic.
func (b *Bulk) Park(ctx context.Context, store Source, partitions map[string]int, failed error) (p Parked, again bool, err error) {
	if !poison(failed) {
		return p, false, failed
	}
	c, err := b.find(ctx, store, failed)
	if err != nil {
		return p, false, err
	}
	p = Parked{
		Projection: b.t.p.ID(), Topic: c.at.topic, Part: PartitionOf(c.at.key, partitions[c.at.topic]), Key: c.at.key,
		FromPos: c.pos, AfterPos: c.after, EventType: c.eventType, Attempts: 1, ParkedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
	p.Cause, p.Detail = describe(p.EventType, c.error)
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.parked); n >= parkAtMost {
		return p, false, &recordError{fmt.Errorf("%d keys of %s have events that fail: that many are hardly at fault themselves; mend the release. The next is %q at position %d: %s",
			n, p.Projection, p.Key, p.FromPos, p.Cause)}
	}
	parked := maps.Clone(b.parked) // those at work have the one before
	parked[c.at] = p
	b.parked = parked
	return p, true, nil
}

// find finds the event.
func (b *Bulk) find(ctx context.Context, store Source, failed error) (*culprit, error) {
	var c *culprit
	var s *suspects
	switch {
	case errors.As(failed, &c):
		return c, nil
	case !errors.As(failed, &s):
		return nil, failed
	}
	// The database refuses a row: half of the keys, and half of that.
	of := map[string]bool{}
	for _, id := range s.unit.changed {
		of[s.unit.rows[id].ordering] = true
	}
	keys := slices.Sorted(maps.Keys(of))
	for len(keys) > 1 {
		half := keys[:len(keys)/2]
		refused, err := b.refuses(ctx, s, func(f *Filling) error {
			f.unit = s.unit.only(func(ordering string) bool { _, found := slices.BinarySearch(half, ordering); return found })
			return nil
		})
		if err != nil {
			return nil, err
		}
		if keys = keys[len(half):]; refused != nil {
			keys = half
		}
	}
	if len(keys) == 0 {
		return nil, failed
	}
	return b.event(ctx, store, s, keys[0])
}

// event finds the first of a key's events whose rows are refused where those before it are not.
func (b *Bulk) event(ctx context.Context, store Source, s *suspects, key string) (*culprit, error) {
	var of []eventstore.Recorded // without their bodies
	through := func(last uint64, do func(eventstore.Recorded) error) error {
		for e, err := range store.ReadAll(ctx, s.through, eventstore.Filter{Key: key}) {
			if err != nil {
				return fmt.Errorf("read the events of %q: %w", key, err)
			}
			if e.Position > last {
				break
			}
			if err := do(e); err != nil {
				return err
			}
		}
		return nil
	}
	err := through(s.last, func(e eventstore.Recorded) error {
		e.Data, e.Metadata = nil, nil
		of = append(of, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	failed := error(s)
	passes, fails := 0, len(of)+1
	for fails-passes > 1 {
		n := min((passes+fails)/2, len(of))
		refused, err := b.refuses(ctx, s, func(f *Filling) error {
			if err := through(of[n-1].Position, func(e eventstore.Recorded) error { return f.Add(ctx, e) }); err != nil {
				return err
			}
			return f.fold(ctx)
		})
		if err != nil {
			return nil, err
		}
		if refused != nil {
			fails, failed = n, refused
		} else {
			passes = n
		}
	}
	if fails > len(of) {
		return nil, failed // not this key by itself
	}
	e, after := of[fails-1], s.through
	if fails > 1 {
		after = of[fails-2].Position
	}
	return &culprit{failed, parkedAt{wire.TopicOf(e.Stream), e.Key}, e.Position, after, e.Type}, nil
}

// refuses tells whether, and why, the database takes no rows of a Filling that goes on where the suspects' one did, without
// keeping them.
func (b *Bulk) refuses(ctx context.Context, s *suspects, fill func(*Filling) error) (refused, err error) {
	f := b.New(s.through)
	if err = fill(f); err == nil {
		err = f.transact(ctx, func(tx *transaction) error { _, err := f.write(ctx, tx); return err })
	}
	if poison(err) {
		return err, nil
	}
	return nil, err
}

// only is the part of a unit that belongs to some ordering keys.
func (u *Unit) only(ordering func(key string) bool) *Unit {
	out := NewUnit()
	for id, s := range u.rows {
		if ordering(s.ordering) {
			out.rows[id] = s
		}
	}
	for _, id := range u.changed {
		if out.rows[id] != nil {
			out.changed = append(out.changed, id)
		}
	}
	return out
}
