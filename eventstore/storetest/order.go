package storetest

import (
	"fmt"
	"iter"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// order holds the whole store, read in order, to what is true of every store.
type order struct {
	dense    bool
	byStream bool // time ascends within streams alone
	position uint64
	at       map[string]time.Time // of the last event: of all, or of a stream
	last     map[string]eventstore.Revision
}

func (o *order) add(r eventstore.Recorded) error {
	if o.last == nil {
		o.last, o.at = map[string]eventstore.Revision{}, map[string]time.Time{}
	}
	before, ok := o.last[r.Stream]
	if !ok {
		before = eventstore.NoStream
	}
	clock := ""
	if o.byStream {
		clock = r.Stream
	}
	switch {
	case r.Position <= o.position || o.dense && r.Position != o.position+1:
		return fmt.Errorf("position %d is followed by %d", o.position, r.Position)
	case r.Revision != before+1:
		return fmt.Errorf("revision %d of %s comes after %d", r.Revision, r.Stream, before)
	case r.RecordedAt.Before(o.at[clock]):
		return fmt.Errorf("position %d was recorded at %v, one before it at %v", r.Position, r.RecordedAt, o.at[clock])
	case r.Hash != eventstore.ContentHash(r):
		return fmt.Errorf("the hash of position %d is not that of its content", r.Position)
	}
	o.position, o.at[clock], o.last[r.Stream] = r.Position, r.RecordedAt, r.Revision
	return nil
}

// watch passes events on until one is not as it has to be.
func (o *order) watch(events iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range events {
			if err == nil {
				err = o.add(r)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// ordered is order of what was read already.
func (k *kit) ordered(all []eventstore.Recorded) error {
	o := order{dense: k.Dense, byStream: k.TimeByStream}
	for _, r := range all {
		if err := o.add(r); err != nil {
			return err
		}
	}
	return nil
}
