package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// The inboxes do not know of an event.
var (
	ErrBehind = errors.New("the inboxes have not come to the event yet")
	ErrParked = errors.New("the inboxes have parked the event's key")
)

// News are the events that somebody may be told of.
func News() []domain.Event {
	return []domain.Event{
		groomer.Requested{}, groomer.Confirmed{}, groomer.Rescheduled{}, groomer.Reminded{}, groomer.Declined{}, groomer.Expired{},
		groomer.Cancelled{}, chat.MessagePosted{},
	}
}

// Place is where an event stands.
type Place struct {
	Topic, Key         string
	Revision, Position uint64
}

// Told is what an event put into inboxes and is still news: a message that was read, or that a newer one followed, is
// not. It fails with ErrBehind or ErrParked while that cannot be said.
func Told(ctx context.Context, db *reads.DB, e Place) (rows []Row, err error) {
	err = db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		p := Projection()
		version, found, err := engine.ActiveVersion(ctx, q, p.Name)
		if err != nil || !found {
			return errors.Join(err, ErrBehind)
		}
		p.Version = version
		partitions, err := engine.Partitions(ctx, q, e.Topic)
		if err != nil || partitions == 0 {
			return errors.Join(err, ErrBehind)
		}
		part := engine.PartitionOf(e.Key, partitions)
		var parked int
		err = q.QueryRowContext(ctx, "SELECT COUNT(*) FROM projection_parked WHERE projection = ? AND topic = ? AND part = ? AND ordering_key = ? AND from_pos <= ?",
			p.ID(), e.Topic, part, e.Key, int64(e.Position)).Scan(&parked) //nolint:gosec // positions stay below 2^63
		if err != nil {
			return fmt.Errorf("read parked keys: %w", err)
		}
		if parked > 0 {
			return ErrParked
		}
		at, _, err := engine.Offset(ctx, q, p.ID(), e.Topic, part)
		if err != nil {
			return err
		}
		if at.LastPos < e.Position {
			return ErrBehind
		}
		item := e.Key // a room
		if e.Topic == wire.BookingTopic {
			item = Item(e.Key, e.Revision)
		}
		rows, err = engine.Query(ctx, q, Table, version, "WHERE item = ? AND position = ? AND seen = 0 ORDER BY receiver", item, int64(e.Position)) //nolint:gosec // as above
		return err
	})
	return rows, err
}
