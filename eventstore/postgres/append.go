package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dangdangsalon/salon/eventstore"
)

// commit sends a group as one message: an autocommitted call of append_events.
func (s *Store) commit(ctx context.Context, group []eventstore.Append) ([]eventstore.Result, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, commitTimeout+time.Second) // the server's own time-out comes first and has an answer
	defer cancel()
	conn, err := s.write.Acquire(ctx)
	if err != nil {
		return nil, unavailable("append", err)
	}
	defer conn.Release()
	defer s.watch(ctx)()
	rows, err := conn.Query(ctx, callAppend, arguments(group)...)
	if err != nil {
		return nil, failed(err)
	}
	results, head, err := answers(rows, group)
	if err != nil {
		return nil, failed(err)
	}
	for i := range results {
		if results[i].Err == nil {
			results[i].Appended.Incarnation = lifeOf(conn.Conn())
		}
	}
	s.signal.Raise(head)
	if s.onCommit != nil {
		s.onCommit(len(group), time.Since(began))
	}
	return results, nil
}

// silence is how long a client may hold the store's lock without a word.
const silence = 2 * time.Second

// watch guards a commit until the function that it answers is called. The lock's holder has told the server everything,
// but for the five bytes that end its message: when a network or a client dies between those and the rest, the server
// would wait for them, and every writer for the server (PostgreSQL 15 has no time-out for that state).
func (s *Store) watch(ctx context.Context) (done func()) {
	s.watching.Add(1)
	timer := time.AfterFunc(silence, func() {
		defer s.watching.Done()
		// When it fails, the lock's own time-out answers, and the next commit looks again.
		_, _ = s.read.Exec(ctx, endSilent, lockKey)
	})
	return func() {
		if timer.Stop() {
			s.watching.Done()
		}
	}
}

// lockKey is append_events' advisory lock.
const lockKey = 8286574923601

// endSilent ends the connection of a node that holds the lock and that the server waits for. One that waits for the disk
// or a standby is at its commit, and is left alone.
const endSilent = "SELECT pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid " +
	"WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint << 32 | l.objid::bigint = $1 AND a.datname = current_database() " +
	"AND a.application_name = '" + applicationName + "' AND a.wait_event = 'ClientRead' AND a.xact_start < clock_timestamp() - interval '2 seconds'"

const callAppend = "SELECT request, outcome, last_revision, at_position, at_time, first_hash, first_actor, first_stream " +
	"FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"

// arguments are the group as the function's arrays. IDs are plain bytes: the driver would ask a uuid.UUID for its text.
func arguments(group []eventstore.Append) []any {
	n := len(group)
	command, hash, actor := make([][16]byte, n), make([][]byte, n), make([]string, n)
	stream, key, slice := make([]string, n), make([]string, n), make([]int16, n)
	expected, expectedID, decided := make([]int64, n), make([]*[16]byte, n), make([]time.Time, n)
	metadata, events := make([][]byte, n), make([]int32, n)
	var request, number []int32
	var id [][16]byte
	var eventType []string
	var data [][]byte
	for i, a := range group {
		command[i], hash[i], actor[i] = a.Command.ID, notNil(a.Command.RequestHash), a.Command.Actor
		stream[i], key[i], slice[i] = a.Stream, a.Key, int16(eventstore.Slice(a.Key))                                                        //nolint:gosec // below 1,024
		expected[i], decided[i], metadata[i], events[i] = int64(a.Expected), storable(a.DecidedAt), notNil(a.Metadata), int32(len(a.Events)) //nolint:gosec // at most MaxAppendEvents
		if a.ExpectedID != uuid.Nil {
			expectedID[i] = (*[16]byte)(&group[i].ExpectedID)
		}
		for j, e := range a.Events {
			request, number = append(request, int32(i+1)), append(number, int32(j)) //nolint:gosec // small counts
			id, eventType, data = append(id, e.ID), append(eventType, e.Type), append(data, notNil(e.Data))
		}
	}
	return []any{command, hash, actor, stream, key, slice, expected, expectedID, decided, metadata, events, request, number, id, eventType, data, eventstore.MaxDecisionAge}
}

// storable keeps an absurd time from being refused by the server, which would fail the whole group; it is too old all the same.
func storable(t time.Time) time.Time {
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Unix(0, 0)
	}
	return t
}

// notNil keeps an empty value from becoming NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// answers reads the function's rows. head is the highest position appended.
func answers(rows pgx.Rows, group []eventstore.Append) (results []eventstore.Result, head uint64, err error) {
	var (
		request                 int
		outcome                 string
		revision, position      int64
		at                      time.Time
		firstHash               []byte
		firstActor, firstStream *string
		answered                int
	)
	results = make([]eventstore.Result, len(group))
	_, err = pgx.ForEachRow(rows, []any{&request, &outcome, &revision, &position, &at, &firstHash, &firstActor, &firstStream}, func() error {
		a := group[request-1]
		answered++
		switch outcome {
		case "appended":
			r := eventstore.Appended{LastRevision: eventstore.Revision(revision), Position: uint64(position), RecordedAt: at.UTC()} //nolint:gosec // never negative
			results[request-1].Appended = r
			if len(a.Events) > 0 {
				head = max(head, r.Position)
			}
		case "conflict":
			results[request-1].Err = &eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: eventstore.Revision(revision)}
		case "too old":
			results[request-1].Err = eventstore.ErrDecisionTooOld
		case "duplicate":
			results[request-1].Err = &eventstore.DuplicateError{Command: eventstore.Command{
				ID: a.Command.ID, RequestHash: append([]byte{}, firstHash...), Actor: *firstActor, Stream: *firstStream,
				LastRevision: eventstore.Revision(revision), Position: uint64(position), //nolint:gosec // never negative
			}}
		default:
			return fmt.Errorf("append_events answered %q", outcome)
		}
		return nil
	})
	if err == nil && answered != len(group) {
		err = fmt.Errorf("append_events answered %d of %d requests", answered, len(group))
	}
	return results, head, err
}

// failed tells whether the group may have been committed. A server that answers with an error has rolled back; one
// that is shut down or whose connection breaks may have committed first.
func failed(err error) error {
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR":
		return unavailable("append", err)
	case pgconn.SafeToRetry(err):
		return unavailable("append", err)
	}
	return fmt.Errorf("append: %w: %w", eventstore.ErrOutcomeUnknown, err)
}
