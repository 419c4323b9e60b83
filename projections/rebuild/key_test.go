package rebuild

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
)

func TestTheRowsOfAKeyAreMadeAgainWhileItIsWritten(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		old := w.newest.Earlier[0]
		w.store.addMany(200, 2000)
		w.caughtUp(old)
		w.start(w.worker().Run)
		stop := w.underLoad() // of the first forty keys, whose rows their owner remembers
		for _, key := range []string{"salon-0", "salon-8", "salon-100"} {
			w.byHand(
				"UPDATE counters_v1 SET order_hash = 'spoilt' WHERE `key` = '"+key+"'",
				"DELETE FROM notes_v1 WHERE `key` = '"+key+"'",
				"INSERT INTO notes_v1 (`key`, n, at_position, ordering_key) VALUES ('"+key+"', 77, 1, '"+key+"')",
			)
			r := w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Key: key}})
			if r.State != Done || r.Version != 1 || r.Events == 0 || r.Rows == 0 || r.Detail != "" {
				t.Fatalf("%+v", r)
			}
		}
		for range 20 { // exactly once, however often, and whatever is on its way
			w.ask(Request{Kind: Rebuild, Projection: "toy@1", Options: Options{Key: "salon-0"}})
		}
		stop()
		w.equal(old)
		if r := w.ask(Request{Kind: Verify, Projection: "toy", Options: Options{Fresh: true}}); r.Report == nil || !r.Report.Equal() {
			t.Errorf("%+v: %+v", r, r.Report)
		}

		// What its owner remembers is forgotten.
		w.byHand("UPDATE counters_v1 SET order_hash = 'spoilt' WHERE `key` = 'salon-150'")
		w.store.add("salon-150", added{2})
		w.caughtUp(old)
		w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Key: "salon-150"}})
		w.store.add("salon-150", added{3})
		w.equal(old)

		// Rows of a key that the store does not have go.
		w.byHand("INSERT INTO notes_v1 (`key`, n, at_position, ordering_key) VALUES ('stranger', 1, 1, 'stranger')")
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Key: "stranger"}}); r.State != Done || r.Rows != 0 {
			t.Errorf("%+v", r)
		}
		w.equal(old)
		w.refused(Request{Kind: Rebuild, Projection: "toy@2", Options: Options{Key: "salon-0"}})
		w.serves(1)
	})
}

// mendable is the toy whose version 1 refuses spoiled events until it is mended, or takes them again once it is spoiled.
func mendable() (p engine.Projection, mended *atomic.Bool) {
	p, mended = toy(nil), &atomic.Bool{}
	fold := p.Earlier[0].Fold
	p.Earlier[0].Fold = func(u *engine.Unit, e engine.Event) error {
		if _, is := e.Event.(spoiled); is {
			if !mended.Load() {
				return errors.New("refused")
			}
			e.Event = added{1}
		}
		return fold(u, e)
	}
	return p, mended
}

func TestAKeyThatIsParkedIsMadeAgain(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		p, mended := mendable()
		old := p.Earlier[0]
		w := newWorld(t, url, p)
		w.store.addMany(50, 500)
		at := w.store.add("salon-3", spoiled{})
		w.store.addMany(50, 500)
		w.caughtUp(old)
		w.start(w.worker().Run)
		if diff := gocmp.Diff(map[string]uint64{"salon-3": at}, w.parkedIn(old)); diff != "" {
			t.Fatal(diff)
		}
		w.byHand("UPDATE counters_v1 SET order_hash = 'spoilt' WHERE `key` = 'salon-3'")
		r := w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Key: "salon-3"}})
		if r.State != Done || !strings.Contains(r.Detail, "still parked") {
			t.Errorf("%+v", r)
		}
		if diff := gocmp.Diff(w.wantUpTo(old, map[string]uint64{"salon-3": at}), w.rows(1)); diff != "" {
			t.Errorf("rows up to where it waits (-want +got):\n%s", diff)
		}
		if diff := gocmp.Diff(map[string]uint64{"salon-3": at}, w.parkedIn(old)); diff != "" {
			t.Error(diff)
		}

		mended.Store(true)
		stop := w.underLoad()
		r = w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Key: "salon-3"}})
		stop()
		if r.State != Done || !strings.Contains(r.Detail, "not any more") || len(w.parkedIn(old)) != 0 {
			t.Errorf("%+v", r)
		}
		w.store.add("salon-3", added{4}) // goes on as any other
		w.equal(old)

		// A release that fails at what the rows have already leaves them alone.
		mended.Store(false)
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Key: "salon-3"}}); r.State != Failed || !strings.Contains(r.Detail, "refused") {
			t.Errorf("%+v", r)
		}
		mended.Store(true)
		w.equal(old)
	})
}

func TestAViewsRowsOfAKeyAreMadeAgain(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	w := newWorld(t, harness.MySQL(t), toy(nil))
	w.withView(harness.NewRedis(t).Addr)
	old := w.view.Earlier[0]
	w.store.addMany(100, 1000)
	w.caughtUp(w.newest.Earlier[0])
	w.viewEquals(old)
	w.start(w.worker().Run)
	stop := w.underLoad()
	for range 5 {
		spoiled := 0
		for _, key := range w.keysOf(old) { // what somebody did by hand, that no count shows
			if strings.HasSuffix(key, ":salon-60") && strings.Contains(key, "counters") {
				must(t, w.redis.HSet(t.Context(), key, "salon-60", `{"Key":"salon-60","Count":-1}`).Err())
				spoiled++
			}
		}
		if spoiled != 1 {
			t.Fatalf("%d hashes of the key among %v", spoiled, w.keysOf(old))
		}
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Key: "salon-60"}}); r.State != Done {
			t.Errorf("%+v", r)
		}
	}
	stop()
	w.equal(w.newest.Earlier[0])
	w.viewEquals(old)
}
