package rebuild

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

func TestMain(m *testing.M) { storetest.Children{"worker": stopsAt}.Main(m) }

// point is where a worker process stops and waits to be killed.
type point struct {
	Reads string
	Redis string // address; "": there is no view
	Kafka []string
	Phase string
	Times int  // how often the phase is told before
	Begun bool // only where a slice is there in part
	Keys  int  // of the history, which every process makes by itself
	Count int
}

// stopsAt is a worker as another process: it works until it comes to the point.
func stopsAt(ctx context.Context, args []string) error {
	var at point
	if err := json.Unmarshal([]byte(args[0]), &at); err != nil {
		return err
	}
	db, err := reads.Open(ctx, at.Reads)
	if err != nil {
		return err
	}
	w := &world{store: newMemory(), db: db, kafka: at.Kafka, desk: &Desk{DB: db, Of: []engine.Projection{toy(nil)}}}
	if at.Redis != "" {
		client := redis.NewClient(&redis.Options{Addr: at.Redis})
		defer client.Close()
		w.desk.Of, w.desk.Views = append(w.desk.Of, toy(nil).InRedis("toy_view")), engine.Views{DB: db, Redis: client}
	}
	w.store.addMany(at.Keys, at.Count)
	w.store.addBusy(at.Count / 4)
	told := 0
	return (&Worker{
		Desk: w.desk, Store: w.store, Codec: codec(), Ends: w.ends, Parallel: 1, MostRows: 200, Patience: 2 * time.Second,
		At: func(phase string) {
			if phase == at.Phase && (!at.Begun || begun(ctx, db) > 0) {
				if told++; told > at.Times {
					fmt.Fprintln(os.Stdout, "arrived")
					select {}
				}
			}
		},
	}).Run(ctx)
}

// Each phase, and some places within: what comes after the kill is another worker's, in another process.
func TestAWorkerIsKilledInEachPhase(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	for name, url := range map[string]func(testing.TB) string{"mysql": harness.MySQL, "mariadb": harness.MariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := point{Reads: url(t), Redis: harness.NewRedis(t).Addr, Keys: 1500, Count: 6000}
			w := newWorld(t, at.Reads, toy(nil))
			w.withView(at.Redis)
			at.Kafka = w.kafka
			w.store.addMany(at.Keys, at.Count)
			w.store.addBusy(at.Count / 4)
			w.caughtUp(w.newest.Earlier[0])
			const inParts = 1 // of a slice that is not whole
			// killed has a worker process come to a point, kills it there, and lets a worker of ours do the rest.
			killed := func(q Request, phase string, times int) Run {
				t.Helper()
				at.Phase, at.Times = phase, times
				at.Begun = phase == Loading && times == inParts
				arg, err := json.Marshal(at)
				must(t, err)
				r, err := w.desk.Ask(t.Context(), q)
				must(t, err)
				cmd := storetest.Child(t, "worker", string(arg))
				cmd.Stderr = nil
				child := harness.StartCommand(t, cmd)
				child.Await(t, "arrived")
				child.Kill()
				next := w.worker()
				next.Patience = time.Second
				stop := w.start(next.Run)
				r = w.ended(r.ID)
				stop()
				if r.State != Done {
					t.Fatalf("killed while %s (%d): %+v", phase, times, r)
				}
				return r
			}
			for i, p := range []struct {
				phase string
				times int
			}{{Preparing, 0}, {Loading, 0}, {Loading, 7}, {Loading, inParts}, {Indexing, 0}, {CatchingUp, 0}, {Filling, 0}} {
				killed(Request{Kind: Rebuild, Projection: "toy"}, p.phase, p.times)
				w.equal(w.newest)
				w.indexed(w.newest)
				w.equal(w.newest.Earlier[0])
				w.viewEquals(w.view)
				old := w.keysOf(w.view.Earlier[0])
				if i == 0 {
					if r := killed(Request{Kind: Verify, Projection: "toy"}, Comparing, 0); !r.Report.Equal() {
						t.Errorf("%+v", r.Report)
					}
					if r := killed(Request{Kind: Verify, Projection: "toy@2", Options: Options{Fresh: true}}, Comparing, 0); !r.Report.Equal() {
						t.Errorf("%+v", r.Report)
					}
					killed(Request{Kind: Rebuild, Projection: "toy@2", Options: Options{Key: "salon-0"}}, Loading, 0)
					w.equal(w.newest)
				}
				killed(Request{Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy_v2"}}, Removing, i) // within: half of its keys are left
				w.gone(w.newest)
				if kept := w.keysOf(w.view.Earlier[0]); !slices.Equal(kept, old) {
					t.Errorf("%d keys of the view's older version are left of %d", len(kept), len(old))
				}
				w.viewEquals(w.view.Earlier[0])
			}
		})
	}
}
