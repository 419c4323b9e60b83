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
	back, err := s.LoadedBack(ctx)
	if err != nil {
		return eventstore.Place{}, err
	}
	p, err := eventstore.SearchPlace(min(position, math.MaxInt64), at.Add(back), func(position uint64) (p eventstore.Place, err error) {
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
	if err != nil || back == 0 || p.Position == 0 {
		return p, err
	}
	// Behind it everything is later. In front of it the last one stands that is not, among those of a moment.
	var recorded int64
	const query = "SELECT position, recorded_at FROM events WHERE position <= ? AND recorded_at <= ? ORDER BY position DESC LIMIT 1"
	switch err := s.read.QueryRowContext(ctx, query, int64(p.Position), at.UnixMicro()).Scan(&p.Position, &recorded); { //nolint:gosec // cut above
	case errors.Is(err, sql.ErrNoRows):
		return eventstore.Place{}, nil
	case err != nil:
		return eventstore.Place{}, fmt.Errorf("%w: find a moment: %w", eventstore.ErrUnavailable, err)
	}
	p.At = time.UnixMicro(recorded).UTC()
	return p, nil
}

// LoadedBack answers eventstore.LoadedBack.
func (s *Store) LoadedBack(ctx context.Context) (time.Duration, error) {
	var micros int64
	if err := s.read.QueryRowContext(ctx, "SELECT coalesce(max(back), 0) FROM loaded_times").Scan(&micros); err != nil {
		return 0, fmt.Errorf("%w: look how far times go back: %w", eventstore.ErrUnavailable, err)
	}
	return time.Duration(micros) * time.Microsecond, nil
}
