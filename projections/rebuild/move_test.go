package rebuild

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// refused asks for what must be refused.
func (w *world) refused(q Request) {
	w.t.Helper()
	var no *RefusedError
	if r, err := w.desk.Ask(w.t.Context(), q); !errors.As(err, &no) {
		w.t.Errorf("%s of %s: %+v, %v, want it refused", q.Kind, q.Projection, r, err)
	}
}

// The store's last event goes to no topic and is younger than all others: a version that was rebuilt stands there, and
// nobody else ever will.
func TestAnIdleVersionDoesNotLagBehindOneThatWasRebuilt(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(20, 100)
		w.caughtUp(w.newest.Earlier[0])
		w.store.addTo("admin-analyst-mina", "mina", ignored{}, time.Now().Add(time.Hour))
		w.start(w.worker().Run)
		w.ask(Request{Kind: Rebuild, Projection: "toy"})
		w.ask(Request{Kind: Verify, Projection: "toy"})
		w.ask(Request{Kind: Switch, Projection: "toy"})
		w.ask(Request{Kind: Rollback, Projection: "toy"})
		w.serves(1)
		w.ask(Request{Kind: Rollback, Projection: "toy"})
		w.serves(2)

		// And one that does lag is told.
		w.stopProjector(w.newest.Earlier[0])
		for _, at := range []time.Time{time.Now().Add(2 * time.Hour), time.Now().Add(3 * time.Hour)} {
			for i := range 20 {
				key := string(rune('a' + i))
				w.store.addTo("groomer-"+key, key, added{1}, at)
			}
		}
		w.caughtUp(w.newest)
		w.refused(Request{Kind: Rollback, Projection: "toy"})
		w.serves(2)
	})
}

func TestAnOlderVersionIsBuiltAgainVerifiedAndServes(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(20, 100)
		w.caughtUp(w.newest.Earlier[0])
		w.start(w.worker().Run)
		w.ask(Request{Kind: Rebuild, Projection: "toy"})
		w.refused(Request{Kind: Rollback, Projection: "toy@2"}) // it never served
		w.ask(Request{Kind: Verify, Projection: "toy"})
		w.ask(Request{Kind: Switch, Projection: "toy"})
		w.ask(Request{Kind: Drop, Projection: "toy@1", Options: Options{Confirm: "toy_v1"}})
		w.ask(Request{Kind: Rebuild, Projection: "toy@1"})
		w.refused(Request{Kind: Rollback, Projection: "toy"}) // the one that served was dropped; this one is not proved
		w.serves(2)
		r := w.ask(Request{Kind: Verify, Projection: "toy@1"})
		if r.State != Done || r.Against != 2 || r.Report == nil || !r.Report.Equal() {
			t.Fatalf("%+v: %+v", r, r.Report)
		}
		w.ask(Request{Kind: Rollback, Projection: "toy"})
		w.serves(1)
	})
}

// A worker that froze before it made tables, and wakes when its run is cancelled and cleared away.
func TestAWorkerThatWakesLateMakesNoTables(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
		must(t, err)
		l, _, err := take(t.Context(), w.db, r)
		must(t, err)
		late := &work{Worker: w.worker(), lease: l, run: r}
		must(t, late.prepare(t.Context(), w.newest))
		next := func() *work {
			l, taken, err := take(context.Background(), w.db, r)
			if err != nil || !taken {
				t.Errorf("%v, %v", taken, err)
			}
			return &work{Worker: w.worker(), lease: l, run: late.run}
		}
		must(t, next().remnants(t.Context()))
		if err := late.load(t.Context(), w.newest); !errors.Is(err, errLost) {
			t.Errorf("%v", err)
		}
		w.gone(w.newest)

		// It froze a moment later, with the lease looked at: who takes over waits for it, and clears away what it made.
		late = next()
		late.run.plan = nil
		must(t, late.prepare(t.Context(), w.newest))
		cleared := make(chan error, 1)
		err = late.lease.define(t.Context(), func(ctx context.Context, x reads.Conn) error {
			begun := make(chan struct{})
			go func() {
				close(begun)
				cleared <- next().remnants(context.Background())
			}()
			<-begun
			return engine.MakeBareTables(ctx, x, w.db.Dialect(), w.newest)
		})
		must(t, err)
		must(t, <-cleared)
		w.gone(w.newest)
	})
}
