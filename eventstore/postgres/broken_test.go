package postgres_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

// broken appends as stores are often written: each append a transaction of its own on a connection of its own, positions
// from a sequence. Its follower reads what is beyond the last position. That is all it takes to lose events.
type broken struct {
	*postgres.Store // for what Follow does not use
	pool            *pgxpool.Pool
	locks           bool // numbers under a lock, and gives it back before the commit
}

func newBroken(t testing.TB, locks bool) *broken {
	t.Helper()
	url := migrated(t)
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	execute(t, sql(t, url), "CREATE SEQUENCE positions")
	return &broken{openAt(t, url), pool, locks}
}

func (b *broken) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	var done eventstore.Appended
	err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		// One writer a stream at a time: only the order between streams is broken.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(1, hashtext($1))", a.Stream); err != nil {
			return err
		}
		if b.locks {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_lock(2)"); err != nil {
				return err
			}
		}
		last := eventstore.NoStream
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(revision), -1) FROM events WHERE stream = $1", a.Stream).Scan(&last); err != nil {
			return err
		}
		for i, e := range a.Events {
			r := eventstore.Recorded{
				Stream: a.Stream, Revision: last + 1 + eventstore.Revision(i), ID: e.ID, Type: e.Type, Key: a.Key, RecordedAt: time.Unix(0, 0).UTC(),
				Metadata: a.Metadata, Data: append([]byte{}, e.Data...),
			}
			hash := eventstore.ContentHash(r)
			err := tx.QueryRow(ctx, "INSERT INTO events (position, stream, revision, id, type, key, slice, recorded_at, metadata, data, hash) "+
				"VALUES (nextval('positions'), $1, $2, $3, $4, $5, 0, $6, $7, $8, $9) RETURNING position",
				r.Stream, r.Revision, r.ID, r.Type, r.Key, r.RecordedAt, r.Metadata, r.Data, hash[:]).Scan(&done.Position)
			if err != nil {
				return err
			}
			done.LastRevision = r.Revision
		}
		if b.locks {
			_, err := tx.Exec(ctx, "SELECT pg_advisory_unlock(2)")
			return err
		}
		return nil
	})
	return done, err
}

func (b *broken) ReadAll(ctx context.Context, after uint64, _ eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		rows, err := b.pool.Query(ctx, "SELECT position, stream, revision, id, type, key, recorded_at, metadata, data, hash FROM events WHERE position > $1 ORDER BY position", int64(after)) //nolint:gosec // it was a bigint
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r eventstore.Recorded, err error) {
			var hash []byte
			err = row.Scan(&r.Position, &r.Stream, &r.Revision, &r.ID, &r.Type, &r.Key, &r.RecordedAt, &r.Metadata, &r.Data, &hash)
			copy(r.Hash[:], hash)
			return r, err
		})
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
		}
	}
}

// Wait does not: the follower asks again and again.
func (b *broken) Wait(ctx context.Context, _ uint64) error { return ctx.Err() }

// Both wrong ways of numbering are caught in a real database, by the check that the real store passes.
func TestWrongWaysOfNumberingAreCaught(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		locks bool
	}{
		{"a sequence", false},
		{"a lock that is given back before the commit", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBroken(t, c.locks)
			missed := 0
			for round := 0; missed == 0 && round < 10; round++ {
				seed := rand.Uint64()
				side := storetest.Side{Name: fmt.Sprint(round), Writers: 16, Each: 60, Seed: seed}
				counted, err := storetest.Follow(t.Context(), []eventstore.Store{b}, side)
				t.Logf("seed %d: %+v, %v", seed, counted, err)
				if missed = counted.Missed; missed > 0 && err == nil {
					t.Error("what was missed is no error")
				}
				execute(t, sql(t, b.url()), "DELETE FROM events")
			}
			if missed == 0 {
				t.Error("the follower missed nothing: the check has shown nothing")
			}
		})
	}
}

func (b *broken) url() string { return b.pool.Config().ConnString() }
