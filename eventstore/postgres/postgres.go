// Package postgres keeps the events in PostgreSQL.
//
// A group of appends is one message to one function of the database, which locks the head row, checks each stream in a
// later statement, numbers the events densely in commit order and answers each append by itself; the commit is part of
// the same message. So the lock is never held across a round trip, a client that freezes holds nothing, and one flush
// serves the whole group. Any number of processes append at once; each has its own lane and its own connections.
//
// What an error means: ErrUnavailable, the database answered that it did nothing or was never reached;
// ErrOutcomeUnknown, the connection broke after the message had left.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/dangdangsalon/salon/eventstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNotMigrated says what to do when the database lacks the tables of this release.
var ErrNotMigrated = errors.New("the event store's schema is not up to date: run `salon migrate up`")

// Config says where the store is.
type Config struct {
	URL string
	// ReadConnections bounds the pool of reads. Defaults to 8. Appends have one connection of their own: they go one
	// group after the other anyway, since the head row is one.
	ReadConnections int32
	// OnCommit, when set, is told of every group commit. It must return quickly.
	OnCommit func(group int, took time.Duration)
}

// Store is an open store. Close it.
type Store struct {
	lane     *eventstore.Lane
	write    *pgxpool.Pool
	read     *pgxpool.Pool
	signal   eventstore.Signal
	polling  chan struct{} // one token: who has it looks for all who wait
	onCommit func(group int, took time.Duration)
}

// commitTimeout ends an append that waits too long for its turn at the head row. What hangs longer is ended by the
// server, and its outcome is known: nothing was done.
const commitTimeout = 5 * time.Second

// Open connects. A server that is away is ErrUnavailable: try again.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	s := &Store{polling: make(chan struct{}, 1), onCommit: cfg.OnCommit}
	defer func() {
		if err != nil {
			s.closePools()
		}
	}()
	if cfg.ReadConnections == 0 {
		cfg.ReadConnections = 8
	}
	if s.write, err = connect(ctx, cfg.URL, 1, appendSettings); err != nil {
		return nil, err
	}
	if s.read, err = connect(ctx, cfg.URL, cfg.ReadConnections, nil); err != nil {
		return nil, err
	}
	if err := s.checkSchema(ctx); err != nil {
		return nil, err
	}
	s.lane = eventstore.NewLane(s.commit)
	return s, nil
}

// Close finishes the group that is being written.
func (s *Store) Close() error {
	s.lane.Close()
	s.closePools()
	return nil
}

func (s *Store) closePools() {
	for _, p := range []*pgxpool.Pool{s.write, s.read} {
		if p != nil {
			p.Close()
		}
	}
}

func connect(ctx context.Context, url string, connections int32, settings map[string]string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("--events is not a valid postgres:// URL") // the parser's message would show it, password and all
	}
	c.MaxConns = connections
	c.ConnConfig.ConnectTimeout = 5 * time.Second
	maps.Copy(c.ConnConfig.RuntimeParams, map[string]string{
		"application_name":                    "salon",
		"timezone":                            "UTC",
		"statement_timeout":                   "5s",
		"idle_in_transaction_session_timeout": "5s",
		"synchronous_commit":                  "on",
		// What the server, the database or the role has set must not change what append_events is: under another level
		// its check would see what was true before it got the head row.
		"default_transaction_isolation": "read committed",
	})
	maps.Copy(c.ConnConfig.RuntimeParams, settings)
	c.BeforeConnect = neverCancel
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open the event store: %w", err)
	}
	return pool, nil
}

// neverCancel keeps the driver from asking the server to cancel what a connection that it gives up on still does. A
// commit that is cancelled while it waits for its synchronous standby is shown to everybody though the standby may lack
// it. The server's own time-outs end the rest.
func neverCancel(_ context.Context, c *pgx.ConnConfig) error {
	dial, validated, connected := c.DialFunc, c.AfterConnect, false
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		connected = true
		if validated == nil {
			return nil
		}
		return validated(ctx, conn)
	}
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected { // it dials again for one purpose
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
	return nil
}

var errNoCancel = errors.New("nothing is cancelled on the server")

// appendSettings are of the connections that append. append_events is one large statement that touches few rows:
// planning it anew would cost as much as running it (measured: 0.9 ms a call against 0.45), and a plan made while the
// tables were small must not scan them later.
var appendSettings = map[string]string{
	"plan_cache_mode": "force_generic_plan",
	"enable_seqscan":  "off",
	"jit":             "off",
	// Whoever got the head row has 2 seconds left of the statement's 5, at least; one that hangs is ended then.
	"lock_timeout": "3s",
}

func provider(url string) (*goose.Provider, func() error, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, nil, errors.New("--events is not a valid postgres:// URL")
	}
	db := stdlib.OpenDB(*c)
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, nil, err
	}
	// Without a lock two processes that start together both make the tables, and one of them fails.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60), lock.WithUnlockTimeout(1, 60)) // seconds between tries, tries
	if err != nil {
		return nil, nil, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, steps, goose.WithTableName("events_migrations"), goose.WithSessionLocker(locker))
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return p, db.Close, nil
}

// Migrate brings the schema up to date. Several processes may call it at once.
func Migrate(ctx context.Context, url string) error {
	p, done, err := provider(url)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	if err = errors.Join(err, done()); err != nil {
		return unavailable("migrate the event store", err)
	}
	return nil
}

// Migrations lists the steps of this release and when the database got each.
func Migrations(ctx context.Context, url string) ([]eventstore.Migration, error) {
	p, done, err := provider(url)
	if err != nil {
		return nil, err
	}
	status, err := p.Status(ctx)
	if err = errors.Join(err, done()); err != nil {
		return nil, unavailable("list the event store's migrations", err)
	}
	out := make([]eventstore.Migration, len(status))
	for i, s := range status {
		out[i] = eventstore.Migration{Version: s.Source.Version, Name: s.Source.Path, AppliedAt: s.AppliedAt}
	}
	return out, nil
}

// lastMigration is the newest step of this release; a test compares it with the folder.
const lastMigration = 1

// checkSchema asks by the read pool: goose would need a connection of its own at every start.
func (s *Store) checkSchema(ctx context.Context) error {
	var at int64
	var encoding string
	err := s.read.QueryRow(ctx, "SELECT coalesce(max(version_id), 0), current_setting('server_encoding') FROM events_migrations WHERE is_applied").Scan(&at, &encoding)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "42P01": // undefined_table
		return ErrNotMigrated
	case err != nil:
		return unavailable("connect", err)
	case at < lastMigration:
		return ErrNotMigrated
	case encoding != "UTF8":
		// Names and hashes are of UTF-8; what another encoding cannot hold would fail a whole group.
		return fmt.Errorf("the event store's database has encoding %s: create it with ENCODING 'UTF8'", encoding)
	}
	return nil
}

// unavailable keeps credentials and addresses out: pgx puts them into its messages.
func unavailable(doing string, err error) error {
	var refused *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", doing, eventstore.ErrUnavailable, err)
	case errors.As(err, &refused):
		return fmt.Errorf("%s: %w: %s (SQLSTATE %s)", doing, eventstore.ErrUnavailable, refused.Message, refused.Code)
	case errors.As(err, &connect):
		return fmt.Errorf("%s: %w: cannot connect", doing, eventstore.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w: %w", doing, eventstore.ErrUnavailable, err)
}

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	return s.lane.Append(ctx, a)
}

// Command implements eventstore.Store.
func (s *Store) Command(ctx context.Context, id uuid.UUID) (eventstore.Command, bool, error) {
	c := eventstore.Command{ID: id}
	err := s.read.QueryRow(ctx, "SELECT request_hash, actor, stream, last_revision, position FROM commands WHERE command_id = $1", id).
		Scan(&c.RequestHash, &c.Actor, &c.Stream, &c.LastRevision, &c.Position)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, unavailable("find command", err)
	}
	return c, true, nil
}

// Head implements eventstore.Store. The incarnation is the cluster's identity, its timeline and the database: a restore
// begins another, whether of the cluster or, into a new database, of this one alone.
func (s *Store) Head(ctx context.Context) (eventstore.Head, error) {
	var h eventstore.Head
	err := s.read.QueryRow(ctx, "SELECT h.position, h.recorded_at, c.system_identifier::text || '.' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) "+
		"|| '.' || d.oid::text FROM store_head h, pg_control_system() c, pg_database d WHERE h.id = 1 AND d.datname = current_database()").Scan(&h.Position, &h.RecordedAt, &h.Incarnation)
	if err != nil {
		return h, unavailable("read the head", err)
	}
	h.RecordedAt = h.RecordedAt.UTC()
	s.signal.Raise(h.Position)
	return h, nil
}

// pollEvery is how soon the appends of other processes are seen.
const pollEvery = 10 * time.Millisecond

// Wait implements eventstore.Store. Of all who wait, one polls.
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
		case s.polling <- struct{}{}:
			err := s.poll(ctx, grown)
			<-s.polling
			if err != nil {
				return err
			}
		}
	}
}

// poll looks until the head has grown.
func (s *Store) poll(ctx context.Context, grown <-chan struct{}) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var head uint64
		if err := s.read.QueryRow(ctx, "SELECT position FROM store_head WHERE id = 1").Scan(&head); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return unavailable("look for more events", err)
		}
		s.signal.Raise(head)
		select {
		case <-grown:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// PersonKey implements eventstore.Store.
func (s *Store) PersonKey(ctx context.Context, subject string) (keyID string, wrapped []byte, found bool, err error) {
	if !eventstore.IsText(subject) {
		return "", nil, false, nil // the server would refuse it: nobody is called that
	}
	return personKey(s.read.QueryRow(ctx, "SELECT key_id, wrapped FROM person_keys WHERE subject = $1", subject))
}

func personKey(row pgx.Row) (keyID string, wrapped []byte, found bool, err error) {
	err = row.Scan(&keyID, &wrapped)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil, false, nil
	}
	if err != nil {
		return "", nil, false, unavailable("find a person's key", err)
	}
	return keyID, wrapped, true, nil
}

// PersonKeyByID implements eventstore.Store.
func (s *Store) PersonKeyByID(ctx context.Context, subject, keyID string) (wrapped []byte, found bool, err error) {
	if !eventstore.IsText(subject + keyID) {
		return nil, false, nil
	}
	_, wrapped, found, err = personKey(s.read.QueryRow(ctx, "SELECT key_id, wrapped FROM person_keys WHERE subject = $1 AND key_id = $2", subject, keyID))
	return wrapped, found, err
}

// AddPersonKey implements eventstore.Store.
func (s *Store) AddPersonKey(ctx context.Context, subject, keyID string, wrapped []byte) (standingID string, standing []byte, err error) {
	_, err = s.read.Exec(ctx, "INSERT INTO person_keys (subject, key_id, wrapped) VALUES ($1, $2, $3) ON CONFLICT (subject) DO NOTHING", subject, keyID, wrapped)
	if err != nil {
		return "", nil, unavailable("add a person's key", err)
	}
	standingID, standing, found, err := s.PersonKey(ctx, subject)
	if err == nil && !found {
		err = errors.New("a person's key is gone right after it was added")
	}
	return standingID, standing, err
}
