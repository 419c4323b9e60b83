package engine

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
)

// A ceiling that wrote less than the engine would make the engine look bad, and one that wrote more, good.
func TestThePlainClientWritesTheEnginesRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		target Target
		db     func(t *testing.T) string
	}{
		"SQLite":  {SQL, func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "reads.db") }},
		"MariaDB": {SQL, func(t *testing.T) string { harness.NeedsServers(t); return harness.MariaDB(t) }},
		"Redis":   {Redis, func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "reads.db") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.db(t))
			p, table := counters()
			p.Target = c.target
			var mu sync.Mutex
			var batches []Applied
			seen := newProgress()
			r := w.runner(p, seen)
			r.Store = w.log
			r.MaxRecords = 50
			r.Applied = func(a Applied) {
				mu.Lock()
				batches = append(batches, a)
				mu.Unlock()
				seen.applied(a)
			}
			if c.target == Redis {
				harness.NeedsServers(t)
				options, err := redis.ParseURL(harness.Redis(t))
				if err != nil {
					t.Fatal(err)
				}
				client := redis.NewClient(options)
				t.Cleanup(func() { client.Close() })
				r.Redis = client
			}
			w.log.addMany(30, 1000)
			w.start(w.relay().Run)
			stop := w.start(r.Run)
			seen.wait(t, w.log.last(w.partitions))
			stop()

			other := p
			other.Version = 2
			if err := EnsureTables(t.Context(), w.db, other); err != nil {
				t.Fatal(err)
			}
			plain, err := NewPlain(t.Context(), r, other, wire.BookingTopic, w.partitions, batches, true)
			if err != nil {
				t.Fatal(err)
			}
			loose, err := NewPlain(t.Context(), r, other, wire.BookingTopic, w.partitions, batches, false)
			if err != nil {
				t.Fatal(err)
			}
			var folds int64 // every event that is folded changes one row
			for _, row := range w.log.want(t) {
				folds += row.Count
			}
			if int64(loose.Rows) != folds || plain.Rows >= loose.Rows {
				t.Errorf("%d rows of %d events by themselves, %d folded", loose.Rows, folds, plain.Rows)
			}
			if err := loose.Write(t.Context(), r); err != nil { // first: what is folded must not need what came before it
				t.Fatal(err)
			}
			if err := plain.Write(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			want, got := w.log.want(t), map[string]counter{}
			if c.target == Redis {
				maps.Copy(got, hashRows(t, r.Redis, other, table, slices.Collect(maps.Keys(want)), w.partitions))
			} else {
				err := w.db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) error {
					rows, err := Query(ctx, q, table, 2, "")
					for _, row := range rows {
						got[row.Key] = row
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the plain client's rows are others (-want +got):\n%s", diff)
			}
			if plain.Rows <= len(want) {
				t.Errorf("%d rows were written for %d keys in %d batches: they were folded over batches", plain.Rows, len(want), len(batches))
			}
			if c.target == SQL {
				return
			}
			if err := (Views{DB: w.db, Redis: r.Redis}).Remove(t.Context(), other, nil); err != nil {
				t.Fatal(err)
			}
			if left := hashRows(t, r.Redis, other, table, slices.Collect(maps.Keys(want)), w.partitions); len(left) > 0 {
				t.Errorf("%d rows are left of a version that was forgotten", len(left))
			}
			if kept := hashRows(t, r.Redis, p, table, slices.Collect(maps.Keys(want)), w.partitions); len(kept) != len(want) {
				t.Errorf("%d rows of %d are left of the version that serves", len(kept), len(want))
			}
		})
	}
}

// hashRows reads hashes as they are, whole or not: a plain client keeps no offset.
func hashRows(t *testing.T, client redis.UniversalClient, p Projection, table *Table[counter], keys []string, partitions int) map[string]counter {
	t.Helper()
	out := map[string]counter{}
	for _, key := range keys {
		rows, err := client.HGetAll(t.Context(), redisKeys{p, wire.BookingTopic, partitionOf(key, partitions)}.rows(table.Def(), key)).Result()
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := ViewTable(ViewRows{tables: map[*Def]map[string]string{table.Def(): rows}}, table)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range decoded {
			out[row.Key] = row
		}
	}
	return out
}
