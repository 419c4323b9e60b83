package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

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
	Filling   bool      // of a view: nothing is answered from it until it has the rows of the tables behind
}

// PartitionOf is the partition of an ordering key in a topic of n partitions.
func PartitionOf(key string, n int) int32 { return eventstore.Partition(key, n) }

const placeColumns = "projection, topic, part, updated_at, " + offsetColumns

// Places reads where every partition of every projection stands: one small table, whole, for those who watch it.
func Places(ctx context.Context, q reads.Queryer) ([]Place, error) {
	return places(ctx, q, "")
}

// PlacesOf reads where the partitions of these projections (Projection.ID) stand.
func PlacesOf(ctx context.Context, q reads.Queryer, projections []string) ([]Place, error) {
	if len(projections) == 0 {
		return nil, nil
	}
	args := make([]any, len(projections))
	for i, p := range projections {
		args[i] = p
	}
	return places(ctx, q, " WHERE projection IN ("+list("?", len(args))+")", args...)
}

// PlaceOf reads where one partition stands; found is false before it was claimed for the first time.
func PlaceOf(ctx context.Context, q reads.Queryer, projection, topic string, part int32) (p Place, found bool, err error) {
	all, err := places(ctx, q, " WHERE projection = ? AND topic = ? AND part = ?", projection, topic, part)
	if err != nil || len(all) == 0 {
		return Place{}, false, err
	}
	return all[0], true, nil
}

func places(ctx context.Context, q reads.Queryer, where string, args ...any) ([]Place, error) {
	rows, err := q.QueryContext(ctx, "SELECT "+placeColumns+" FROM projection_offsets"+where, args...)
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

// ViewPlace reads where one partition of a Redis projection stands; found is false before it was claimed for the first
// time, or when Redis forgot. When it was written, Redis does not tell.
func ViewPlace(ctx context.Context, client redis.UniversalClient, p Projection, topic string, part int32) (out Place, found bool, err error) {
	if client == nil {
		return out, false, errNoViews
	}
	fields, err := client.HMGet(ctx, redisKeys{p, topic, part}.offset(), "epoch", "claim", "seq", "next_offset", "last_pos", "last_recorded_at", "incarnation", "filling", "lost").Result()
	if err != nil {
		return out, false, fmt.Errorf("read the offset of %s, %s/%d: %w", p.ID(), topic, part, err)
	}
	if fields[0] == nil {
		return out, false, nil
	}
	out.Projection, out.Topic, out.Part = p.ID(), topic, part
	out.Claim, _ = fields[1].(string)
	out.Incarnation, _ = fields[6].(string)
	out.Filling = fields[7] != nil || fields[8] != nil
	var n [7]int64
	for _, i := range []int{0, 2, 3, 4, 5} {
		text, _ := fields[i].(string)
		if n[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return out, false, fmt.Errorf("read the offset of %s, %s/%d: %w", p.ID(), topic, part, err)
		}
	}
	out.Epoch, out.Seq, out.NextOffset, out.LastPos = n[0], n[2], n[3], uint64(n[4]) //nolint:gosec // positions stay below 2^63
	if n[5] != 0 {
		out.LastRecordedAt = time.UnixMicro(n[5]).UTC()
	}
	return out, true, nil
}
