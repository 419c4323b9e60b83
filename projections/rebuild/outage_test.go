package rebuild

import (
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
)

// The database of the read models is killed after the first rows of a rebuild are there, and comes back: the same worker goes
// on, and the rows are right.
func TestARebuildOutlivesItsDatabase(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	if testing.Short() {
		return
	}
	for name, start := range map[string]func(testing.TB) *harness.OwnMySQL{"mysql": harness.NewMySQL, "mariadb": harness.NewMariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			w := newWorld(t, server.Database(t), toy(nil))
			w.store.addMany(500, 2000)
			w.caughtUp(w.newest.Earlier[0])
			worker := w.worker()
			worker.Parallel, worker.MostRows = 1, 100
			times := 0
			worker.At = func(phase string) {
				if phase != Loading {
					return
				}
				if times++; times == 3 { // of the phase itself, and two passes
					server.Kill()
					server.Start(t)
				}
			}
			w.start(worker.Run)
			if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Done {
				t.Fatalf("%+v", r)
			}
			if times < 4 {
				t.Errorf("only %d passes: nothing was shown", times-1)
			}
			w.caughtUp(w.newest)
			w.equal(w.newest)
			w.equal(w.newest.Earlier[0])
		})
	}
}
