// Package sqlite keeps the events in one SQLite file: the embedded store.
//
// WAL with synchronous=FULL: an acknowledged append is on disk. One process writes, held to it by a lock beside the
// file (FILE.lock, which names the owner); in it, one connection writes, fed by the lane, and others read. Positions
// are dense from 1 in commit order.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver

	"github.com/dangdangsalon/salon/eventstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNotMigrated says what to do when the file lacks the tables of this release.
var ErrNotMigrated = errors.New("the event store's schema is not up to date: run `salon migrate up`")

// Config says where the store is.
type Config struct {
	Path string // of the file; its folder must exist
	// OnCommit, when set, is told of every group commit. It must return quickly.
	OnCommit func(group int, took time.Duration)
	// ReadOnly opens a file to look at it, also one whose end is damaged; whatever would write is refused. Defaults to a
	// look at the end, and to refusing what is damaged there.
	ReadOnly bool
}

// errReadOnly answers what would write to a file that was opened to look at it.
var errReadOnly = fmt.Errorf("%w: the file was opened to look at it", eventstore.ErrUnavailable)

// Store is an open store. Close it.
type Store struct {
	lane     *eventstore.Lane
	writer   *writer
	read     *sql.DB
	lock     *lock
	readOnly bool
	signal   eventstore.Signal
}

// Open opens a migrated file. Another owner's is refused with *LockedError.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	l, err := takeLock(cfg.Path)
	if err != nil {
		return nil, err
	}
	s := &Store{lock: l, readOnly: cfg.ReadOnly}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	write, err := connect(cfg.Path, 1)
	if err != nil {
		return nil, err
	}
	s.writer = &writer{db: write, signal: &s.signal, onCommit: cfg.OnCommit, last: map[string]place{}}
	if err := checkSchema(ctx, write); err != nil {
		return nil, err
	}
	if err := s.writer.prepare(ctx); err != nil {
		return nil, err
	}
	if s.read, err = connect(cfg.Path, 2*runtime.NumCPU()); err != nil {
		return nil, err
	}
	head, err := s.readHead(ctx)
	if err != nil {
		return nil, err
	}
	if !cfg.ReadOnly {
		if err := s.checkTail(ctx, head); err != nil {
			return nil, err
		}
	}
	s.writer.head, s.writer.at = head.Position, head.RecordedAt
	s.signal.Raise(head.Position)
	s.lane = eventstore.NewLane(1, s.writer.commit)
	return s, nil
}

// Close finishes what is being written and gives the file back.
func (s *Store) Close() error {
	var errs []error
	if s.lane != nil {
		s.lane.Close()
	}
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	return errors.Join(append(errs, s.lock.release())...)
}

// escape is for what a file's name may hold and a URI may not.
var escape = strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23")

func connect(path string, connections int) (*sql.DB, error) {
	// The cache is 16 MiB a connection; a reader that meets the writer's checkpoint waits rather than fails. The log is
	// folded back every 128 MiB: pages that many groups touched are then written once (measured with 32 callers, against
	// 32 MiB: a quarter more appends, p99 of 8 ms instead of 43), and a start after a crash still reads it in 65 ms.
	db, err := sql.Open("sqlite", "file:"+escape.Replace(path)+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)"+
		"&_pragma=cache_size(-16384)&_pragma=wal_autocheckpoint(32000)&_pragma=foreign_keys(OFF)&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func provider(db *sql.DB) (*goose.Provider, error) {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, steps, goose.WithTableName("events_migrations"))
}

func checkSchema(ctx context.Context, db *sql.DB) error {
	p, err := provider(db)
	if err != nil {
		return err
	}
	pending, err := p.HasPending(ctx)
	if err != nil {
		return fmt.Errorf("check the event store's schema: %w", err)
	}
	if pending {
		return ErrNotMigrated
	}
	var demands, floor int64
	err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'events_floor'").Scan(&demands)
	if err == nil && demands > 0 {
		err = db.QueryRowContext(ctx, "SELECT COALESCE(MAX(least), 0) FROM events_floor").Scan(&floor)
	}
	if err != nil {
		return fmt.Errorf("check the event store's schema: %w", err)
	}
	steps := p.ListSources()
	return eventstore.CheckFloor("event store", floor, steps[len(steps)-1].Version)
}

// Migrate brings a file's schema up to date, making the file if it is not there.
func Migrate(ctx context.Context, path string) error {
	l, err := takeLock(path)
	if err != nil {
		return err
	}
	db, err := connect(path, 1)
	if err != nil {
		return errors.Join(err, l.release())
	}
	p, err := provider(db)
	if err == nil {
		_, err = p.Up(ctx)
	}
	if err = errors.Join(err, db.Close(), l.release()); err != nil {
		return fmt.Errorf("migrate %s: %w", path, err)
	}
	return nil
}

// Migrations lists the steps of this release and when a file got each. It asks nobody's leave: the owner may be at work.
func Migrations(ctx context.Context, path string) ([]eventstore.Migration, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		path = ":memory:" // asking must not make the file
	}
	db, err := connect(path, 1)
	if err != nil {
		return nil, err
	}
	var status []*goose.MigrationStatus
	p, err := provider(db)
	if err == nil {
		status, err = p.Status(ctx)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", path, err)
	}
	out := make([]eventstore.Migration, len(status))
	for i, s := range status {
		out[i] = eventstore.Migration{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt}
	}
	return out, nil
}

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if s.readOnly {
		return eventstore.Appended{}, errReadOnly
	}
	return s.lane.Append(ctx, a)
}

// Command implements eventstore.Store.
func (s *Store) Command(ctx context.Context, id uuid.UUID) (eventstore.Command, bool, error) {
	c, found, err := findCommand(s.read.QueryRowContext(ctx, selectCommand, id[:]), id)
	if err != nil {
		err = fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
	}
	return c, found, err
}

const selectCommand = "SELECT request_hash, actor, stream, last_revision, position FROM commands WHERE command_id = ?"

func findCommand(row *sql.Row, id uuid.UUID) (eventstore.Command, bool, error) {
	c := eventstore.Command{ID: id}
	err := row.Scan(&c.RequestHash, &c.Actor, &c.Stream, &c.LastRevision, &c.Position)
	if errors.Is(err, sql.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("%w: find command: %w", eventstore.ErrUnavailable, err)
	}
	return c, true, nil
}

// Head implements eventstore.Store.
func (s *Store) Head(ctx context.Context) (eventstore.Head, error) { return s.readHead(ctx) }

func (s *Store) readHead(ctx context.Context) (eventstore.Head, error) {
	var h eventstore.Head
	var at int64
	err := s.read.QueryRowContext(ctx, "SELECT position, recorded_at, incarnation FROM store_head WHERE id = 1").Scan(&h.Position, &at, &h.Incarnation)
	if err != nil {
		return h, fmt.Errorf("%w: read the head: %w", eventstore.ErrUnavailable, err)
	}
	h.RecordedAt = time.UnixMicro(at).UTC()
	return h, nil
}

// Wait implements eventstore.Store. The only writer is this process, so nothing polls.
func (s *Store) Wait(ctx context.Context, after uint64) error {
	for {
		grown := s.signal.Beyond(after)
		if grown == nil {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.lane.Closed():
			return fmt.Errorf("%w: closed", eventstore.ErrUnavailable)
		}
	}
}
