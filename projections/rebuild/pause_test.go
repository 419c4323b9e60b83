package rebuild

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/projections/engine"
)

// A paused version stands still, whoever else goes on and whichever projector is started, and goes on where it was.
func TestAPausedVersionStandsStill(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(50, 500)
		w.start(w.worker().Run)
		w.ask(Request{Kind: Rebuild, Projection: "toy"})
		old := w.newest.Earlier[0]
		w.caughtUp(old)
		if r := w.ask(Request{Kind: Pause, Projection: "toy", Options: Options{Reason: "a look at its rows"}}); r.Version != 1 || r.Reason == "" {
			t.Errorf("paused %+v", r) // the one that serves
		}
		for _, q := range []Request{
			{Kind: Pause, Projection: "toy@1"}, {Kind: Resume, Projection: "toy@2"}, {Kind: Rebuild, Projection: "toy@1"}, {Kind: Verify, Projection: "toy@2"},
		} {
			var no *RefusedError
			if _, err := w.desk.Ask(t.Context(), q); !errors.As(err, &no) || q.Kind == Verify && !strings.Contains(no.Why, "resume toy@1") {
				t.Errorf("%+v: %v", q, err)
			}
		}
		w.stopProjector(old) // it may not have looked yet
		before := w.rows(1)
		w.stops[1] = w.start((&engine.Runner{
			Projection: old, Brokers: w.kafka, DB: w.db, Codec: codec(), Store: w.store, Alone: true, Log: w.log(),
		}).Run)
		w.store.addMany(50, 500)
		w.caughtUp(w.newest)
		if diff := cmp.Diff(before, w.rows(1)); diff != "" {
			t.Errorf("it moved: %s", diff)
		}
		w.ask(Request{Kind: Resume, Projection: "toy"})
		w.caughtUp(old)
		w.equal(old)

		// One that runs stops by itself.
		w.ask(Request{Kind: Pause, Projection: "toy@2"})
		w.eventually(func() bool {
			before := w.rows(2)
			w.store.add("salon-1", added{7})
			w.caughtUp(old)
			return cmp.Equal(before, w.rows(2))
		})
		w.ask(Request{Kind: Resume, Projection: "toy@2"})
		w.caughtUp(w.newest)
		w.equal(w.newest)
	})
}
