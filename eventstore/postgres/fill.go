package postgres

import (
	"context"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/dangdangsalon/salon/eventstore"
)

// Fill copies events into the empty store of a scratch database, numbered from 1, for `salon bench rebuild`: nobody else may
// use it, and no command is remembered. What the server would do in time by itself, statistics and the marks of vacuum, is done
// at once.
func Fill(ctx context.Context, rawURL string, events iter.Seq[eventstore.Recorded]) error {
	conn, err := pgx.Connect(ctx, rawURL)
	if err != nil {
		return unavailable("connect", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	next, stop := iter.Pull(events)
	defer stop()
	var position int64
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"events"},
		[]string{"position", "stream", "revision", "id", "type", "key", "slice", "recorded_at", "metadata", "data", "hash"},
		pgx.CopyFromFunc(func() ([]any, error) {
			r, more := next()
			if !more {
				return nil, nil
			}
			position++
			hash := eventstore.ContentHash(r)
			return []any{position, r.Stream, int64(r.Revision), [16]byte(r.ID), r.Type, r.Key, int16(eventstore.Slice(r.Key)), r.RecordedAt, r.Metadata, r.Data, hash[:]}, nil //nolint:gosec // below 1,024
		}))
	if err == nil {
		_, err = conn.Exec(ctx, "VACUUM ANALYZE events")
	}
	if err != nil {
		return unavailable("copy events", err)
	}
	return nil
}
