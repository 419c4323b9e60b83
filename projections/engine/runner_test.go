package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/projections/reads"
)

func sqliteURL(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "reads.db") }

// brokers runs a test on the broker in the process, and on the real one.
func brokers(t *testing.T, run func(t *testing.T, world func(t *testing.T, dbURL string) *world)) {
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, dbURL string) *world { return newWorld(t, dbURL) })
	})
	if address := realKafka(); address != "" {
		t.Run("kafka", func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, dbURL string) *world {
				w := &world{t: t, log: newLog(), brokers: strings.Split(address, ","), partitions: 4, prefix: "engine-" + strings.ToLower(rand.Text()[:8]) + "."}
				w.topics()
				w.db = openReads(t, dbURL)
				return w
			})
		})
	}
}

func TestRowsAreTheFoldOfTheLog(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, world func(*testing.T, string) *world) {
		for name, url := range databases(t) {
			t.Run(name, func(t *testing.T) {
				w := world(t, url(t))
				p, table := counters()
				seen := newProgress()
				w.log.addMany(50, 1000)
				w.start(w.relay().Run)
				w.start(w.runner(p, seen).Run)
				seen.wait(t, w.log.last(w.partitions))
				w.log.addMany(50, 1000)
				seen.wait(t, w.log.last(w.partitions))
				w.equal(table)
			})
		}
	})
}

// Members of a group come and go while events flow; every partition changes hands many times.
func TestRebalancesLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, world func(*testing.T, string) *world) {
		for name, url := range databases(t) {
			t.Run(name, func(t *testing.T) { rebalances(t, world(t, url(t))) })
		}
		// Eagerly: everybody gives up everything each time.
		t.Run("eager", func(t *testing.T) { rebalances(t, world(t, sqliteURL(t)), kgo.Balancers(kgo.RangeBalancer())) })
	})
}

func rebalances(t *testing.T, w *world, options ...kgo.Opt) {
	p, table := counters()
	seen := newProgress()
	member := func() (stop func(), owns func() bool) {
		r := w.runner(p, seen)
		r.Alone, r.SessionTimeout, r.MaxRecords, r.KafkaOptions = false, 6*time.Second, 20, options
		return w.start(r.Run), func() bool { return len(r.Status()) > 0 }
	}
	w.start(w.relay().Run)
	_, owns := member() // stays
	for range 3 {
		eventually(t, func() (bool, bool) { w.log.addMany(50, 5); return true, owns() })
		stop, joined := member()
		eventually(t, func() (bool, bool) { w.log.addMany(50, 5); return true, joined() })
		w.log.addMany(50, 500)
		stop() // in the middle of a batch, or between two
	}
	seen.wait(t, w.log.last(w.partitions))
	w.equal(table)
}

// The connection of the owner is cut after the fence and before the commit, again and again.
func TestAConnectionCutInsideTheTransaction(t *testing.T) {
	t.Parallel()
	for name, url := range databases(t) {
		if name == "sqlite" {
			continue // has no connection to cut
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, url(t))
			p, table := counters()
			seen := newProgress()
			fold, folded, cuts := p.Fold, atomic.Int64{}, atomic.Int64{}
			p.Fold = func(u *Unit, e Event) error {
				if folded.Add(1)%97 == 0 && cuts.Load() < 8 {
					cuts.Add(int64(w.cutConnections()))
				}
				return fold(u, e)
			}
			w.log.addMany(50, 2000)
			w.start(w.relay().Run)
			r := w.runner(p, seen)
			r.MaxRecords = 50
			w.start(r.Run)
			seen.wait(t, w.log.last(w.partitions))
			w.equal(table)
			if cuts.Load() == 0 {
				t.Error("no connection was cut: the test shows nothing")
			}
		})
	}
}

// cutConnections ends every connection that is inside a transaction of this test's database.
func (w *world) cutConnections() (cut int) {
	ctx := context.Background()
	rows, err := w.db.Writer().QueryContext(ctx,
		"SELECT p.id FROM information_schema.processlist p WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID() AND p.command = 'Sleep'")
	if err != nil {
		return 0
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if rows.Scan(&id) == nil {
			ids = append(ids, id)
		}
	}
	if rows.Err() != nil {
		return 0
	}
	for _, id := range ids {
		if _, err := w.db.Writer().ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err == nil {
			cut++
		}
	}
	return cut
}

// A runner that is killed in the middle of anything leaves whole batches.
func TestARunnerThatVanishes(t *testing.T) {
	t.Parallel()
	for name, url := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := time.Now().UnixNano()
			t.Logf("seed %d", seed)
			dice := mathrand.New(mathrand.NewPCG(uint64(seed), 1))
			w := newWorld(t, url(t))
			p, table := counters()
			w.log.addMany(30, 600)
			w.start(w.relay().Run)
			seen := newProgress()
			for range 10 {
				// Vanishing is a fold whose context is gone: the worker loses its partition inside the transaction.
				dies, r := p, w.runner(p, seen)
				at, n := dice.Int64N(100), atomic.Int64{}
				dead := make(chan struct{})
				dies.Fold = func(u *Unit, e Event) error {
					if n.Add(1) == at+1 {
						close(dead)
						r.lose()
					}
					return p.Fold(u, e)
				}
				r.Projection, r.MaxRecords = dies, 20
				stop := w.start(r.Run)
				w.log.addMany(30, 200)
				<-dead
				stop()
			}
			w.start(w.runner(p, seen).Run)
			seen.wait(t, w.log.last(w.partitions))
			w.equal(table)
		})
	}
}

// lose cuts every worker off, as a lost group membership does.
func (r *Runner) lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.subscribers {
		s.mu.Lock()
		for _, w := range s.workers {
			w.lose()
		}
		s.mu.Unlock()
	}
}

// Relays that do not know of each other, one of them always starting anew.
func TestZombieRelays(t *testing.T) {
	t.Parallel()
	brokers(t, func(t *testing.T, world func(*testing.T, string) *world) {
		w := world(t, sqliteURL(t))
		p, table := counters()
		seen := newProgress()
		w.start(w.runner(p, seen).Run)
		w.start(w.relay().Run)
		w.start(w.relay().Run)
		for range 5 {
			stop := w.start(w.relay().Run)
			w.log.addMany(20, 300)
			seen.wait(t, w.log.last(w.partitions))
			stop()
		}
		w.equal(table)
	})
}

// An event of a type that this release does not know stops its own partition and says so; the others go on.
func TestAnUnknownTypeStopsItsPartitionAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	p, _ := counters()
	seen := newProgress()
	w.log.addMany(50, 500)
	before := w.log.last(w.partitions)
	bad := int32(0)
	for part := range before {
		bad = part
	}
	r := w.runner(p, seen)
	w.start(w.relay().Run)
	w.start(r.Run)
	seen.wait(t, before)
	var at uint64
	for i := range 50 {
		if key := fmt.Sprintf("salon-%d", i); partitionOf(key, w.partitions) == bad {
			at = w.log.add(key, strange, added{})
			break
		}
	}
	w.log.addMany(50, 500)
	want := w.log.last(w.partitions)
	delete(want, bad)
	seen.wait(t, want)
	status := eventually(t, func() (PartitionStatus, bool) {
		for _, s := range r.Status() {
			if s.Part == bad && s.Error != "" {
				return s, true
			}
		}
		return PartitionStatus{}, false
	})
	if status.LastPos < before[bad] || status.LastPos >= at || status.Lag() == 0 { // markers move it past other partitions' events
		t.Errorf("stopped at %d with lag %d, want before %d with some", status.LastPos, status.Lag(), at)
	}
	for _, s := range r.Status() {
		if s.Part != bad && s.Error != "" {
			t.Errorf("partition %d stopped too: %s", s.Part, s.Error)
		}
	}
}

func TestAViewIsWholeOnlyOnceItHasCaughtUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	server := miniredis.RunT(t)
	client := redisClient(t, "redis://"+server.Addr()+"/0")
	p, table := counters()
	p.Target, p.Behind = Redis, "counters"
	v := &View{Redis: client, Projection: p, Partitions: func(ctx context.Context, topic string) (n int, err error) {
		err = w.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
			n, err = Partitions(ctx, q, topic)
			return err
		})
		return n, err
	}}
	if rows, err := v.Read(t.Context(), Serving{Version: 1}, p.Topics[0], "salon-1"); err != nil || rows.Whole {
		t.Fatalf("before anything ran: whole %v, %v", rows.Whole, err)
	}
	seen := newProgress()
	w.log.addMany(50, 1000)
	w.start(w.relay().Run)
	r := w.runner(p, seen)
	r.Redis = client
	w.start(r.Run)
	seen.wait(t, w.log.last(w.partitions))
	same(t, w.log.want(t), viewRows(t, v, table, w.log))

	// Redis forgets everything: nothing is answered, and then the log fills it again.
	server.FlushAll()
	if rows, err := v.Read(t.Context(), Serving{Version: 1}, p.Topics[0], "salon-1"); err != nil || rows.Whole {
		t.Fatalf("after a flush: whole %v, %v", rows.Whole, err)
	}
	r.FencedWait = 10 * time.Millisecond
	w.log.addMany(50, 1000)
	seen.wait(t, w.log.last(w.partitions))
	same(t, w.log.want(t), viewRows(t, v, table, w.log))
}

func TestRedisAwayForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	server := miniredis.RunT(t)
	client := redisClient(t, "redis://"+server.Addr()+"/0")
	p, table := counters()
	p.Target = Redis
	v := &View{Redis: client, Projection: p, Partitions: func(context.Context, string) (int, error) { return w.partitions, nil }}
	seen := newProgress()
	r := w.runner(p, seen)
	r.Redis = client
	w.start(w.relay().Run)
	w.start(r.Run)
	w.log.addMany(50, 500)
	seen.wait(t, w.log.last(w.partitions))
	server.Close()
	w.log.addMany(50, 500)
	eventually(t, func() (struct{}, bool) {
		for _, s := range r.Status() {
			if s.Error != "" {
				return struct{}{}, true
			}
		}
		return struct{}{}, false
	})
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	seen.wait(t, w.log.last(w.partitions))
	same(t, w.log.want(t), viewRows(t, v, table, w.log))
	eventually(t, func() (struct{}, bool) {
		for _, s := range r.Status() {
			if s.Error != "" {
				return struct{}{}, false
			}
		}
		return struct{}{}, true
	})
}

// A broker that lost its tail ends below our offset. The relay fills it again, and pos and prev decide what is new.
func TestALogThatEndsBelowOurOffset(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	p, table := counters()
	seen := newProgress()
	w.log.addMany(50, 500)
	w.start(w.relay().Run)
	stop := w.start(w.runner(p, seen).Run)
	seen.wait(t, w.log.last(w.partitions))
	stop()
	if _, err := w.db.Writer().ExecContext(t.Context(), "UPDATE projection_offsets SET next_offset = next_offset + 1000"); err != nil {
		t.Fatal(err)
	}
	// The relay has filled the log beyond where it was cut before anybody looks.
	w.log.addMany(50, 500)
	other, _ := counters()
	refilled := newProgress()
	w.start(w.runner(other, refilled).Run)
	refilled.wait(t, w.log.last(w.partitions))
	w.start(w.runner(p, seen).Run)
	seen.wait(t, w.log.last(w.partitions))
	w.equal(table)
}

// The oracle is worth something only if it sees what it is there for.
func TestTheOracleSeesWhatTheEngineAvoids(t *testing.T) {
	t.Parallel()
	broken := map[string]func(t *testing.T, tg *sqlTarget, l *log, d *decoder){
		"without deduplication": func(t *testing.T, tg *sqlTarget, l *log, d *decoder) {
			records := l.records(0, 1)
			records = append(records[:20:20], records[10:]...)
			o := claimed(t, tg)
			for _, r := range records {
				pos, err := number(r, "pos")
				if err != nil {
					t.Fatal(err)
				}
				from := o.progress()
				from.LastPos = pos - 1 // whatever came before, this one looks new
				b := &batch{records: []*kgo.Record{r}, owner: o}
				if err := d.plan(b, from); err != nil {
					t.Fatal(err)
				}
				if _, err := o.apply(t.Context(), b); err != nil {
					t.Fatal(err)
				}
			}
		},
		"with an epoch looked up at write time": func(t *testing.T, tg *sqlTarget, l *log, d *decoder) {
			records := l.records(0, 1)
			stale := claimed(t, tg).(*sqlOwner)
			fresh := claimed(t, tg).(*sqlOwner)
			if err := applyTo(t.Context(), fresh, d, records[:20]); err != nil {
				t.Fatal(err)
			}
			planned := &batch{records: records[:20], owner: stale}
			if err := d.plan(planned, stale.progress()); err != nil {
				t.Fatal(err)
			}
			stale.at = fresh.at
			if _, err := stale.apply(t.Context(), planned); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, breakIt := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, table := counters()
			w := &world{t: t, log: newLog(), db: openReads(t, sqliteURL(t))}
			if err := EnsureTables(t.Context(), w.db, p); err != nil {
				t.Fatal(err)
			}
			tg := newSQLTarget(w.db, p, 100)
			defer tg.close()
			w.log.addMany(3, 40)
			breakIt(t, tg, w.log, newDecoder(w.runner(p, newProgress()).Codec, p, nil))
			if fmt.Sprint(w.rows(table)) == fmt.Sprint(w.log.want(t)) {
				t.Error("the oracle sees no difference")
			}
		})
	}
}

func eventually[T any](t *testing.T, check func() (T, bool)) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if v, ok := check(); ok {
			return v
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("never came to be")
		}
	}
}
