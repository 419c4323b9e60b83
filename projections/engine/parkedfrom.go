package engine

import (
	"context"
	"fmt"

	"github.com/dangdangsalon/salon/projections/reads"
)

// ParkedFrom is where one key of one projection stopped.
type ParkedFrom struct {
	Projection string // Projection.ID
	Topic      string
	Key        string // ordering key
	FromPos    uint64 // of the first event that is not applied
}

// ParkedAmong reads which keys of SQL projections (Projection.ID) are parked, of all keys or, when some are named, of
// those. It is asked with every read: one look into the primary key of a table that is nearly always empty.
func ParkedAmong(ctx context.Context, q reads.Queryer, projections, keys []string) ([]ParkedFrom, error) {
	if len(projections) == 0 {
		return nil, nil
	}
	query := "SELECT projection, topic, ordering_key, from_pos FROM projection_parked WHERE projection IN (" + list("?", len(projections)) + ")"
	args := make([]any, 0, len(projections)+len(keys))
	for _, p := range projections {
		args = append(args, p)
	}
	if len(keys) > 0 {
		query += " AND ordering_key IN (" + list("?", len(keys)) + ")"
		for _, k := range keys {
			args = append(args, k)
		}
	}
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read parked keys: %w", err)
	}
	defer rows.Close()
	var out []ParkedFrom
	for rows.Next() {
		var p ParkedFrom
		if err := rows.Scan(&p.Projection, &p.Topic, &p.Key, &p.FromPos); err != nil {
			return nil, fmt.Errorf("read parked keys: %w", err)
		}
		out = append(out, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read parked keys: %w", err)
	}
	return out, nil
}

// ActiveVersions is ActiveVersion of several projections in one query; those without a pointer are left out.
func ActiveVersions(ctx context.Context, q reads.Queryer, projections []string) (map[string]int, error) {
	args := make([]any, len(projections))
	for i, p := range projections {
		args[i] = p
	}
	return activeVersions(ctx, q, " WHERE projection IN ("+list("?", len(args))+")", args...)
}

// AllActiveVersions is ActiveVersion of all projections that have a pointer.
func AllActiveVersions(ctx context.Context, q reads.Queryer) (map[string]int, error) {
	return activeVersions(ctx, q, "")
}

func activeVersions(ctx context.Context, q reads.Queryer, where string, args ...any) (map[string]int, error) {
	rows, err := q.QueryContext(ctx, "SELECT projection, version FROM projection_pointers"+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read pointers: %w", err)
	}
	defer rows.Close()
	out := map[string]int{}
	for rows.Next() {
		var name string
		var version int
		if err := rows.Scan(&name, &version); err != nil {
			return nil, fmt.Errorf("read pointers: %w", err)
		}
		out[name] = version
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read pointers: %w", err)
	}
	return out, nil
}
