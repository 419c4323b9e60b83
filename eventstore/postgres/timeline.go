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
	back, err := s.LoadedBack(ctx)
	if err != nil {
		return eventstore.Place{}, err
	}
	p, err := eventstore.SearchPlace(min(position, math.MaxInt64), at.Add(back), func(position uint64) (p eventstore.Place, err error) {
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
	if err != nil || back == 0 || p.Position == 0 {
		return p, err
	}
	// Behind it everything is later. In front of it the last one stands that is not, among those of a moment.
	const query = "SELECT position, recorded_at FROM events WHERE position <= $1 AND recorded_at <= $2 ORDER BY position DESC LIMIT 1"
	switch err := s.read.QueryRow(ctx, query, p.Position, at).Scan(&p.Position, &p.At); {
	case errors.Is(err, pgx.ErrNoRows):
		return eventstore.Place{}, nil
	case err != nil:
		return eventstore.Place{}, unavailable("find a moment", err)
	}
	p.At = p.At.UTC()
	return p, nil
}

// LoadedBack answers eventstore.LoadedBack.
func (s *Store) LoadedBack(ctx context.Context) (time.Duration, error) {
	var micros int64
	if err := s.read.QueryRow(ctx, "SELECT coalesce(max(back), 0) FROM loaded_times").Scan(&micros); err != nil {
		return 0, unavailable("look how far times go back", err)
	}
	return time.Duration(micros) * time.Microsecond, nil
}
