package postgres

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dangdangsalon/salon/eventstore"
)

// LastPlace implements eventstore.Timeline.
func (s *Store) LastPlace(ctx context.Context, position uint64, at time.Time) (eventstore.Place, error) {
	return eventstore.SearchPlace(min(position, math.MaxInt64), at, func(position uint64) (p eventstore.Place, err error) {
		err = s.read.QueryRow(ctx, "SELECT position, recorded_at FROM events WHERE position <= $1 ORDER BY position DESC LIMIT 1", position).
			Scan(&p.Position, &p.At)
		if errors.Is(err, pgx.ErrNoRows) {
			return p, nil
		}
		if err != nil {
			return p, unavailable("find a moment", err)
		}
		p.At = p.At.UTC()
		return p, nil
	})
}
