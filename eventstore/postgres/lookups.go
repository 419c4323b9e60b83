package postgres

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/dangdangsalon/salon/eventstore"
)

// LookupsThrough implements eventstore.Lookups.
func (s *Store) LookupsThrough(ctx context.Context) (position uint64, err error) {
	err = s.read.QueryRow(ctx, "SELECT position FROM event_lookups_through WHERE id = 1").Scan(&position)
	if err != nil {
		return 0, unavailable("read where the lookups end", err)
	}
	return position, nil
}

// AddLookups implements eventstore.Lookups. One statement: the rows are there when the position has moved. It does not wait for the
// disk, which appends wait for: what a crash takes back is added again.
func (s *Store) AddLookups(ctx context.Context, after, through uint64, add []eventstore.Lookup) (moved bool, err error) {
	values, positions := make([]int64, len(add)), make([]int64, len(add))
	for i, l := range add {
		values[i], positions[i] = l.Value, int64(l.Position) //nolint:gosec // it was a bigint
	}
	err = s.read.QueryRow(ctx, "WITH moved AS (UPDATE event_lookups_through SET position = $2 WHERE id = 1 AND position = $1 RETURNING id), "+
		"added AS (INSERT INTO event_lookups (value, position) SELECT l.value, l.position FROM moved, unnest($3::bigint[], $4::bigint[]) AS l (value, position) "+
		"ON CONFLICT DO NOTHING) SELECT EXISTS (SELECT FROM moved), set_config('synchronous_commit', 'off', true)", after, through, values, positions).Scan(&moved, nil)
	if err != nil {
		return false, unavailable("add lookups", err)
	}
	return moved, nil
}

// Lookup implements eventstore.Lookups.
func (s *Store) Lookup(ctx context.Context, value int64, after uint64, limit int) ([]uint64, error) {
	rows, err := s.read.Query(ctx, "SELECT position FROM event_lookups WHERE value = $1 AND position > $2 ORDER BY position LIMIT $3",
		value, min(after, math.MaxInt64), limit)
	if err != nil {
		return nil, unavailable("look events up", err)
	}
	positions, err := pgx.CollectRows(rows, pgx.RowTo[uint64])
	if err != nil {
		return nil, unavailable("look events up", err)
	}
	return positions, nil
}

// EventsAt implements eventstore.Lookups. They are sorted here: for their order the planner, who may not sort, would walk
// through the whole table.
func (s *Store) EventsAt(ctx context.Context, positions []uint64) (out []eventstore.Recorded, err error) {
	missing := make([]int64, len(positions))
	for i, p := range positions {
		missing[i] = int64(min(p, math.MaxInt64)) //nolint:gosec // cut
	}
	for more := true; more && len(missing) > 0; {
		var page []eventstore.Recorded
		if page, more, err = s.page(ctx, pageSize, "SELECT "+columns+" FROM events WHERE position = ANY($1) LIMIT $2", missing, pageSize); err != nil {
			return nil, err
		}
		out = append(out, page...)
		missing = slices.DeleteFunc(missing, func(p int64) bool {
			return slices.ContainsFunc(page, func(r eventstore.Recorded) bool { return r.Position == uint64(p) }) //nolint:gosec // not negative
		})
	}
	slices.SortFunc(out, func(a, b eventstore.Recorded) int { return cmp.Compare(a.Position, b.Position) })
	return out, nil
}
