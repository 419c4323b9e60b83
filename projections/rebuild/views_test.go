package rebuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
)

// keysOf lists every key in Redis that says it is of a version of the view.
func (w *world) keysOf(p engine.Projection) (keys []string) {
	w.t.Helper()
	all := w.redis.Scan(w.t.Context(), 0, "*", 1000).Iterator()
	for all.Next(w.t.Context()) {
		if strings.Contains(all.Val(), p.ID()) {
			keys = append(keys, all.Val())
		}
	}
	must(w.t, all.Err())
	slices.Sort(keys)
	return slices.Compact(keys) // a scan may list one twice
}

// serving is a version as a pointer to it would name it.
func (w *world) serving(version int) (s engine.Serving) {
	w.t.Helper()
	must(w.t, w.db.Reader().QueryRowContext(w.t.Context(), "SELECT version, generation FROM projection_versions WHERE projection = 'toy' AND version = ?", version).
		Scan(&s.Version, &s.Generation))
	return s
}

// viewRows are all rows of a version of the view; whole is false when one partition does not answer, or has not come to the
// end of the store.
func (w *world) viewRows(version int) (out []any, whole bool, err error) {
	view, serving := engine.View{Redis: w.redis, Projection: w.view, Partitions: func(context.Context, string) (int, error) { return partitions, nil }}, w.serving(version)
	last := map[string]uint64{}
	for _, e := range w.store.all() {
		last[e.Key] = e.Position
	}
	var c []counter
	var n []note
	for key, position := range last {
		rows, err := view.Read(w.t.Context(), serving, wire.BookingTopic, key)
		if err != nil || !rows.Whole || rows.Position < position {
			return nil, false, err
		}
		someC, err := engine.ViewTable(rows, counters)
		if err != nil {
			return nil, false, err
		}
		someN, err := engine.ViewTable(rows, notes)
		if err != nil {
			return nil, false, err
		}
		c, n = append(c, someC...), append(n, someN...)
	}
	sortRows(c, n)
	return []any{c, n}, true, nil
}

// viewEquals waits until a version of the view has everything, and holds its rows to the fold of the store.
func (w *world) viewEquals(p engine.Projection) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		rows, whole, err := w.viewRows(p.Version)
		if whole {
			if diff := gocmp.Diff(w.want(p), rows); diff != "" {
				w.t.Errorf("%s is not the fold of the store (-want +got):\n%s", p.ID(), diff)
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("%s is not whole and at the end of the store: %v", p.ID(), err)
		}
	}
}

func TestAViewIsBuiltMovedAndDroppedWithItsTables(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.withView(harness.NewRedis(t).Addr)
		old := w.view.Earlier[0]
		w.store.addMany(300, 5000)
		w.store.add("}:toy_view_v2:", added{1}) // a key that looks like one of ours
		w.caughtUp(w.newest.Earlier[0])
		w.viewEquals(old)
		if keys := w.keysOf(w.view); len(keys) != 2 { // that one's counter and note
			t.Fatalf("a view of a version that there is not: %q", keys)
		}
		w.store.addMany(300, 10)
		worker := w.worker()
		var filled atomic.Bool
		worker.At = func(phase string) { // of several goroutines
			if phase == Filling {
				filled.Store(true)
			}
		}
		endWorker := w.start(worker.Run)
		stop := w.underLoad()
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Done || !filled.Load() || r.Total != partitions {
			t.Fatalf("%+v, filled %v", r, filled.Load())
		}
		stop()
		w.viewEquals(w.view)
		w.viewEquals(old)
		var no *RefusedError
		for _, kind := range []Kind{Rebuild, Verify, Switch, Rollback, Drop} {
			if _, err := w.desk.Ask(t.Context(), Request{Kind: kind, Projection: "toy_view@2"}); !errors.As(err, &no) || !strings.Contains(err.Error(), "a view of toy_v2") {
				t.Errorf("%s of a view: %v", kind, err)
			}
		}
		w.ask(Request{Kind: Verify, Projection: "toy"})
		w.ask(Request{Kind: Switch, Projection: "toy"})
		w.ask(Request{Kind: Rollback, Projection: "toy"})
		w.store.addMany(300, 500)
		w.viewEquals(w.view)
		w.viewEquals(old)
		kept := w.keysOf(old)
		if r := w.ask(Request{Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy_v2"}}); r.State != Done {
			t.Errorf("%+v", r)
		}
		if keys := w.keysOf(w.view); len(keys) != 2 {
			t.Errorf("left, or gone with it: %.5q", keys)
		}
		if now := w.keysOf(old); !slices.Equal(now, kept) {
			t.Errorf("%d keys of the other version are left of %d", len(now), len(kept))
		}
		w.viewEquals(old)
		w.ask(Request{Kind: Rebuild, Projection: "toy"}) // and once more
		w.viewEquals(w.view)
		endWorker()
	})
}

// A switch to a version whose view is not filled would send every reader to the tables: it is refused, and may be forced.
func TestASwitchWaitsForTheView(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	w := newWorld(t, harness.MySQL(t), toy(nil))
	w.view = w.newest.InRedis("toy_view") // known, and nobody fills it
	w.store.addMany(50, 500)
	w.caughtUp(w.newest.Earlier[0])
	w.start(w.worker().Run)
	w.ask(Request{Kind: Rebuild, Projection: "toy"})
	w.ask(Request{Kind: Verify, Projection: "toy"})
	own := harness.NewRedis(t)
	view := w.view
	w.withView(own.Addr)
	w.viewEquals(view)
	refused := func(says string) {
		t.Helper()
		var no *RefusedError
		if _, err := w.desk.Ask(t.Context(), Request{Kind: Switch, Projection: "toy"}); !errors.As(err, &no) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	own.Kill()
	refused("whether the view toy_view_v2 is filled cannot be told: Redis, which has the view toy_view_v2: ")
	w.ask(Request{Kind: Switch, Projection: "toy", Options: Options{Force: true, Reason: "a test"}})
	w.ask(Request{Kind: Rollback, Projection: "toy"}) // asks for nothing
	w.desk.Views.Redis = nil
	refused("no Redis was named")
	w.desk.Views.Redis = w.redis
	own.Start(t)
	w.viewEquals(view)
	must(t, w.redis.HSet(t.Context(), "{"+wire.BookingTopic+"/1}:toy_view_v2:offset", "filling", "a test").Err())
	refused("filled in 3 of 4 partitions")
	must(t, w.redis.HDel(t.Context(), "{"+wire.BookingTopic+"/1}:toy_view_v2:offset", "filling").Err())
	if r, err := w.desk.Ask(t.Context(), Request{Kind: Switch, Projection: "toy"}); err != nil || r.Reason != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// Redis dies, forgets, or forgets within a rebuild: the run waits and says for whom, the older version is untouched, and in the
// end both views are the fold.
func TestRedisIsAwayWhileVersionsAreBuiltAndDropped(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	for name, url := range map[string]func(testing.TB) string{"mysql": harness.MySQL, "mariadb": harness.MariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, url(t), toy(nil))
			own := harness.NewRedis(t)
			w.withView(own.Addr)
			w.store.addMany(300, 3000)
			w.viewEquals(w.view.Earlier[0])
			var at atomic.Pointer[func(phase string)]
			worker := w.worker()
			worker.At = func(phase string) {
				if f := at.Load(); f != nil {
					(*f)(phase)
				}
			}
			w.start(worker.Run)
			once := func(when string, do func()) {
				var one sync.Once
				f := func(phase string) {
					if phase == when {
						one.Do(do)
					}
				}
				at.Store(&f)
			}
			waits := func(q Request) {
				t.Helper()
				r, err := w.desk.Ask(t.Context(), q)
				must(t, err)
				w.until(r.ID, func(r Run) bool {
					if r.Ended() {
						t.Fatalf("%+v", r)
					}
					return strings.Contains(r.Detail, "waits, and tries again: Redis, which has the view toy_view_v2: ")
				})
				w.equal(w.newest.Earlier[0]) // and goes on
				w.store.addMany(300, 100)
				w.equal(w.newest.Earlier[0])
				own.Start(t) // without what it had
				if r = w.ended(r.ID); r.State != Done {
					t.Fatalf("%+v", r)
				}
				w.viewEquals(w.view.Earlier[0])
			}
			drop := Request{Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy_v2"}}

			once(Filling, own.Kill)
			waits(Request{Kind: Rebuild, Projection: "toy"})
			w.viewEquals(w.view)
			once(Removing, own.Kill)
			waits(drop)
			w.gone(w.newest)

			once(CatchingUp, func() { must(t, w.redis.FlushAll(context.Background()).Err()) })
			w.ask(Request{Kind: Rebuild, Projection: "toy"})
			w.viewEquals(w.view)
			w.viewEquals(w.view.Earlier[0])
			must(t, w.redis.FlushAll(t.Context()).Err())
			w.viewEquals(w.view)
			w.viewEquals(w.view.Earlier[0])

			// Cancelled while it waits for the view: nothing is left.
			w.ask(drop)
			hold := make(chan struct{})
			once(Filling, func() { <-hold })
			r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
			must(t, err)
			w.until(r.ID, func(r Run) bool { return r.Phase == Filling })
			_, err = w.desk.Cancel(t.Context(), r.ID)
			must(t, err)
			close(hold)
			if r = w.ended(r.ID); r.State != Cancelled && r.State != Done {
				t.Errorf("%+v", r)
			}
			if r.State == Cancelled {
				w.gone(w.newest)
			}
			w.viewEquals(w.view.Earlier[0])
		})
	}
}

// What Redis has of a version that was dropped, from a backup, is of another life: it is neither answered nor folded upon.
func TestABackupOfAnEarlierLifeIsNotBelieved(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	var wrong atomic.Bool
	wrong.Store(true)
	w := newWorld(t, harness.MySQL(t), toy(func(c *counter) {
		if wrong.Load() {
			c.Largest += 1000
		}
	}))
	own := harness.NewRedis(t)
	w.withView(own.Addr)
	w.store.addMany(100, 1000)
	w.start(w.worker().Run)
	w.ask(Request{Kind: Rebuild, Projection: "toy"})
	w.viewEquals(w.view)
	own.Save(t)
	backup, err := os.ReadFile(filepath.Join(own.Dir, "dump.rdb"))
	must(t, err)
	w.ask(Request{Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy_v2"}})
	w.gone(w.newest)
	wrong.Store(false)
	own.Kill()
	must(t, os.WriteFile(filepath.Join(own.Dir, "dump.rdb"), backup, 0o600))
	own.Start(t)
	if len(w.keysOf(w.view)) == 0 {
		t.Fatal("the backup has nothing of it")
	}
	w.ask(Request{Kind: Rebuild, Projection: "toy"})
	w.viewEquals(w.view)
}
