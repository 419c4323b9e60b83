package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// indexed holds a version's indexes to those of the version that began with the log, which made them with its tables.
func (w *world) indexed(p engine.Projection) {
	w.t.Helper()
	of := func(table engine.AnyTable, version int) (out []string) {
		name := table.Def().Name(version)
		query := "SELECT DISTINCT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND index_name <> 'PRIMARY' AND table_name = ?"
		if w.db.Dialect() == reads.SQLite {
			query = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?"
		}
		rows, err := w.db.Reader().QueryContext(w.t.Context(), query, name)
		must(w.t, err)
		defer rows.Close()
		for rows.Next() {
			var index string
			must(w.t, rows.Scan(&index))
			out = append(out, table.Def().Base+": "+strings.TrimPrefix(index, name+"_"))
		}
		must(w.t, rows.Err())
		return out
	}
	names := func(p engine.Projection) (out []string) {
		for _, table := range p.Tables {
			out = append(out, of(table, p.Version)...)
		}
		slices.Sort(out)
		return out
	}
	want := names(w.newest.Earlier[0])
	if diff := gocmp.Diff(want, names(p)); diff != "" || len(want) != 4 {
		w.t.Errorf("indexes of %s (-want +got):\n%s", p.ID(), diff)
	}
}

// passes counts how often a store is read through.
type passes struct {
	*memory
	n int
}

func (s *passes) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	if f.Key == "" {
		s.mu.Lock()
		s.n++
		s.mu.Unlock()
	}
	return s.memory.ReadAll(ctx, after, f)
}

// A store without an index over slices reads all it has for each pass.
func TestAHistoryThatFitsIsReadOnceAWorker(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(2000, 5000)
		w.caughtUp(w.newest.Earlier[0])
		store := &passes{memory: w.store}
		worker := w.worker()
		worker.Store, worker.Parallel = store, 2
		w.start(worker.Run)
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Done || r.Detail != "" {
			t.Errorf("%+v", r)
		}
		if store.n != 2 {
			t.Errorf("the store was read %d times", store.n)
		}
		w.equal(w.newest)
		w.indexed(w.newest)
	})
}

// One reader brings the events to all workers: what fits is read once, and what does not once for each of a few rounds, in
// which several passes are made. Keys are parked as otherwise.
func TestAStoreWithoutAnIndexIsReadOnceForAllWorkers(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(2000, 8000)
		w.caughtUp(w.newest.Earlier[0])
		for _, c := range []struct{ most, reads, made int }{{0, 1, 2}, {1000, 4, 5}} {
			store, made := &passes{memory: w.store}, new(atomic.Int64)
			worker := w.worker()
			worker.Store, worker.Scans, worker.Parallel, worker.MostRows = store, true, 2, c.most
			worker.At = func(phase string) {
				if phase == Loading {
					made.Add(1)
				}
			}
			stop := w.start(worker.Run)
			if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Done {
				t.Errorf("%+v", r)
			}
			t.Logf("%d passes, the store was read %d times", made.Load()-1, store.n)
			if store.n > c.reads || int(made.Load())-1 < c.made { // the phase itself is told once
				t.Errorf("the store was read %d times for %d passes", store.n, made.Load()-1)
			}
			w.equal(w.newest)
			w.indexed(w.newest)
			w.ask(Request{Kind: Drop, Projection: "toy@2", Options: Options{Confirm: "toy_v2"}})
			stop()
		}
	})
}

// A worker that fails ends the reader, and the others, which take what they have for no more than it is.
func TestAReaderEndsWithAWorkerThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		store Source
		fail  bool
	}{"a worker": {newEndless(1_000_000, 2000, 1, 1<<30), true}, "the store": {&failing{broken}, false}} {
		k := &work{Worker: &Worker{Store: c.store}, run: Run{plan: &plan{Head: 1 << 40}}}
		var whole atomic.Int64
		err := k.together(t.Context(), []eventstore.SliceRange{{From: 0, To: 512}, {From: 512, To: 1024}}, 0, nil, func(ctx context.Context, from Events, r eventstore.SliceRange) error {
			n := 0
			for _, err := range from.ReadAll(ctx, 0, eventstore.Filter{Slices: r}) {
				if err != nil {
					return err
				}
				if n++; c.fail && r.From == 0 && n == 10 {
					return broken
				}
			}
			whole.Add(1)
			return nil
		})
		if !errors.Is(err, broken) || whole.Load() != 0 {
			t.Errorf("%s: %v, and %d took it for the whole", name, err, whole.Load())
		}
	}
}

// failing is a store that breaks after an event.
type failing struct{ err error }

func (s *failing) ReadAll(context.Context, uint64, eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if yield(eventstore.Recorded{Position: 1, Key: "a"}, nil) {
			yield(eventstore.Recorded{}, s.err)
		}
	}
}

func (s *failing) Head(context.Context) (eventstore.Head, error) {
	return eventstore.Head{Position: 2}, nil
}

// withoutLocal stands before a MySQL server and takes LOAD DATA LOCAL out of what a client says that it can: the server then
// refuses it as with local_infile off, which is a setting for all who use it.
func withoutLocal(t *testing.T, rawURL string) string {
	t.Helper()
	before, after, _ := strings.Cut(rawURL, "127.0.0.1:")
	port, name, _ := strings.Cut(after, "/")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	var open sync.WaitGroup
	t.Cleanup(func() { l.Close(); open.Wait() })
	serve := func(client net.Conn) {
		defer client.Close()
		server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", "127.0.0.1:"+port)
		if err != nil {
			return
		}
		defer server.Close()
		open.Go(func() { _, _ = io.Copy(client, server); client.Close() })
		greeting := make([]byte, 8) // a packet's header, then the capabilities
		if _, err := io.ReadFull(client, greeting); err != nil {
			return
		}
		greeting[4] &^= 1 << 7
		if _, err := server.Write(greeting); err == nil {
			_, _ = io.Copy(server, client)
		}
	}
	open.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { serve(client) })
		}
	})
	return before + l.Addr().String() + "/" + name
}

func TestWithoutLocalInfileRowsAreInsertedAndTheRunSaysSo(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	for name, url := range map[string]func(testing.TB) string{"mysql": harness.MySQL, "mariadb": harness.MariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withoutLocal(t, url(t)), toy(nil))
			w.store.addMany(300, 3000)
			for range 2000 {
				w.store.add("busy", added{int64(len(w.store.all()))})
			}
			w.caughtUp(w.newest.Earlier[0])
			worker := w.worker()
			worker.MostRows = 500
			w.start(worker.Run)
			if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Done || !strings.Contains(r.Detail, "local_infile") {
				t.Errorf("%+v", r)
			}
			w.equal(w.newest)
			w.indexed(w.newest)
		})
	}
}

func TestSlicesAreHandedOutUntilAllAreDone(t *testing.T) {
	t.Parallel()
	done := []int{0, 1, 2, 500, 1023}
	there := map[int]uint64{700: 17, 701: 18} // begun
	for _, s := range done {
		there[s] = 0
	}
	td := newTodo(there, 2, 1000)
	took := map[int]int{}
	for rounds := 0; ; rounds++ {
		r, ok := td.next()
		if !ok {
			break
		}
		for r.Len()*10 > 1000 { // a slice is ten rows: more than a hundred do not fit
			half := r.From + r.Len()/2
			td.giveBack(eventstore.SliceRange{From: half, To: r.To})
			r.To = half
		}
		if r.Len() < 1 || rounds > 40 {
			t.Fatalf("%d rounds, the last of %+v", rounds, r)
		}
		if through := td.through(r); through != there[r.From] || through > 0 && r.Len() > 1 || r.From < 700 && r.To > 700 {
			t.Errorf("%+v from %d on", r, through)
		}
		td.learn(r, r.Len()*10)
		for s := r.From; s < r.To; s++ {
			took[s]++
		}
	}
	for s := range eventstore.Slices {
		want := 1
		if slices.Contains(done, s) {
			want = 0
		}
		if took[s] != want {
			t.Errorf("slice %d was taken %d times", s, took[s])
		}
	}
}

// endless is a history that is made while it is read, and watches the heap meanwhile: so that whatever is held is the
// rebuild's. Some events of a key that follow one another make one row. What is passed over costs nothing, as with an index
// over slices.
type endless struct {
	events, together int
	keys             []string
	slices           []int // of the keys
	watch            int   // after how many events the heap is looked at

	mu   sync.Mutex
	read int
	heap uint64
}

func newEndless(events, keys, together, watch int) *endless {
	s := &endless{events: events, together: together, watch: watch}
	for i := range keys {
		key := strconv.Itoa(i) + strings.Repeat("-", 100)
		s.keys, s.slices = append(s.keys, key), append(s.slices, eventstore.Slice(key))
	}
	return s
}

// rows is what the history comes to.
func (s *endless) rows() int {
	each := s.events / len(s.keys) // events of a key
	return len(s.keys) * ((each + s.together - 1) / s.together)
}

func (s *endless) ReadAll(_ context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	var of []int // the keys
	for i, slice := range s.slices {
		if f.Slices.Len() == 0 || f.Slices.Has(slice) {
			of = append(of, i)
		}
	}
	return func(yield func(eventstore.Recorded, error) bool) {
		for turn := int(after) / len(s.keys); turn < s.events/len(s.keys); turn++ { //nolint:gosec // small
			for _, key := range of {
				at := uint64(turn*len(s.keys) + key + 1) //nolint:gosec // not negative
				if at <= after {
					continue
				}
				s.look()
				e := eventstore.Recorded{
					Position: at, Stream: "groomer-x", Key: s.keys[key], Type: added{}.EventType(), Metadata: []byte(`{}`),
					Data: fmt.Appendf(nil, `{"N":%d}`, turn/s.together),
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func (s *endless) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read++; s.read%s.watch == 0 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		s.heap = max(s.heap, m.HeapAlloc)
	}
}

func (s *endless) Head(context.Context) (eventstore.Head, error) {
	return eventstore.Head{Position: uint64(s.events), Incarnation: "test-1"}, nil //nolint:gosec // not negative
}

// A history of many times what may be held is rebuilt within the bound. Not beside other tests: the heap is everybody's.
func TestMemoryIsBoundedWhateverTheHistory(t *testing.T) {
	events, together, most, bound := 100_000, 1, 4_000, 12<<20
	if os.Getenv("SALON_TEST_LONG") != "" {
		events, together, most, bound = 5_000_000, 5, 0, 128<<20 // with the default
	}
	urls := map[string]string{"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "reads.db")}
	if !testing.Short() {
		urls["mysql"] = harness.MySQL(t)
	}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			p := toy(nil)
			db, err := reads.Open(t.Context(), url)
			must(t, err)
			t.Cleanup(func() { db.Close() })
			must(t, db.Migrate(t.Context()))
			store := newEndless(events, 20_000, together, events/40)
			w := &world{t: t, db: db, desk: &Desk{DB: db, Of: []engine.Projection{p}}}
			w.start((&Worker{
				Desk: w.desk, Store: store, Codec: codec(), Log: w.log(), Parallel: 2, MostRows: most,
				Ends: func(context.Context, []string) (map[Partition]int64, error) {
					return map[Partition]int64{{Topic: p.Topics[0]}: 0}, nil
				},
			}).Run)
			var before runtime.MemStats
			runtime.GC()
			runtime.GC() // what the first one finalized
			runtime.ReadMemStats(&before)
			r, err := w.desk.Ask(t.Context(), Request{Kind: Rebuild, Projection: "toy", Options: Options{Pace: Full}})
			must(t, err)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for !r.Ended() { // as long as the whole test may take
				<-tick.C
				r, err = w.desk.Run(t.Context(), r.ID)
				must(t, err)
			}
			var rows int
			must(t, db.Reader().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM notes_v2").Scan(&rows))
			if r.State != Done || rows != store.rows() || r.Events < int64(events) {
				t.Errorf("%d rows of %d events, want %d: %+v", rows, events, store.rows(), r)
			}
			grown := int(store.heap) - int(before.HeapAlloc) //nolint:gosec // small
			t.Logf("%d events, %d reads, %d rows, %d events/s: the heap grew by %.1f MiB", events, store.read, rows, r.Rate, float64(grown)/(1<<20))
			if grown > bound {
				t.Errorf("that is more than %d MiB", bound>>20)
			}
		})
	}
}
