package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/dangdangsalon/salon/eventstore"
)

// ErrDamaged says that the file's events are not those that were stored. Nothing is appended to such a file: restore it.
var ErrDamaged = errors.New("the event store is damaged")

// tailLength is how many of the last events each start looks at: what a crash, a copy made while the store ran or a
// hand could have harmed most likely, at the price of a millisecond.
const tailLength = 256

// checkTail holds the last events to the head and to their hashes.
func (s *Store) checkTail(ctx context.Context, head eventstore.Head) error {
	last := max(head.Position, tailLength) - tailLength
	revisions := map[string]eventstore.Revision{}
	for r, err := range s.ReadAll(ctx, last) {
		switch {
		case err != nil:
			return err
		case r.Position != last+1:
			return fmt.Errorf("%w: position %d is followed by %d", ErrDamaged, last, r.Position)
		case revisions[r.Stream] > r.Revision:
			return fmt.Errorf("%w: position %d is revision %d of its stream, after a later one", ErrDamaged, r.Position, r.Revision)
		case r.Hash != eventstore.ContentHash(r):
			return fmt.Errorf("%w: position %d is not what was stored", ErrDamaged, r.Position)
		case r.RecordedAt.After(head.RecordedAt):
			return fmt.Errorf("%w: position %d was recorded after the head, %v", ErrDamaged, r.Position, head.RecordedAt)
		}
		last = r.Position
		revisions[r.Stream] = r.Revision + 1
	}
	if last != head.Position {
		return fmt.Errorf("%w: the last position is %d, the head says %d", ErrDamaged, last, head.Position)
	}
	return nil
}
