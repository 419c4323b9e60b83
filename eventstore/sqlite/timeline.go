package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// LastPlace implements eventstore.Timeline.
func (s *Store) LastPlace(ctx context.Context, position uint64, at time.Time) (eventstore.Place, error) {
	return eventstore.SearchPlace(min(position, math.MaxInt64), at, func(position uint64) (p eventstore.Place, err error) {
		var recorded int64
		err = s.read.QueryRowContext(ctx, "SELECT position, recorded_at FROM events WHERE position <= ? ORDER BY position DESC LIMIT 1", int64(position)). //nolint:gosec // cut
																					Scan(&p.Position, &recorded)
		if errors.Is(err, sql.ErrNoRows) {
			return p, nil
		}
		if err != nil {
			return p, fmt.Errorf("%w: find a moment: %w", eventstore.ErrUnavailable, err)
		}
		p.At = time.UnixMicro(recorded).UTC()
		return p, nil
	})
}
