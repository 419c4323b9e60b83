package rebuild

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
)

// A history that does not fit into memory even by itself is written down in parts.

// addBusy adds events of one key, each of which makes a row.
func (m *memory) addBusy(events int) {
	for range events {
		m.add("busy", added{int64(len(m.all()))})
	}
}

// neighbour is another key of the slice of "busy".
func neighbour(n int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprintf("beside-%d", i); eventstore.Slice(key) == eventstore.Slice("busy") {
			if n--; n < 0 {
				return key
			}
		}
	}
}

// begun is the position through which a slice is there that is not whole; 0: there is none.
func begun(ctx context.Context, db *reads.DB) (through uint64) {
	_ = db.Reader().QueryRowContext(ctx, "SELECT COALESCE(MAX(through), 0) FROM projection_slices").Scan(&through)
	return through
}

// watched notes from where on the slice of "busy" is read.
type watched struct {
	*memory

	mu    sync.Mutex
	after []uint64
}

func (s *watched) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	if f.Key == "" && f.Slices.Has(eventstore.Slice("busy")) {
		s.mu.Lock()
		s.after = append(s.after, after)
		s.mu.Unlock()
	}
	return s.memory.ReadAll(ctx, after, f)
}

func TestASliceInPartsGoesOnWhereAWorkerDied(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		p, _ := fragile()
		w := newWorld(t, url, p)
		early, late, first := neighbour(0), neighbour(1), neighbour(2)
		want := map[string]uint64{}
		w.store.addMany(300, 1000)
		for i := range 8 {
			w.store.addBusy(150)
			for _, key := range []string{early, late} {
				w.store.add(key, added{int64(i)})
				w.store.add(key, undone{int64(i / 2)})
			}
			switch {
			case i == 1: // in a part that is there when the worker dies
				want[early] = w.store.add(early, spoiled{refusing})
			case i == 4: // after it
				want[first] = w.store.add(first, spoiled{panicking})
			case i == 6 && w.db.Dialect() == reads.MySQL:
				want[late] = w.store.add(late, spoiled{tooLong})
			}
		}
		w.caughtUp(p.Earlier[0])

		half := make(chan struct{})
		dies := w.start(func(ctx context.Context) error {
			worker, once := w.worker(), sync.Once{}
			worker.Parallel, worker.MostRows = 1, 200
			worker.At = func(phase string) {
				if through := begun(ctx, w.db); phase == Loading && through > want[early] {
					once.Do(func() { close(half) })
					<-ctx.Done()
				}
			}
			return worker.Run(ctx)
		})
		r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy"})
		must(t, err)
		<-half
		dies()
		through := begun(t.Context(), w.db)
		if through == 0 || through >= want[first] {
			t.Fatalf("it died at position %d", through)
		}

		store := &watched{memory: w.store}
		next := w.worker()
		next.Store, next.Parallel, next.MostRows = store, 2, 200
		w.start(next.Run)
		if r := w.ended(r.ID); r.State != Done {
			t.Fatalf("%+v", r)
		}
		if len(store.after) == 0 || slices.Min(store.after) != through {
			t.Errorf("of a slice that is there through %d, events were read after %v", through, store.after)
		}
		if diff := gocmp.Diff(want, w.parkedIn(p)); diff != "" {
			t.Errorf("parked (-want +got):\n%s", diff)
		}
		if diff := gocmp.Diff(w.wantUpTo(p, want), w.rows(2)); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		w.indexed(p)
	})
}

// slow is a store that is silent, in the midst of what does not fit into memory, for longer than a server bears with a
// transaction that is.
type slow struct {
	*memory
	silent func()

	mu    sync.Mutex
	pause int // how often yet
}

func (s *slow) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := 0
		for e, err := range s.memory.ReadAll(ctx, after, f) {
			if n++; n == 100 && after > 0 && f.Slices.Len() == 1 {
				s.mu.Lock()
				if s.pause--; s.pause >= 0 {
					s.silent()
				}
				s.mu.Unlock()
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestNoTransactionIsOpenWhileTheStoreIsRead(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	w := newWorld(t, harness.MariaDB(t), toy(nil))
	w.store.addMany(300, 1000)
	w.store.addBusy(1500)
	w.caughtUp(w.newest.Earlier[0])
	store := &slow{memory: w.store, pause: 2, silent: func() {
		witness, err := w.db.Writer().BeginTx(t.Context(), nil)
		must(t, err)
		defer func() { _ = witness.Rollback() }()
		_, err = witness.ExecContext(t.Context(), "INSERT INTO projection_slices (run_id, slice) VALUES ('witness', 0)")
		must(t, err)
		// It waits for the witness, which the server ends before this gives up.
		_, err = w.db.Writer().ExecContext(t.Context(), "UPDATE projection_slices SET slice = 1 WHERE run_id = 'witness' AND slice = 0")
		must(t, err)
		if witness.Commit() == nil {
			t.Error("the server bore with the witness")
		}
	}}
	var said bytes.Buffer
	worker := w.worker()
	worker.Store, worker.Parallel, worker.MostRows = store, 1, 200
	worker.Log = slog.New(slog.NewTextHandler(&said, nil))
	stop := w.start(worker.Run)
	if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Done {
		t.Errorf("%+v", r)
	}
	stop()
	if store.pause >= 0 || strings.Contains(said.String(), "run waits") {
		t.Errorf("%d pauses are left; the worker said:\n%s", store.pause, said.String())
	}
	w.equal(w.newest)
}
