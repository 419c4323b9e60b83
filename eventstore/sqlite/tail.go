package sqlite

import (
	"context"
	"fmt"

	"github.com/dangdangsalon/salon/eventstore"
)

// tailLength is how many of the last events each start looks at: what a crash, a copy made while the store ran or a
// hand could have harmed most likely, at the price of a millisecond. `salon doctor --full` looks at all.
const tailLength = 256

// checkTail holds the last events to the head and to their hashes.
func (s *Store) checkTail(ctx context.Context, head eventstore.Head) error {
	after := max(head.Position, tailLength) - tailLength
	back, err := s.LoadedBack(ctx)
	if err != nil {
		return err
	}
	check := eventstore.Check{Dense: true, Back: back, Whole: after == 0}
	for r, err := range s.ReadAll(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		if check.Events() == 0 && r.Position != after+1 {
			return fmt.Errorf("%w: position %d is followed by %d", eventstore.ErrDamaged, after, r.Position)
		}
		if err := check.Next(r); err != nil {
			return err
		}
		if r.RecordedAt.After(head.RecordedAt) {
			return fmt.Errorf("%w: position %d was recorded after the head, %v", eventstore.ErrDamaged, r.Position, head.RecordedAt)
		}
	}
	if check.Last() != head.Position {
		return fmt.Errorf("%w: the last position is %d, the head says %d", eventstore.ErrDamaged, check.Last(), head.Position)
	}
	return nil
}
