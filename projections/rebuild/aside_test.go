package rebuild

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
)

// What only looks at a version that is live, or mends a key of it, does not wait for a rebuild of another; and the version is
// not dropped under it.
func TestALiveVersionIsLookedAtBesideARebuild(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(50, 500)
		w.caughtUp(w.newest.Earlier[0])
		worker := w.worker()
		worker.Parallel = 1
		held, on := make(chan struct{}), make(chan struct{})
		var stopAt atomic.Value
		stopAt.Store(Indexing)
		worker.At = func(phase string) {
			if phase != stopAt.Load() {
				return
			}
			for _, c := range []chan struct{}{held, on} { // there, and on again
				select {
				case c <- struct{}{}:
				case <-t.Context().Done():
				}
			}
		}
		w.start(worker.Run)
		ask := func(q Request) Run {
			r, err := w.desk.Ask(t.Context(), q)
			must(t, err)
			return r
		}
		refused := func(q Request, says string) {
			var no *RefusedError
			if _, err := w.desk.Ask(t.Context(), q); !errors.As(err, &no) || no.Code != "projection.busy" || !strings.Contains(no.Why, says) {
				t.Errorf("%s of %s: %v, want it to wait for %s", q.Kind, q.Projection, err, says)
			}
		}
		rebuild := ask(Request{Kind: Rebuild, Projection: "toy"})
		<-held
		if r := w.ask(Request{Kind: Verify, Projection: "toy", Options: Options{Fresh: true}}); r.State != Done || r.Version != 1 || !r.Report.Equal() {
			t.Errorf("beside the rebuild: %+v", r)
		}
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Key: "salon-0"}}); r.State != Done || r.Version != 1 || r.Rows == 0 {
			t.Errorf("beside the rebuild: %+v", r)
		}
		refused(Request{Kind: Rebuild, Projection: "toy"}, "the rebuild of toy_v2, run "+rebuild.ID)
		<-on
		if r := w.ended(rebuild.ID); r.State != Done {
			t.Fatalf("%+v", r)
		}
		w.caughtUp(w.newest)
		w.equal(w.newest)

		drop := Request{Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy_v2"}}
		fresh := Request{Kind: Verify, Projection: "toy@2", Options: Options{Fresh: true}}
		stopAt.Store(Comparing)
		look := ask(fresh)
		<-held
		refused(drop, "the verify of toy_v2, run "+look.ID)
		refused(fresh, "the verify of toy_v2, run "+look.ID)
		stopAt.Store(Removing)
		<-on
		if r := w.ended(look.ID); r.State != Done || !r.Report.Equal() {
			t.Errorf("%+v", r)
		}
		gone := ask(drop)
		<-held
		refused(fresh, "the drop of toy_v2, run "+gone.ID)
		<-on
		if r := w.ended(gone.ID); r.State != Done {
			t.Errorf("%+v", r)
		}
	})
}
