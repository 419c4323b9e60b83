package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dangdangsalon/salon/eventstore"
)

// What the server itself can do, for `salon bench`: the same rows, written and read by nothing but the driver.

// Scratch makes a migrated database of its own on the server of a URL, and answers how to drop it. The role has to be one
// that may create databases.
func Scratch(ctx context.Context, rawURL string) (scratch string, drop func(context.Context) error, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", nil, errors.New("--events is not a valid postgres:// URL")
	}
	admin := func(ctx context.Context, statement string) error {
		conn, err := pgx.Connect(ctx, rawURL)
		if err != nil {
			return unavailable("connect", err)
		}
		_, err = conn.Exec(ctx, statement)
		return errors.Join(err, conn.Close(ctx))
	}
	name := pgx.Identifier{"salon_bench_" + strings.ReplaceAll(uuid.NewString(), "-", "")}
	if err := admin(ctx, "CREATE DATABASE "+name.Sanitize()); err != nil {
		return "", nil, fmt.Errorf("make a database for the benchmark: %w", err)
	}
	drop = func(ctx context.Context) error { return admin(ctx, "DROP DATABASE "+name.Sanitize()+" WITH (FORCE)") }
	u.Path = "/" + name[0]
	if err := Migrate(ctx, u.String()); err != nil {
		return "", nil, errors.Join(err, drop(ctx))
	}
	return u.String(), drop, nil
}

// PlainInserts commits one row after the other on each of so many connections, into a table with the columns and the
// indexes of events, for so long, and answers how many rows a second there were. The connections draw positions from
// the client's memory, so that nothing on the server orders them.
func PlainInserts(ctx context.Context, rawURL string, connections int, each time.Duration) (perSecond float64, err error) {
	pool, err := plainPool(ctx, rawURL, connections)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "DROP TABLE IF EXISTS plain; CREATE TABLE plain (LIKE events INCLUDING ALL)"); err != nil {
		return 0, unavailable("make a plain table", err)
	}
	data := []byte(strings.Repeat("x", 300))
	until := time.Now().Add(each)
	rows, errs := make([]int, connections), make([]error, connections)
	var all sync.WaitGroup
	for n := range connections {
		all.Go(func() {
			stream := fmt.Sprintf("bench-%d", n)
			for ; errs[n] == nil && (rows[n] == 0 || time.Now().Before(until)); rows[n]++ {
				_, errs[n] = pool.Exec(ctx, "INSERT INTO plain (position, stream, revision, id, type, key, slice, recorded_at, metadata, data, hash) "+
					"VALUES ($1, $2, $3, $4, 'bench.v1', $2, $5, now(), $6, $7, $8)",
					rows[n]*connections+n, stream, rows[n], uuid.New(), eventstore.Slice(stream), data[:20], data, data[:32])
			}
		})
	}
	began := until.Add(-each)
	all.Wait()
	sum := 0
	for _, n := range rows {
		sum += n
	}
	return float64(sum) / time.Since(began).Seconds(), errors.Join(errs...)
}

// PlainScan reads every event by one statement.
func PlainScan(ctx context.Context, rawURL string) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		pool, err := plainPool(ctx, rawURL, 1)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		defer pool.Close()
		rows, err := pool.Query(ctx, "SELECT "+columns+" FROM events ORDER BY position")
		if err != nil {
			yield(eventstore.Recorded{}, unavailable("scan", err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r eventstore.Recorded
			var hash []byte
			err := rows.Scan(&r.Position, &r.Stream, &r.Revision, (*[16]byte)(&r.ID), &r.Type, &r.Key, &r.RecordedAt, &r.Metadata, &r.Data, &hash)
			if !yield(r, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(eventstore.Recorded{}, unavailable("scan", err))
		}
	}
}

func plainPool(ctx context.Context, rawURL string, connections int) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(rawURL)
	if err != nil {
		return nil, errors.New("--events is not a valid postgres:// URL")
	}
	c.MaxConns = int32(connections) //nolint:gosec // a small count
	c.MinConns = c.MaxConns
	return pgxpool.NewWithConfig(ctx, c)
}

// TableBytes is what a table takes with its indexes.
func TableBytes(ctx context.Context, rawURL, table string) (bytes int64, err error) {
	conn, err := pgx.Connect(ctx, rawURL)
	if err != nil {
		return 0, unavailable("connect", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, "SELECT pg_total_relation_size($1::regclass)", table).Scan(&bytes); err != nil {
		return 0, unavailable("look how large a table is", err)
	}
	return bytes, nil
}

// HashNothing makes the appends of a scratch database store zeros for hashes, until again is called.
func HashNothing(ctx context.Context, rawURL string) (again func(context.Context) error, err error) {
	do := func(ctx context.Context, work func(*pgx.Conn) error) error {
		conn, err := pgx.Connect(ctx, rawURL)
		if err == nil {
			err = errors.Join(work(conn), conn.Close(context.WithoutCancel(ctx)))
		}
		if err != nil {
			return unavailable("change the function that hashes", err)
		}
		return nil
	}
	var now string
	err = do(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, "SELECT pg_get_functiondef('content_hash'::regproc)").Scan(&now); err != nil {
			return err
		}
		// In its place: whoever has planned a call of it plans anew.
		_, err := conn.Exec(ctx, "CREATE OR REPLACE FUNCTION content_hash(stream text, revision bigint, id uuid, type text, key text, micros bytea, metadata bytea, data bytea) "+
			"RETURNS bytea LANGUAGE sql STABLE RETURN decode(repeat('00', 32), 'hex')")
		return err
	})
	return func(ctx context.Context) error {
		return do(ctx, func(conn *pgx.Conn) error { _, err := conn.Exec(ctx, now); return err })
	}, err
}
