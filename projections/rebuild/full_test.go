package rebuild

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/internal/harness"
)

// storage is room that a test takes away from a reads database, and gives back.
type storage struct {
	take, give func()
}

// onSmallStorage runs a test on databases whose files cannot grow for ever.
func onSmallStorage(t *testing.T, run func(t *testing.T, w *world, s storage)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "reads.db"), toy(nil))
		do := func(statements ...string) {
			for _, q := range statements {
				if _, err := w.db.Writer().ExecContext(context.WithoutCancel(t.Context()), q); err != nil {
					t.Errorf("%s: %v", q, err)
				}
			}
		}
		run(t, w, storage{
			take: func() { do("VACUUM", "PRAGMA max_page_count = 1") }, // that is: as many as it has, none of them free
			give: func() { do("PRAGMA max_page_count = 1000000") },
		})
	})
	if testing.Short() {
		return
	}
	// Not MariaDB: 10.11 was seen to crash when it rolls back a load whose file could not grow. What a rebuild does then is
	// TestARebuildOutlivesItsDatabase.
	t.Run("mysql", func(t *testing.T) {
		t.Parallel()
		server := harness.NewMySQL(t)
		url := server.Database(t)
		// The tables' folder is a disk of its own: the server's logs are elsewhere, as they should be.
		disk := filepath.Join(server.Dir, path.Base(url))
		harness.SmallDiskAt(t, disk, 48)
		ballast := filepath.Join(disk, "ballast")
		run(t, newWorld(t, url, toy(nil)), storage{take: func() { fill(t, ballast) }, give: func() { must(t, os.Remove(ballast)) }})
	})
}

// fill writes a file until its disk has no room.
func fill(t *testing.T, name string) {
	f, err := os.Create(name)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0 && (err == nil || errors.Is(err, syscall.ENOSPC)); chunk = chunk[:len(chunk)/2] {
		for err = nil; err == nil; {
			_, err = f.Write(chunk)
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}

// The storage of the read models is full in the midst of loading: the run says so and waits, what serves stays as it is and
// answers, and with room again the run goes on to the end. One that is cancelled meanwhile is gone, and may be asked anew.
func TestARebuildOutlivesAFullDisk(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	onSmallStorage(t, func(t *testing.T, w *world, s storage) {
		w.store.addMany(4000, 25_000)
		w.caughtUp(w.newest.Earlier[0])
		worker := w.worker()
		worker.Parallel, worker.MostRows = 1, 400
		passes, plenty := 0, new(atomic.Bool)
		worker.At = func(phase string) {
			if phase != Loading {
				passes = 0
			} else if passes++; passes == 3 && !plenty.Load() { // of the phase itself, and two passes
				s.take()
			}
		}
		w.start(worker.Run)
		full := func() Run {
			serving := w.rows(1)
			r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
			must(t, err)
			r = w.until(r.ID, func(r Run) bool { return r.Ended() || strings.Contains(r.Detail, "no room left") })
			if r.State != Running || r.Phase != Loading || r.Done == 0 || r.Done == r.Total {
				t.Fatalf("it does not wait in the midst of loading: %+v", r)
			}
			if diff := gocmp.Diff(serving, w.rows(1)); diff != "" {
				t.Errorf("what serves has changed (-want +got):\n%s", diff)
			}
			w.store.addMany(100, 500) // meanwhile
			return r
		}

		r := full()
		s.give()
		if r = w.ended(r.ID); r.State != Done || strings.Contains(r.Detail, "no room") {
			t.Fatalf("with room again: %+v", r)
		}
		w.caughtUp(w.newest)
		w.equal(w.newest)
		w.equal(w.newest.Earlier[0])

		if r := w.ask(Request{Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy_v2"}}); r.State != Done {
			t.Fatalf("%+v", r)
		}
		r = full()
		_, err := w.desk.Cancel(t.Context(), r.ID)
		must(t, err)
		if r = w.ended(r.ID); r.State != Cancelled {
			t.Errorf("cancelled while there is no room: %+v", r)
		}
		if _, err := w.db.Reader().QueryContext(t.Context(), "SELECT 1 FROM notes_v2"); err == nil { //nolint:sqlclosecheck,rowserrcheck // there are no rows
			t.Error("the room that it had is not free")
		}
		s.give()
		plenty.Store(true)
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Done {
			t.Fatalf("asked anew: %+v", r)
		}
		w.caughtUp(w.newest)
		w.equal(w.newest)
		w.equal(w.newest.Earlier[0])
	})
}
