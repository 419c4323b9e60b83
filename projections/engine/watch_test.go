package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
)

const testKeys = 50

// at is the fold of one key's events up to a position, by the oracle's own loop.
func (l *log) at(d *decoder, key string, pos uint64) (row counter, err error) {
	for _, r := range l.snapshot() {
		if r.Key != key || r.Type != (added{}).EventType() || r.Position > pos {
			continue
		}
		e, err := d.event(r)
		if err != nil {
			return row, err
		}
		row = row.add(e)
	}
	return row, nil
}

// viewed is a world with the toy projection and a view before it, on a Redis of the test's own.
type viewed struct {
	*world
	server         atomic.Pointer[harness.OwnRedis]
	client         *redis.Client
	table          *Table[counter]
	view           *View
	runner         *Runner
	inSQL, inRedis *progress
	reads, wholes  atomic.Int64
	stopView       func()
}

func newViewed(t *testing.T) *viewed {
	t.Helper()
	harness.NeedsServers(t)
	v := &viewed{world: newWorld(t, sqliteURL(t)), inSQL: newProgress(), inRedis: newProgress()}
	v.server.Store(harness.NewRedis(t))
	v.client = redis.NewClient(&redis.Options{
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", v.server.Load().Addr)
		},
		MaxRetries: -1, DialerRetries: 1, ReadTimeout: time.Second,
	})
	t.Cleanup(func() { v.client.Close() })
	p, table := counters()
	v.table = table
	v.start(v.world.runner(p, v.inSQL).Run)
	p.Name, p.Target, p.Behind = p.Name+"_view", Redis, p.Name
	v.view = &View{Redis: v.client, Projection: p, Partitions: func(context.Context, string) (int, error) { return v.partitions, nil }}
	v.runner = v.world.runner(p, v.inRedis)
	v.runner.Redis = v.client
	v.stopView = v.start(v.runner.Run)
	v.start(v.relay().Run)
	v.log.addMany(testKeys, 1000)
	v.settled()
	return v
}

// settled waits until the view has everything and is whole, and compares each row.
func (v *viewed) settled() {
	v.t.Helper()
	last := v.log.last(v.partitions)
	v.inSQL.wait(v.t, last)
	got := eventually(v.t.(*testing.T), func() (map[string]counter, bool) {
		out := map[string]counter{}
		for key := range v.log.want(v.t) {
			rows, err := v.view.Read(v.t.Context(), Serving{Version: 1}, wire.BookingTopic, key)
			if err != nil || !rows.Whole || rows.Position < last[partitionOf(key, v.partitions)] {
				return nil, false
			}
			list, err := ViewTable(rows, v.table)
			if err != nil {
				v.t.Fatal(err)
			}
			for _, r := range list {
				out[r.Key] = r
			}
		}
		return out, true
	})
	same(v.t, v.log.want(v.t), got)
	same(v.t, v.log.want(v.t), v.rows(v.table))
}

// watched reads without end: whatever is answered as whole must be the fold up to the position that comes with it.
func (v *viewed) watched() (stop func()) {
	d := newDecoder(eventstore.NewCodec(catalog()), Projection{}, nil)
	return v.start(func(ctx context.Context) error {
		for ctx.Err() == nil {
			key := fmt.Sprintf("salon-%d", rand.IntN(testKeys))
			v.reads.Add(1)
			rows, err := v.view.Read(ctx, Serving{Version: 1}, wire.BookingTopic, key)
			if err != nil || !rows.Whole {
				continue
			}
			v.wholes.Add(1)
			list, err := ViewTable(rows, v.table)
			if err != nil {
				return err
			}
			want, err := v.log.at(d, key, rows.Position)
			if err != nil {
				return err
			}
			var got counter
			if len(list) > 0 {
				got = list[0]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				return fmt.Errorf("answered as whole at position %d (-fold +answer):\n%s", rows.Position, diff)
			}
		}
		return nil
	})
}

func (v *viewed) refills() (n int) {
	for _, s := range v.runner.Status() {
		n += s.Refills
	}
	return n
}

func (v *viewed) keyOf(name string) string {
	return redisKeys{v.view.Projection, wire.BookingTopic, partitionOf(name, v.partitions)}.rows(v.table.Def(), name)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Every way in which Redis can lose something, while events flow and while nothing happens: the view is whole again
// without an event, and nothing wrong was ever answered.
func TestAViewThatLostSomethingIsFilledAgain(t *testing.T) {
	t.Parallel()
	kill := func(t *testing.T, v *viewed) {
		v.server.Load().Kill()
		v.server.Load().Start(t)
	}
	faults := []struct {
		name  string
		fault func(t *testing.T, v *viewed)
	}{
		{"everything", func(t *testing.T, v *viewed) { must(t, v.client.FlushAll(t.Context()).Err()) }},
		{"a restart without data", kill},
		{"a restart with earlier data", func(t *testing.T, v *viewed) {
			v.server.Load().Save(t)
			v.log.addMany(testKeys, 300)
			v.inRedis.wait(t, v.log.last(v.partitions))
			kill(t, v)
		}},
		{"a replica promoted without the last writes", func(t *testing.T, v *viewed) {
			old := v.server.Load()
			replica := old.Replica(t)
			replica.Promote(t) // from here on it misses what the other is told, which does not know that yet
			v.log.addMany(testKeys, 300)
			v.inRedis.wait(t, v.log.last(v.partitions))
			old.Kill()
			v.server.Store(replica)
		}},
		{"one hash", func(t *testing.T, v *viewed) { must(t, v.client.Del(t.Context(), v.keyOf("salon-7")).Err()) }},
		{"one row", func(t *testing.T, v *viewed) {
			must(t, v.client.HDel(t.Context(), v.keyOf("salon-7"), "salon-7").Err())
		}},
		{"an index", func(t *testing.T, v *viewed) {
			must(t, v.client.Del(t.Context(), redisKeys{v.view.Projection, wire.BookingTopic, 1}.index()).Err())
		}},
		{"part of an index", func(t *testing.T, v *viewed) {
			k := redisKeys{v.view.Projection, wire.BookingTopic, partitionOf("salon-7", v.partitions)}
			must(t, v.client.HDel(t.Context(), k.index(), k.name(v.table.Def(), "salon-7")).Err())
		}},
		{"progress", func(t *testing.T, v *viewed) {
			must(t, v.client.Del(t.Context(), redisKeys{v.view.Projection, wire.BookingTopic, 1}.offset()).Err())
		}},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for name, live := range map[string]bool{"idle": false, "live": true} {
				t.Run(name, func(t *testing.T) {
					v := newViewed(t)
					stop, quiet := func() {}, func() {}
					if live { // events and reads; else nothing at all, so that only the watch can see it
						stop, quiet = v.watched(), v.flow()
					}
					began := time.Now()
					f.fault(t, v)
					eventually(t, func() (int, bool) { n := v.refills(); return n, n > 0 })
					took := time.Since(began)
					quiet()
					v.settled()
					stop()
					t.Logf("filled again after %v; %d of %d reads answered", took.Round(time.Millisecond), v.wholes.Load(), v.reads.Load())
				})
			}
		})
	}
}

// flow adds events, a few at a time, until it is stopped.
func (v *viewed) flow() (stop func()) {
	return v.start(func(ctx context.Context) error {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				v.log.addMany(testKeys, 5)
			}
		}
	})
}

// A server that evicts has no view, and says so; when it no longer does, the view comes back by itself.
func TestAViewIsRefusedWhereKeysAreEvicted(t *testing.T) {
	t.Parallel()
	v := newViewed(t)
	stop := v.watched()
	must(t, v.client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	must(t, v.client.ConfigSet(t.Context(), "maxmemory", "1100kb").Err())
	quiet := v.flow()
	eventually(t, func() (struct{}, bool) {
		for _, s := range v.runner.Status() {
			if !strings.Contains(s.Error, "maxmemory-policy allkeys-lru") {
				return struct{}{}, false
			}
		}
		return struct{}{}, true
	})
	rows, err := v.view.Read(t.Context(), Serving{Version: 1}, wire.BookingTopic, "salon-1")
	if err != nil || rows.Whole {
		t.Errorf("answered from a Redis that evicts: whole %v, %v", rows.Whole, err)
	}
	must(t, v.client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	must(t, v.client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	quiet()
	v.settled()
	stop()
	if v.client.Info(t.Context(), "stats").Val(); infoField(v.client.Info(t.Context(), "stats").Val(), "evicted_keys") == "0" {
		t.Error("nothing was evicted: the test shows nothing")
	}
}
