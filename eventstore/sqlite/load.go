package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

var _ eventstore.Loader = (*Store)(nil)

// Load implements eventstore.Loader, in one transaction.
func (s *Store) Load(ctx context.Context, from eventstore.Loaded) (err error) {
	if s.readOnly {
		return errReadOnly
	}
	w := s.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	tx, err := w.db.BeginTx(context.WithoutCancel(ctx), nil) // the driver starts a goroutine a statement to watch one that can end
	if err != nil {
		return fmt.Errorf("%w: load: %w", eventstore.ErrUnavailable, err)
	}
	defer tx.Rollback() // does nothing after a commit
	l := &load{ctx: ctx, tx: tx}
	if err := l.all(from); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return errors.Join(fmt.Errorf("%w: load: %w", eventstore.ErrUnavailable, err), w.resume(context.WithoutCancel(ctx)))
	}
	return w.resume(context.WithoutCancel(ctx))
}

// Loadable implements eventstore.Loader.
func (s *Store) Loadable(ctx context.Context) error { return empty(ctx, s.read) }

func empty(ctx context.Context, of interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) error {
	var full bool
	err := of.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM commands) OR EXISTS (SELECT 1 FROM seals)").Scan(&full)
	switch {
	case err != nil:
		return fmt.Errorf("%w: load: %w", eventstore.ErrUnavailable, err)
	case full:
		return eventstore.ErrNotEmpty
	}
	return nil
}

type load struct {
	ctx context.Context
	tx  *sql.Tx
}

func (l *load) all(from eventstore.Loaded) error {
	if err := empty(l.ctx, l.tx); err != nil {
		return err
	}
	var position, at, n int64
	var times eventstore.Backwards
	renumbered := false
	err := insertAll(l, insertEvent, from.Events, func(r eventstore.Recorded) []any {
		position++
		times.Next(r.RecordedAt)
		renumbered = renumbered || r.Position != uint64(position) //nolint:gosec // never negative
		at = max(at, r.RecordedAt.UnixMicro())
		return []any{position, r.Stream, int64(r.Revision), r.ID[:], r.Type, r.Key, eventstore.Slice(r.Key), r.RecordedAt.UnixMicro(), notNil(r.Metadata), notNil(r.Data), r.Hash[:]}
	})
	if err != nil {
		return err
	}
	if back := times.Most(); back > 0 {
		if _, err := l.tx.ExecContext(l.ctx, "INSERT INTO loaded_times (back) VALUES (?)", back); err != nil {
			return fmt.Errorf("%w: load: %w", eventstore.ErrUnavailable, err)
		}
	}
	var silent [][]any
	err = insertAll(l, "INSERT INTO commands (command_id, request_hash, actor, stream, last_revision, position, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?)", from.Commands,
		func(c eventstore.Accepted) []any {
			if c.Silent > 0 {
				n++
				silent = append(silent, []any{n, append([]byte{}, c.ID[:]...)})
			}
			return []any{c.ID[:], notNil(c.RequestHash), c.Actor, c.Stream, int64(c.LastRevision), int64(c.Position), c.RecordedAt.UnixMicro()} //nolint:gosec // it was an INTEGER
		})
	if err != nil {
		return err
	}
	err = insertAll(l, "INSERT INTO silent_commands (n, command_id) VALUES (?, ?)", func(yield func([]any, error) bool) {
		for _, row := range silent {
			if !yield(row, nil) {
				return
			}
		}
	}, func(row []any) []any { return row })
	if err != nil {
		return err
	}
	if renumbered {
		const renumber = "UPDATE commands SET position = coalesce((SELECT e.position FROM events e WHERE e.stream = commands.stream AND e.revision = commands.last_revision), 0)"
		if _, err := l.tx.ExecContext(l.ctx, renumber); err != nil {
			return fmt.Errorf("%w: load: %w", eventstore.ErrUnavailable, err)
		}
	}
	err = insertAll(l, "INSERT INTO seals ("+sealColumns+") VALUES (?, ?, ?, ?, ?)", from.Seals, func(s eventstore.Seal) []any {
		return []any{s.Block, s.Through, s.SilentThrough, s.Note, notNil(s.Outline)}
	})
	if err != nil {
		return err
	}
	if _, err := l.tx.ExecContext(l.ctx, "UPDATE store_head SET position = ?, recorded_at = ? WHERE id = 1", position, max(at, time.Unix(0, 0).UnixMicro())); err != nil {
		return fmt.Errorf("%w: load: %w", eventstore.ErrUnavailable, err)
	}
	return nil
}

// insertAll runs a statement for each that is yielded. The source's own errors stay what they are.
func insertAll[T any](l *load, query string, all iter.Seq2[T, error], row func(T) []any) error {
	insert, err := l.tx.PrepareContext(l.ctx, query) //nolint:sqlclosecheck // it is closed below: a loop over a function hides that
	if err != nil {
		return fmt.Errorf("%w: load: %w", eventstore.ErrUnavailable, err)
	}
	defer insert.Close()
	for v, err := range all {
		if err == nil {
			err = l.ctx.Err()
		}
		if err != nil {
			return err
		}
		if _, err := insert.ExecContext(context.WithoutCancel(l.ctx), row(v)...); err != nil {
			return fmt.Errorf("%w: load: %w", eventstore.ErrUnavailable, err)
		}
	}
	return nil
}
