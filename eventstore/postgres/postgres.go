// Package postgres keeps the events in PostgreSQL.
//
// A group of appends is one message to one function of the database, which takes the store's lock, checks each stream in a
// later statement, numbers the events densely in commit order and answers each append by itself; the commit is part of
// the same message. So the lock is never held across a round trip, a client that freezes holds nothing, and one flush
// serves the whole group. Any number of processes append at once; each has its own lane and its own connections.
//
// What an error means: ErrUnavailable, the database answered that it did nothing or was never reached;
// ErrOutcomeUnknown, the connection broke after the message had left.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dangdangsalon/salon/eventstore"
)

// Config says where the store is.
type Config struct {
	URL string
	// ReadConnections bounds the pool of reads. Defaults to 8. Appends have connections of their own.
	ReadConnections int32
	// OnCommit, when set, is told of every group commit, by two goroutines at once when a crowd waits. It must return
	// quickly.
	OnCommit func(group int, took time.Duration)
}

// Store is an open store. Close it.
type Store struct {
	lane     *eventstore.Lane
	write    *pgxpool.Pool
	read     *pgxpool.Pool
	signal   eventstore.Signal
	polling  chan struct{} // one token: who has it looks for all who wait
	watching sync.WaitGroup
	onCommit func(group int, took time.Duration)
}

// applicationName is how a server's administrator, and endSilent, know our connections.
const applicationName = "salon"

// flights is how many groups are on their way at once, see eventstore.NewLane: one works, one waits for the lock.
const flights = 2

// commitTimeout ends an append that waits too long for its turn at the lock. What hangs longer is ended by the
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
	if s.write, err = connect(ctx, cfg.URL, flights, appendSettings, noteLife); err != nil {
		return nil, err
	}
	if s.read, err = connect(ctx, cfg.URL, cfg.ReadConnections, readSettings, nil); err != nil {
		return nil, err
	}
	if err := s.checkSchema(ctx); err != nil {
		return nil, err
	}
	s.lane = eventstore.NewLane(flights, s.commit)
	return s, nil
}

// Close finishes the group that is being written.
func (s *Store) Close() error {
	s.lane.Close()
	s.watching.Wait()
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
	err := s.read.QueryRow(ctx, "SELECT coalesce(h.position, 0), coalesce(h.recorded_at, 'epoch'), i "+
		"FROM store_incarnation() i LEFT JOIN (SELECT position, recorded_at "+lastEvent+") h ON true").Scan(&h.Position, &h.RecordedAt, &h.Incarnation)
	if err != nil {
		return h, unavailable("read the head", err)
	}
	h.RecordedAt = h.RecordedAt.UTC()
	s.signal.Raise(h.Position)
	return h, nil
}

// lastEvent is the head: one look at the end of an index.
const lastEvent = "FROM events ORDER BY position DESC LIMIT 1"

// position is the head's, 0 in an empty store.
func (s *Store) position(ctx context.Context) (position uint64, err error) {
	err = s.read.QueryRow(ctx, "SELECT position "+lastEvent).Scan(&position)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return position, err
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
		head, err := s.position(ctx)
		if err != nil {
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
