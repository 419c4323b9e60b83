package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/internal/harness"
)

func migrated(t testing.TB) string {
	t.Helper()
	harness.NeedsServers(t)
	url := harness.Postgres(t)
	if err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return url
}

func openAt(t testing.TB, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func open(t testing.TB) eventstore.Store {
	t.Helper()
	return openAt(t, migrated(t))
}

func BenchmarkAppend(b *testing.B) { storetest.Bench(b, open) }

// The ceiling: plain transactions of one row, each by a connection of its own, into the same columns and indexes.
func BenchmarkPlainInsert(b *testing.B) {
	for _, connections := range []int{1, 32} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			c, err := pgxpool.ParseConfig(migrated(b))
			if err != nil {
				b.Fatal(err)
			}
			c.MaxConns = int32(connections)
			pool, err := pgxpool.NewWithConfig(b.Context(), c)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(pool.Close)
			data := []byte(strings.Repeat("x", 300))
			var next atomic.Int64
			b.ResetTimer()
			var all sync.WaitGroup
			for n := range connections {
				all.Go(func() {
					stream := fmt.Sprintf("bench-%d", n)
					for revision := 0; ; revision++ {
						position := next.Add(1)
						if position > int64(b.N) {
							return
						}
						_, err := pool.Exec(b.Context(), "INSERT INTO events (position, stream, revision, id, type, key, slice, recorded_at, metadata, data, hash) "+
							"VALUES ($1, $2, $3, $4, 'bench.v1', $2, $5, now(), $6, $6, $7)", position, stream, revision, uuid.New(), n, data, data[:32])
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
