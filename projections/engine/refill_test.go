package engine

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/reads"
)

// gate stops a client before its n-th script of a kind, until it is opened.
type gate struct {
	script  *redis.Script
	n       atomic.Int64
	arrived chan struct{}
	open    chan struct{}
	largest atomic.Int64 // arguments of a script
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook                               { return next }
func (g *gate) ProcessPipelineHook(n redis.ProcessPipelineHook) redis.ProcessPipelineHook { return n }
func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		g.largest.Store(max(g.largest.Load(), int64(len(c.Args()))))
		if c.Name() == "evalsha" && c.Args()[1] == g.script.Hash() && g.n.Add(-1) == 0 {
			close(g.arrived)
			<-g.open
		}
		return next(ctx, c)
	}
}

// refilling is a SQL projection with rows, and targets of a view before it, on one Redis.
type refilling struct {
	t      *testing.T
	log    *log
	db     *reads.DB
	sql    owner
	d      *decoder
	view   Projection
	table  *Table[counter]
	client *redis.Client
	offset int
}

func newRefilling(t *testing.T, dbURL string, open func(*testing.T) *redis.Client) *refilling {
	t.Helper()
	p, table := counters()
	w := &world{t: t, log: newLog(), db: openReads(t, dbURL)}
	must(t, EnsureTables(t.Context(), w.db, p))
	must(t, noteTopic(t.Context(), w.db, wire.BookingTopic, 1, "id", true))
	target := newSQLTarget(w.db, p, 10)
	t.Cleanup(target.close)
	r := &refilling{t: t, log: w.log, db: w.db, sql: claimed(t, target), d: newDecoder(eventstore.NewCodec(catalog()), p, nil), table: table, client: open(t)}
	r.view = p
	r.view.Name, r.view.Target, r.view.Behind = p.Name+"_view", Redis, p.Name
	return r
}

// project brings the SQL projection up to the end of the log.
func (r *refilling) project() {
	r.t.Helper()
	records := r.log.records(0, 1)
	for len(records[r.offset:]) > 0 {
		n := min(1000, len(records)-r.offset)
		must(r.t, applyTo(r.t.Context(), r.sql, r.d, records[r.offset:r.offset+n]))
		r.offset += n
	}
}

func (r *refilling) target(client *redis.Client) *redisTarget {
	tg := newRedisTarget(client, r.view, 10)
	tg.db = r.db
	return tg
}

func (r *refilling) claim(client *redis.Client) *redisOwner {
	r.t.Helper()
	return claimed(r.t, r.target(client)).(*redisOwner)
}

func (r *refilling) whole() bool {
	r.t.Helper()
	rows, err := r.reader().Read(r.t.Context(), Serving{Version: 1}, wire.BookingTopic, "salon-1")
	must(r.t, err)
	return rows.Whole
}

func (r *refilling) reader() *View {
	return &View{Redis: r.client, Projection: r.view, Partitions: func(context.Context, string) (int, error) { return 1, nil }}
}

// stopped is a client that stops before its n-th script of a kind.
func (r *refilling) stopped(script *redis.Script, n int64) (*redis.Client, *gate) {
	c := redis.NewClient(&redis.Options{Addr: r.client.Options().Addr, DB: r.client.Options().DB})
	r.t.Cleanup(func() { c.Close() })
	g := &gate{script: script, arrived: make(chan struct{}), open: make(chan struct{})}
	g.n.Store(n)
	c.AddHook(g)
	return c, g
}

// fillUntil starts a refill that stops at its client's gate.
func (r *refilling) fillUntil(o *redisOwner, g *gate) (result chan error) {
	result = make(chan error, 1)
	go func() {
		_, err := o.refill(context.WithoutCancel(r.t.Context()))
		result <- err
	}()
	<-g.arrived
	return result
}

// An owner that stands still in the middle of a refill is overtaken by its successor. It goes on while the successor is
// in the middle of its own: none of its rows, which are older, comes among the successor's, none of those is cleared
// away, and it does not call the view whole.
func TestAStaleRefillAddsNothing(t *testing.T) {
	t.Parallel()
	for name, open := range redises(t) {
		for step, script := range map[string]*redis.Script{"clear": clearScript, "rows": fillScript, "finish": finishScript} {
			t.Run(name+"/"+step, func(t *testing.T) {
				t.Parallel()
				r := newRefilling(t, sqliteURL(t), open)
				r.log.addMany(2*pageRows, 4*pageRows)
				r.project()
				// Something to clear, for the one that comes after.
				first := r.claim(r.client)
				_, err := first.refill(t.Context())
				must(t, err)
				must(t, r.client.HDel(t.Context(), first.keys.offset(), "hashes").Err())

				client, g := r.stopped(script, 1)
				stale := r.claim(client)
				staleResult := r.fillUntil(stale, g)
				if r.whole() {
					t.Error("whole in the middle of a refill")
				}
				r.log.addMany(2*pageRows, 2*pageRows)
				r.project()
				client, h := r.stopped(fillScript, 2)
				successor := r.claim(client)
				if successor.why == "" {
					t.Fatal("the successor does not see that the refill did not end")
				}
				result := r.fillUntil(successor, h)
				close(g.open)
				if err := <-staleResult; !errors.Is(err, ErrFenced) {
					t.Errorf("the stale refill ended with %v, want fenced", err)
				}
				if r.whole() {
					t.Error("whole in the middle of the successor's refill")
				}
				close(h.open)
				must(t, <-result)
				same(t, r.log.want(t), r.everything(successor))
				if !r.whole() {
					t.Error("not whole after the refill")
				}
				for range 2*pageRows/lookHashes + 1 {
					must(t, successor.look(t.Context()))
				}
			})
		}
	}
}

// A key that is parked behind the view has only the rows before its poison: it is parked in the view as well.
func TestAParkedKeyIsParkedInTheViewThatIsFilled(t *testing.T) {
	t.Parallel()
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRefilling(t, sqliteURL(t), open)
			r.log.addMany(20, 400)
			r.project()
			at := r.sql.progress()
			_, err := r.sql.apply(t.Context(), &batch{topic: wire.BookingTopic, owner: r.sql, after: at, change: &parkChange{now: &Parked{
				Projection: strings.TrimSuffix(r.view.ID(), "_view_v1") + "_v1", Topic: wire.BookingTopic, Key: "salon-1", FromPos: at.LastPos + 1, AfterPos: at.LastPos,
				EventType: spoiled{}.EventType(), Cause: "spoiled", Attempts: 1, ParkedAt: time.UnixMicro(1),
			}}})
			must(t, err)
			o := r.claim(r.client)
			_, err = o.refill(t.Context())
			must(t, err)
			rows, err := r.reader().Read(t.Context(), Serving{Version: 1}, wire.BookingTopic, "salon-1")
			must(t, err)
			if !rows.Whole || !rows.Parked || rows.ParkedFrom != at.LastPos+1 {
				t.Errorf("whole %v, parked %v from %d", rows.Whole, rows.Parked, rows.ParkedFrom)
			}
			for _, o := range []*redisOwner{o, r.claim(r.client)} {
				if p := o.parked()["salon-1"]; p.FromPos != at.LastPos+1 || p.Projection != r.view.ID() {
					t.Errorf("the owner knows %+v", p)
				}
			}
			same(t, r.log.want(t), viewRows(t, r.reader(), r.table, r.log))
		})
	}
}

// A process that dies in the middle leaves a view that nobody answers from, and that the next one fills from the start.
func TestARefillThatNeverEnds(t *testing.T) {
	t.Parallel()
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRefilling(t, sqliteURL(t), open)
			r.log.addMany(3*pageRows, 4*pageRows)
			r.project()
			for n := int64(1); n <= 3; n++ {
				client, g := r.stopped(fillScript, n)
				ctx, die := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				o := r.claim(client)
				wg.Go(func() { _, _ = o.refill(ctx) })
				<-g.arrived
				die()
				close(g.open)
				wg.Wait()
				if r.whole() {
					t.Fatal("whole after a refill that did not end")
				}
			}
			o := r.claim(r.client)
			_, err := o.refill(t.Context())
			must(t, err)
			same(t, r.log.want(t), r.everything(o))
			// And on it goes, from the offset that came with the rows.
			r.log.addMany(3*pageRows, pageRows)
			must(t, applyTo(t.Context(), o, r.d, r.log.records(0, 1)[o.progress().NextOffset:]))
			same(t, r.log.want(t), r.everything(o))
			if !r.whole() {
				t.Error("not whole in the end")
			}
		})
	}
}

// Rows of before the index was lost are nobody's: they are not answered, and not folded upon.
func TestRowsThatTheIndexDoesNotKnow(t *testing.T) {
	t.Parallel()
	for name, open := range redises(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRefilling(t, sqliteURL(t), open)
			r.log.addMany(20, 400)
			r.project()
			o := r.claim(r.client)
			stray := func(key string) {
				must(t, r.client.HSet(t.Context(), o.keys.rows(r.table.Def(), key), key, `{"Key":"`+key+`","Count":1000}`, "more", "{}").Err())
			}
			stray("salon-1") // as if written before
			stray("salon-new")
			_, err := o.refill(t.Context())
			must(t, err)
			same(t, r.log.want(t), viewRows(t, r.reader(), r.table, r.log))
			rows, err := r.reader().Read(t.Context(), Serving{Version: 1}, wire.BookingTopic, "salon-new")
			must(t, err)
			if list, err := ViewTable(rows, r.table); err != nil || len(list) > 0 || !rows.Whole {
				t.Errorf("answered %v, whole %v, %v", list, rows.Whole, err)
			}
			r.log.addMany(20, 40)
			r.log.add("salon-new", added{}.EventType(), added{5})
			must(t, applyTo(t.Context(), o, r.d, r.log.records(0, 1)[o.progress().NextOffset:]))
			same(t, r.log.want(t), viewRows(t, r.reader(), r.table, r.log))
			must(t, o.look(t.Context()))
		})
	}
}

// However large a partition is, a page is what one script gets.
func TestALargePartitionIsFilledPageByPage(t *testing.T) {
	t.Parallel()
	all := databases(t)
	if all["mysql"] != nil {
		delete(all, "sqlite") // one is enough
		delete(all, "mariadb")
	}
	for name, url := range all {
		t.Run(name, func(t *testing.T) {
			open := redises(t)["redis"]
			if open == nil {
				open = redises(t)["miniredis"]
			}
			r := newRefilling(t, url(t), open)
			const rows = 50_000
			r.log.addMany(rows, rows*10/9+10) // one in ten is of a type that is not folded
			r.project()
			client, g := r.stopped(fillScript, -1)
			o := r.claim(client)
			began := time.Now()
			n, err := o.refill(t.Context())
			must(t, err)
			t.Logf("%d rows in %v, at most %d arguments a script", n, time.Since(began).Round(time.Millisecond), g.largest.Load())
			if most := int64(10 + 6*pageRows); g.largest.Load() > most {
				t.Errorf("a script had %d arguments, want at most %d", g.largest.Load(), most)
			}
			want := r.log.want(t)
			if n != len(want) || !r.whole() {
				t.Errorf("%d rows copied, want %d; whole %v", n, len(want), r.whole())
			}
			same(t, want, r.everything(o))
		})
	}
}

// everything is all rows of the view's one partition, with few round trips.
func (r *refilling) everything(o *redisOwner) map[string]counter {
	r.t.Helper()
	names, err := r.client.HKeys(r.t.Context(), o.keys.index()).Result()
	must(r.t, err)
	answers, err := r.client.Pipelined(r.t.Context(), func(p redis.Pipeliner) error {
		for _, name := range names {
			p.HVals(r.t.Context(), o.keys.tag()+name)
		}
		return nil
	})
	must(r.t, err)
	out := map[string]counter{}
	for _, a := range answers {
		for _, text := range a.(*redis.StringSliceCmd).Val() {
			var row counter
			must(r.t, json.Unmarshal([]byte(text), &row))
			out[row.Key] = row
		}
	}
	return out
}
