package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dangdangsalon/salon/eventstore"
)

// LookupsThrough implements eventstore.Lookups.
func (s *Store) LookupsThrough(ctx context.Context) (position uint64, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT position FROM event_lookups_through WHERE id = 1").Scan(&position)
	if err != nil {
		return 0, fmt.Errorf("%w: read where the lookups end: %w", eventstore.ErrUnavailable, err)
	}
	return position, nil
}

// AddLookups implements eventstore.Lookups. Appends wait meanwhile, so what is added at once should be little.
func (s *Store) AddLookups(ctx context.Context, after, through uint64, add []eventstore.Lookup) (moved bool, err error) {
	tx, err := s.writer.db.BeginTx(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("%w: add lookups: %w", eventstore.ErrUnavailable, err)
	}
	moved, err = addLookups(ctx, tx, after, through, add)
	if err == nil && moved {
		err = tx.Commit()
	} else {
		err = errors.Join(err, tx.Rollback())
	}
	if err != nil {
		return false, fmt.Errorf("%w: add lookups: %w", eventstore.ErrUnavailable, err)
	}
	return moved, nil
}

// lookupsAtOnce is how many one statement adds.
const lookupsAtOnce = 128

func addLookups(ctx context.Context, tx *sql.Tx, after, through uint64, add []eventstore.Lookup) (moved bool, err error) {
	done, err := tx.ExecContext(ctx, "UPDATE event_lookups_through SET position = ? WHERE id = 1 AND position = ?", int64(through), int64(after)) //nolint:gosec // they were INTEGERs
	if err != nil {
		return false, err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	for some := range slices.Chunk(add, lookupsAtOnce) {
		args := make([]any, 0, 2*len(some))
		for _, l := range some {
			args = append(args, l.Value, int64(l.Position)) //nolint:gosec // it was an INTEGER
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO event_lookups (value, position) VALUES (?, ?)"+strings.Repeat(", (?, ?)", len(some)-1)+
			" ON CONFLICT DO NOTHING", args...)
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// Lookup implements eventstore.Lookups.
func (s *Store) Lookup(ctx context.Context, value int64, after uint64, limit int) ([]uint64, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT position FROM event_lookups WHERE value = ? AND position > ? ORDER BY position LIMIT ?",
		value, int64(min(after, math.MaxInt64)), limit) //nolint:gosec // cut
	if err != nil {
		return nil, fmt.Errorf("%w: look events up: %w", eventstore.ErrUnavailable, err)
	}
	defer rows.Close()
	var positions []uint64
	for rows.Next() {
		var p uint64
		if err := rows.Scan(&p); err != nil {
			return nil, fmt.Errorf("%w: look events up: %w", eventstore.ErrUnavailable, err)
		}
		positions = append(positions, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%w: look events up: %w", eventstore.ErrUnavailable, err)
	}
	return positions, nil
}

// EventsAt implements eventstore.Lookups.
func (s *Store) EventsAt(ctx context.Context, positions []uint64) (out []eventstore.Recorded, err error) {
	positions = slices.Sorted(slices.Values(positions))
	for some := range slices.Chunk(positions, lookupsAtOnce) {
		args := make([]any, len(some), len(some)+2)
		for i, p := range some {
			args[i] = int64(min(p, math.MaxInt64)) //nolint:gosec // cut
		}
		after := int64(-1)
		for more := true; more; {
			var page []eventstore.Recorded
			page, more, err = s.page(ctx, pageSize, "SELECT "+columns+" FROM events WHERE position IN (?"+strings.Repeat(", ?", len(some)-1)+
				") AND position > ? ORDER BY position LIMIT ?", append(slices.Clone(args), after, pageSize)...)
			if err != nil {
				return nil, err
			}
			if out = append(out, page...); more {
				after = int64(page[len(page)-1].Position) //nolint:gosec // it was an INTEGER
			}
		}
	}
	return out, nil
}
