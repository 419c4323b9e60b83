package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// RestoredError says that the store does not have an event that was relayed from it.
type RestoredError struct {
	Topic    string // "" when the event was read and is not one that is relayed
	Part     int32
	Position uint64
	Stream   string
	Revision eventstore.Revision
	ID       uuid.UUID
}

func (e *RestoredError) Error() string {
	where := fmt.Sprintf("%s/%d has", e.Topic, e.Part)
	if e.Topic == "" {
		where = "the relay has read"
	}
	return fmt.Sprintf("the store was restored behind Kafka: %s event %s (position %d, %s@%d), and the store does not have it there; "+
		"nothing is relayed until the topics are made anew and the projections rebuilt", where, e.ID, e.Position, e.Stream, e.Revision)
}

// ErrIncarnation says that the store began another incarnation under the relay: a promotion, or a restore. The next
// start compares the log with the store and goes on under the new one.
var ErrIncarnation = errors.New("the store has begun another incarnation")

// verify compares the log's ends with the store: each event that they name must be there, at its position.
func (r *Relay) verify(ctx context.Context, ends map[partition]end) error {
	parts := slices.SortedFunc(maps.Keys(ends), func(a, b partition) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.part, b.part))
	})
	seen := map[wire.Place]bool{{}: true} // markers of one time name one event
	for _, p := range parts {
		for _, place := range []wire.Place{ends[p].event, ends[p].at} {
			if seen[place] {
				continue
			}
			seen[place] = true
			if ok, err := r.has(ctx, place); err != nil {
				return err
			} else if !ok {
				return restored(p, place)
			}
		}
	}
	return nil
}

// has looks one event up.
func (r *Relay) has(ctx context.Context, p wire.Place) (bool, error) {
	for found, err := range r.Store.ReadStream(ctx, p.Stream, p.Revision) {
		if err != nil {
			return false, fmt.Errorf("relay: read revision %d of %s: %w", p.Revision, p.Stream, err)
		}
		return wire.PlaceOf(found) == p, nil
	}
	return false, nil
}

func restored(p partition, place wire.Place) error {
	return &RestoredError{Topic: p.topic, Part: p.part, Position: place.Position, Stream: place.Stream, Revision: place.Revision, ID: place.ID}
}

// missing is the error when the store does not have the last event that was read.
func (t *term) missing() error { return restored(t.chain.of, t.chain.at) }

// sameStore is asked after events were read and before they are written: of what was read before the store became
// another one, nothing is mixed with what was read after.
func (t *term) sameStore(ctx context.Context) error {
	head, err := t.r.Store.Head(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("relay: head of the store: %w", err)
	case head.Incarnation != t.chain.incarnation:
		return fmt.Errorf("%w: %s after %s", ErrIncarnation, head.Incarnation, t.chain.incarnation)
	case head.Position < t.chain.at.Position:
		return t.missing()
	}
	return nil
}
