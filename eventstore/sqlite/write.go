package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// writer is the one connection that writes. The lane's flusher uses it, and Load.
//
// Where an append's time goes (pprof, 32 callers, about 42 µs of processor time each): two fifths write pages to the
// log, since each append touches a page of its own in every index whose keys come in no order (commands, streams,
// slices); a third runs statements, database/sql's part in it a tenth of the whole; a sixth is the flush. So what is
// worth saving is an index or a statement a row, and callers who share a flush. Without events_slice it would be 37 µs,
// and each rebuild would have to read everything.
type writer struct {
	db       *sql.DB
	signal   *eventstore.Signal
	onCommit func(group int, took time.Duration)

	statements

	mu   sync.Mutex
	head uint64
	at   time.Time
	last map[string]place // of streams written lately: this process is the only writer, so it knows
}

type statements struct {
	insertEvent, insertCommand, insertSilent, moveHead, selectLast, selectDone *sql.Stmt
}

// place is where a stream ends.
type place struct {
	revision eventstore.Revision
	position uint64
}

// mostPlaces bounds writer.last, about 10 MiB; beyond it a stream's end is looked up by its index.
const mostPlaces = 100_000

const insertEvent = "INSERT INTO events (position, stream, revision, id, type, key, slice, recorded_at, metadata, data, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

func (w *writer) prepare(ctx context.Context) error {
	var errs []error
	prepare := func(query string) *sql.Stmt {
		s, err := w.db.PrepareContext(ctx, query)
		errs = append(errs, err)
		return s
	}
	w.insertEvent = prepare(insertEvent)
	w.insertCommand = prepare("INSERT INTO commands (command_id, request_hash, actor, stream, last_revision, position, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (command_id) DO NOTHING")
	w.insertSilent = prepare("INSERT INTO silent_commands (n, command_id) SELECT coalesce(max(n), 0) + 1, ? FROM silent_commands")
	w.moveHead = prepare("UPDATE store_head SET position = ?, recorded_at = ? WHERE id = 1")
	w.selectLast = prepare("SELECT revision, position FROM events WHERE stream = ? ORDER BY revision DESC LIMIT 1")
	w.selectDone = prepare(selectCommand)
	return errors.Join(errs...)
}

func (w *writer) close() error { return w.db.Close() }

// commit writes a group. Positions and places are kept only once the transaction is on disk.
func (w *writer) commit(ctx context.Context, group []eventstore.Append) ([]eventstore.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	began := time.Now()
	ctx = context.WithoutCancel(ctx) // the driver starts a goroutine a statement to watch one that can end
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: begin: %w", eventstore.ErrUnavailable, err)
	}
	g := &commitGroup{writer: w, head: w.head, at: later(eventstore.Micros(began), w.at), last: map[string]place{}}
	g.insertEvent, g.insertCommand, g.moveHead = tx.StmtContext(ctx, w.insertEvent), tx.StmtContext(ctx, w.insertCommand), tx.StmtContext(ctx, w.moveHead)
	g.insertSilent = tx.StmtContext(ctx, w.insertSilent)
	g.selectLast, g.selectDone = tx.StmtContext(ctx, w.selectLast), tx.StmtContext(ctx, w.selectDone)
	results := make([]eventstore.Result, len(group))
	for i, a := range group {
		if results[i], err = g.append(ctx, a, began); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err), tx.Rollback())
		}
	}
	if g.head > w.head {
		if _, err := g.moveHead.ExecContext(ctx, g.head, g.at.UnixMicro()); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err), tx.Rollback())
		}
	}
	if err := tx.Commit(); err != nil {
		// SQLite may have written the commit record before it failed to flush it: only a look tells.
		clear(w.last)
		if err := w.resume(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", eventstore.ErrOutcomeUnknown, err)
		}
		return nil, fmt.Errorf("%w: commit: %w", eventstore.ErrOutcomeUnknown, err)
	}
	if len(w.last)+len(g.last) > mostPlaces {
		clear(w.last)
	}
	for stream, p := range g.last {
		w.last[stream] = p
	}
	if g.head > w.head {
		w.head, w.at = g.head, g.at
		w.signal.Raise(w.head)
	}
	if w.onCommit != nil {
		w.onCommit(len(group), time.Since(began))
	}
	return results, nil
}

// resume reads where the file ends after a commit that failed.
func (w *writer) resume(ctx context.Context) error {
	var at int64
	if err := w.db.QueryRowContext(ctx, "SELECT position, recorded_at FROM store_head WHERE id = 1").Scan(&w.head, &at); err != nil {
		return fmt.Errorf("read the head: %w", err)
	}
	w.at = time.UnixMicro(at).UTC()
	w.signal.Raise(w.head)
	return nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// commitGroup is the inside of one transaction.
type commitGroup struct {
	statements // of the transaction
	writer     *writer
	head       uint64
	at         time.Time
	last       map[string]place
}

func (g *commitGroup) append(ctx context.Context, a eventstore.Append, clock time.Time) (eventstore.Result, error) {
	end, err := g.end(ctx, a.Stream)
	if err != nil {
		return eventstore.Result{}, err
	}
	if age := clock.Sub(a.DecidedAt); age > eventstore.MaxDecisionAge || age < -eventstore.MaxDecisionAge {
		return g.refuse(ctx, a, eventstore.ErrDecisionTooOld)
	}
	if a.Expected != eventstore.AnyRevision && a.Expected != end.revision {
		return g.refuse(ctx, a, &eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: end.revision})
	}
	before := end
	if n := len(a.Events); n > 0 {
		end = place{end.revision + eventstore.Revision(n), g.head + uint64(n)}
	}
	// The insert itself asks whether the command was accepted before: one statement where most need one.
	done, err := g.insertCommand.ExecContext(ctx, a.Command.ID[:], notNil(a.Command.RequestHash), a.Command.Actor, a.Stream, end.revision, end.position, g.at.UnixMicro())
	if err != nil {
		return eventstore.Result{}, fmt.Errorf("insert command: %w", err)
	}
	if n, err := done.RowsAffected(); err != nil {
		return eventstore.Result{}, fmt.Errorf("insert command: %w", err)
	} else if n == 0 {
		return g.refuse(ctx, a, errors.New("the command's row was there and is not"))
	}
	if len(a.Events) == 0 {
		if _, err := g.insertSilent.ExecContext(ctx, a.Command.ID[:]); err != nil {
			return eventstore.Result{}, fmt.Errorf("number a command without events: %w", err)
		}
	}
	slice := eventstore.Slice(a.Key)
	for i, e := range a.Events {
		g.head++
		r := eventstore.Recorded{
			Position: g.head, Stream: a.Stream, Revision: before.revision + 1 + eventstore.Revision(i), ID: e.ID, Type: e.Type, Key: a.Key,
			RecordedAt: g.at, Metadata: a.Metadata, Data: e.Data,
		}
		hash := eventstore.ContentHash(r)
		_, err := g.insertEvent.ExecContext(ctx, r.Position, r.Stream, r.Revision, r.ID[:], r.Type, r.Key, slice, r.RecordedAt.UnixMicro(),
			notNil(r.Metadata), notNil(r.Data), hash[:])
		if err != nil {
			return eventstore.Result{}, fmt.Errorf("insert event: %w", err)
		}
	}
	g.last[a.Stream] = end
	return eventstore.Result{Appended: eventstore.Appended{LastRevision: end.revision, Position: end.position, RecordedAt: g.at}}, nil
}

// refuse answers with why, unless the command was accepted before: that comes first.
func (g *commitGroup) refuse(ctx context.Context, a eventstore.Append, why error) (eventstore.Result, error) {
	first, found, err := findCommand(g.selectDone.QueryRowContext(ctx, a.Command.ID[:]), a.Command.ID)
	if err != nil {
		return eventstore.Result{}, err
	}
	if found {
		return eventstore.Result{Err: &eventstore.DuplicateError{Command: first}}, nil
	}
	return eventstore.Result{Err: why}, nil
}

// notNil keeps an empty value from becoming NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// end is where a stream ends, in this transaction.
func (g *commitGroup) end(ctx context.Context, stream string) (place, error) {
	if p, ok := g.writer.last[stream]; ok {
		return p, nil
	}
	p := place{revision: eventstore.NoStream}
	err := g.selectLast.QueryRowContext(ctx, stream).Scan(&p.revision, &p.position)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("find the end of %s: %w", stream, err)
	}
	return p, nil
}
