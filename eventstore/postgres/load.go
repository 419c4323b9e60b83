package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/dangdangsalon/salon/eventstore"
)

var _ eventstore.Loader = (*Store)(nil)

// Load implements eventstore.Loader, in one transaction under the lock of the appends.
func (s *Store) Load(ctx context.Context, from eventstore.Loaded) error {
	// The source's own errors stay what they are.
	var source error
	err := pgx.BeginFunc(ctx, s.read, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; "+
			"SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on; SET LOCAL enable_bitmapscan = on"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
			return err
		}
		if err := empty(ctx, tx); err != nil {
			if errors.Is(err, eventstore.ErrNotEmpty) {
				source = err
			}
			return err
		}
		if err := load(ctx, tx, from, &source); err != nil {
			return err
		}
		// What the server would do in time by itself; without statistics its first plans are bad ones.
		_, err := tx.Exec(ctx, "ANALYZE events, commands")
		return err
	})
	switch {
	case source != nil:
		return source
	case err != nil:
		return unavailable("load", err)
	}
	return nil
}

// Loadable implements eventstore.Loader.
func (s *Store) Loadable(ctx context.Context) error {
	err := empty(ctx, s.read)
	if err == nil || errors.Is(err, eventstore.ErrNotEmpty) {
		return err
	}
	return unavailable("look whether the store is empty", err)
}

func empty(ctx context.Context, of interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) error {
	var full bool
	err := of.QueryRow(ctx, "SELECT EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM commands) OR EXISTS (SELECT FROM seals)").Scan(&full)
	if err == nil && full {
		err = eventstore.ErrNotEmpty
	}
	return err
}

func load(ctx context.Context, tx pgx.Tx, from eventstore.Loaded, source *error) error {
	var position int64
	var times eventstore.Backwards
	renumbered := false
	err := copyIn(ctx, tx, source, "events", []string{"position", "stream", "revision", "id", "type", "key", "slice", "recorded_at", "metadata", "data", "hash"},
		from.Events, func(r eventstore.Recorded) []any {
			position++
			times.Next(r.RecordedAt)
			renumbered = renumbered || r.Position != uint64(position)                                                                                                                       //nolint:gosec // never negative
			return []any{position, r.Stream, int64(r.Revision), [16]byte(r.ID), r.Type, r.Key, int16(eventstore.Slice(r.Key)), r.RecordedAt, notNil(r.Metadata), notNil(r.Data), r.Hash[:]} //nolint:gosec // below 1,024
		})
	if err != nil {
		return err
	}
	if back := times.Most(); back > 0 {
		if _, err := tx.Exec(ctx, "INSERT INTO loaded_times (back) VALUES ($1)", back); err != nil {
			return err
		}
	}
	var silent []eventstore.Accepted
	err = copyIn(ctx, tx, source, "commands", []string{"command_id", "request_hash", "actor", "stream", "last_revision", "position", "recorded_at"},
		from.Commands, func(c eventstore.Accepted) []any {
			if c.Silent > 0 {
				silent = append(silent, eventstore.Accepted{Command: eventstore.Command{ID: c.ID}})
			}
			return []any{[16]byte(c.ID), notNil(c.RequestHash), c.Actor, c.Stream, int64(c.LastRevision), int64(c.Position), c.RecordedAt} //nolint:gosec // it was a bigint
		})
	if err != nil {
		return err
	}
	if renumbered {
		if _, err := tx.Exec(ctx, "UPDATE commands c SET position = e.position FROM events e WHERE e.stream = c.stream AND e.revision = c.last_revision"); err != nil {
			return err
		}
	}
	var n int64
	err = copyIn(ctx, tx, source, "silent_commands", []string{"n", "command_id"}, infallible(silent), func(c eventstore.Accepted) []any {
		n++
		return []any{n, [16]byte(c.ID)}
	})
	if err != nil {
		return err
	}
	return copyIn(ctx, tx, source, "seals", []string{"block", "through", "silent_through", "note", "outline"}, from.Seals, func(l eventstore.Seal) []any {
		return []any{int64(l.Block), int64(l.Through), int64(l.SilentThrough), l.Note, notNil(l.Outline)} //nolint:gosec // far below
	})
}

func infallible[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// copyIn copies what is yielded into a table.
func copyIn[T any](ctx context.Context, tx pgx.Tx, source *error, table string, columns []string, all iter.Seq2[T, error], row func(T) []any) error {
	next, stop := iter.Pull2(all)
	defer stop()
	_, err := tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		v, err, more := next()
		if err != nil {
			*source = err
			return nil, err
		}
		if !more {
			return nil, nil
		}
		return row(v), nil
	}))
	if err != nil && *source == nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("copy into %s: %w", table, err)
	}
	return err
}
