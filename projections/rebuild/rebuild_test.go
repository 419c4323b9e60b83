package rebuild

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

func sortRows(c []counter, n []note) {
	slices.SortFunc(c, func(a, b counter) int { return cmp.Compare(a.Key, b.Key) })
	slices.SortFunc(n, func(a, b note) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.N, b.N)) })
}

// equal holds a version's rows to the fold of the store.
func (w *world) equal(p engine.Projection) {
	w.t.Helper()
	w.caughtUp(p)
	if diff := gocmp.Diff(w.want(p), w.rows(p.Version)); diff != "" {
		w.t.Errorf("%s is not the fold of the store (-want +got):\n%s", p.ID(), diff)
	}
}

// underLoad appends as fast as the version that serves applies it, until the returned function is called.
func (w *world) underLoad() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			w.store.addMany(40, 50)
			w.caughtUp(w.newest.Earlier[0])
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(done); <-ended }) }
	w.t.Cleanup(stop)
	return stop
}

func TestAVersionIsRebuiltUnderLoadAndEqualsTheFold(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(300, 5000)
		for range 2000 { // one key whose history does not fit into memory
			w.store.add("busy", added{int64(len(w.store.all()))})
		}
		w.caughtUp(w.newest.Earlier[0])
		stop := w.underLoad()
		worker := w.worker()
		worker.MostRows = 100
		w.start(worker.Run)
		r := w.ask(Request{Kind: Rebuild, Projection: "toy", By: "analyst:mina"})
		stop()
		if r.State != Done || r.Version != 2 || r.Rows == 0 {
			t.Fatalf("%+v", r)
		}
		w.equal(w.newest)
		w.equal(w.newest.Earlier[0])

		for _, q := range []Request{
			{Kind: Rebuild, Projection: "toy"}, {Kind: Rebuild, Projection: "toy@1"}, {Kind: Drop, Projection: "toy", Options: Options{Confirm: "toy_v2"}},
			{Kind: Drop, Projection: "toy@1", Options: Options{Confirm: "toy_v1"}}, {Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy"}}, {Kind: Rollback, Projection: "toy"},
			{Kind: Switch, Projection: "toy@1"}, {Kind: Switch, Projection: "toy", Options: Options{Force: true}},
		} {
			var no *RefusedError
			if _, err := w.desk.Ask(t.Context(), q); !errors.As(err, &no) {
				t.Errorf("%+v: %v", q, err)
			}
		}
		for name, is := range map[string]bool{"toy": true, "toy@2": true, "toy_v2": true, "toy@1": false, "top": false, "toy@3": false} {
			if w.desk.Concerns(name, r) != is {
				t.Errorf("a run of toy concerns %s: %t", name, !is)
			}
		}
		for name, want := range map[string]int{"toy": 1, "toy@2": 1, "toy_v1": 0} {
			if all, err := w.desk.Runs(t.Context(), name); err != nil || len(all) != want {
				t.Errorf("runs of %s: %+v, %v", name, all, err)
			}
		}
		for _, name := range []string{"top", "toy@3", "toy@x", "toy_v3"} {
			if _, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: name}); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %v", name, err)
			}
		}

		if r := w.ask(Request{Kind: Switch, Projection: "toy", Options: Options{Force: true, Reason: "a test"}}); r.Reason != "a test" || r.Against != 1 {
			t.Errorf("%+v", r)
		}
		w.serves(2)
		w.ask(Request{Kind: Rollback, Projection: "toy"})
		w.serves(1)
		stop = w.underLoad()
		verified := w.ask(Request{Kind: Verify, Projection: "toy"})
		stop()
		if verified.State != Done || verified.Report == nil || !verified.Report.Equal() || verified.Report.Rows < 600 || len(verified.Report.Expected) != 1 {
			t.Errorf("%+v: %+v", verified, verified.Report)
		}
		if r := w.ask(Request{Kind: Switch, Projection: "toy"}); r.Reason != "" || r.Against != 1 {
			t.Errorf("%+v", r)
		}
		w.serves(2)
		w.ask(Request{Kind: Rollback, Projection: "toy"})
		w.serves(1)
		if r := w.ask(Request{Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy_v2"}}); r.State != Done {
			t.Errorf("%+v", r)
		}
		w.gone(w.newest)
		w.equal(w.newest.Earlier[0])
		w.ask(Request{Kind: Rebuild, Projection: "toy"}) // and once more
		w.equal(w.newest)
	})
}

func (w *world) serves(version int) {
	w.t.Helper()
	if v, found, err := engine.ActiveVersion(w.t.Context(), w.db.Reader(), "toy"); v != version || !found || err != nil {
		w.t.Errorf("version %d serves (%v, %v), want %d", v, found, err, version)
	}
}

// gone looks for anything that is left of a version.
func (w *world) gone(p engine.Projection) {
	w.t.Helper()
	ctx, q := w.t.Context(), w.db.Reader()
	if s, err := engine.StateOf(ctx, q, p); s != "" || err != nil {
		w.t.Errorf("%s is %s, %v", p.ID(), s, err)
	}
	places, err := engine.PlacesOf(ctx, q, []string{p.ID()})
	if len(places) > 0 || err != nil {
		w.t.Errorf("offsets of %s are left: %v, %v", p.ID(), places, err)
	}
	for _, table := range []string{"counters_v2", "notes_v2"} {
		var n int
		if err := q.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table).Scan(&n); err == nil {
			w.t.Errorf("table %s is left, with %d rows", table, n)
		}
	}
	if w.redis != nil {
		view, _ := w.view.At(p.Version)
		if left := w.keysOf(view); len(left) > 0 {
			w.t.Errorf("%d keys of %s are left: %.3q", len(left), view.ID(), left)
		}
	}
	var n int
	if err := q.QueryRowContext(ctx, "SELECT COUNT(*) FROM projection_slices").Scan(&n); n > 0 || err != nil {
		w.t.Errorf("%d slices are left, %v", n, err)
	}
}

func TestAnotherWorkerGoesOnWithoutRedoingSlices(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(2000, 8000)
		w.caughtUp(w.newest.Earlier[0])
		first := w.worker()
		first.Parallel, first.MostRows = 1, 200
		portions, half := 0, make(chan struct{})
		first.At = func(phase string) {
			if phase == Loading {
				if portions++; portions == 10 {
					close(half)
				}
			}
		}
		dies := w.start(first.Run)
		r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
		must(t, err)
		<-half
		dies()
		before := w.store.read
		var done int
		must(t, w.db.Reader().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM projection_slices").Scan(&done))
		if done == 0 || done == eventstore.Slices {
			t.Fatalf("%d slices are done: not in the middle", done)
		}
		if _, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"}); err == nil || !strings.Contains(err.Error(), "has not ended") {
			t.Errorf("a second rebuild: %v", err)
		}
		w.start(w.worker().Run)
		if r := w.ended(r.ID); r.State != Done {
			t.Fatalf("%+v", r)
		}
		// Keys are spread over the slices, so that those which are left have about their share of the events.
		all := len(w.store.all())
		if rest := w.store.read - before; rest > all*(eventstore.Slices-done)/eventstore.Slices+all/10 {
			t.Errorf("%d of %d events were read after %d slices were done", rest, all, done)
		}
		w.equal(w.newest)
	})
}

func TestAStaleWorkerWritesNothing(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
		must(t, err)
		stale, taken, err := take(t.Context(), w.db, r)
		if !taken || err != nil {
			t.Fatal(taken, err)
		}
		fresh, taken, err := take(t.Context(), w.db, r)
		if !taken || err != nil {
			t.Fatal(taken, err)
		}
		if _, err := stale.tell(t.Context(), r); !errors.Is(err, errLost) {
			t.Errorf("the one before: %v", err)
		}
		if _, err := fresh.tell(t.Context(), r); err != nil {
			t.Errorf("the one after: %v", err)
		}
	})
}

func TestARunThatIsCancelledOrFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(500, 2000)
		w.caughtUp(w.newest.Earlier[0])
		worker := w.worker()
		held, let := make(chan struct{}), make(chan struct{})
		var once sync.Once
		worker.Parallel, worker.MostRows = 1, 100
		worker.At = func(phase string) {
			if phase == Loading {
				once.Do(func() { close(held); <-let })
			}
		}
		w.start(worker.Run)
		r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
		must(t, err)
		<-held
		_, err = w.desk.Cancel(t.Context(), r.ID)
		must(t, err)
		close(let)
		if r := w.ended(r.ID); r.State != Cancelled {
			t.Errorf("%+v", r)
		}
		w.gone(w.newest)

		w.store.add("salon-1", foreign{})
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Failed || !strings.Contains(r.Detail, "foreign") {
			t.Errorf("%+v", r)
		}
		w.gone(w.newest)
	})
}

func TestARebuildWaitsForAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(50, 500)
		w.caughtUp(w.newest.Earlier[0])
		away := func(is bool) { w.store.mu.Lock(); w.store.away = is; w.store.mu.Unlock() }
		away(true)
		w.start(w.worker().Run)
		r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
		must(t, err)
		w.until(r.ID, func(r Run) bool { return strings.Contains(r.Detail, "waits") })
		away(false)
		if r := w.ended(r.ID); r.State != Done {
			t.Errorf("%+v", r)
		}
		w.equal(w.newest)
	})
}
