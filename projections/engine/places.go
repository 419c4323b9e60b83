package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Place is where one partition of one projection stands.
type Place struct {
	Projection string // Projection.ID
	Topic      string
	Part       int32
	Progress
	UpdatedAt time.Time // when Progress was last written
}

// PartitionOf is the partition of an ordering key in a topic of n partitions.
func PartitionOf(key string, n int) int32 { return eventstore.Partition(key, n) }

// Places reads where every partition of every projection stands: one small table, whole, for those who watch it.
func Places(ctx context.Context, q reads.Queryer) ([]Place, error) {
	rows, err := q.QueryContext(ctx, "SELECT projection, topic, part, updated_at, "+offsetColumns+" FROM projection_offsets")
	if err != nil {
		return nil, fmt.Errorf("read offsets: %w", err)
	}
	defer rows.Close()
	var out []Place
	for rows.Next() {
		var p Place
		var updated int64
		p.Progress, err = scanProgress(func(dest ...any) error {
			return rows.Scan(append([]any{&p.Projection, &p.Topic, &p.Part, &updated}, dest...)...)
		})
		if err != nil {
			return nil, fmt.Errorf("read offsets: %w", err)
		}
		if updated != 0 {
			p.UpdatedAt = time.UnixMicro(updated).UTC()
		}
		out = append(out, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read offsets: %w", err)
	}
	return out, nil
}
