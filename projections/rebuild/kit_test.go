package rebuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// The toy events. spoiled is one that the fold refuses.
type (
	added   struct{ N int64 }
	undone  struct{ N int64 } // takes the note of an earlier one away
	spoiled struct{ How string }
	ignored struct{}
)

func (added) EventType() string   { return "test.added.v1" }
func (undone) EventType() string  { return "test.undone.v1" }
func (spoiled) EventType() string { return "test.spoiled.v1" }
func (ignored) EventType() string { return "test.ignored.v1" }

func codec() *eventstore.Codec {
	return eventstore.NewCodec([]domain.Event{added{}, undone{}, spoiled{}, ignored{}})
}

// counter is a row of many events: one left out, doubled or swapped changes it for ever. Version 2 has the largest of all.
type counter struct {
	Key     string `db:"key,pk"`
	Count   int64  `db:"count"`
	Order   string `db:"order_hash,text"`
	Largest int64  `db:"largest,since=2"`
}

// note is a row of one event.
type note struct {
	Key string `db:"key,pk"`
	N   int64  `db:"n,pk"`
	At  int64  `db:"at_position"`
}

var (
	counters = engine.NewTable[counter]("counters", engine.Index{Name: "by_count", Columns: []string{"count"}})
	notes    = engine.NewTable[note]("notes", engine.Index{Name: "by_position", Columns: []string{"at_position"}})
)

// toy is the newest version; fault, when set, plants a fault in it.
func toy(fault func(*counter)) engine.Projection {
	version := func(n int) engine.Projection {
		return engine.Projection{
			Name: "toy", Version: n, Topics: []string{wire.BookingTopic}, Types: []domain.Event{added{}, undone{}, spoiled{}},
			Tables: []engine.AnyTable{counters, notes},
			Keys:   func(e engine.Event) []engine.Ref { return []engine.Ref{counters.Ref(e.Key)} },
			Fold: func(u *engine.Unit, e engine.Event) error {
				row, _, err := counters.Get(u, e.Key)
				if err != nil {
					return err
				}
				row.Key, row.Count = e.Key, row.Count+1
				sum := sha256.Sum256(fmt.Appendf(nil, "%s|%d", row.Order, e.Position))
				row.Order = hex.EncodeToString(sum[:8])
				switch ev := e.Event.(type) {
				case added:
					notes.Put(u, note{e.Key, ev.N, int64(e.Position)}) //nolint:gosec // small
					if n > 1 {
						row.Largest = max(row.Largest, ev.N)
					}
				case undone:
					notes.Delete(u, e.Key, ev.N)
				case spoiled:
					return errors.New("spoiled")
				}
				if n > 1 && fault != nil {
					fault(&row)
				}
				counters.Put(u, row)
				return nil
			},
		}
	}
	p := version(2)
	p.Earlier = []engine.Projection{version(1)}
	return p
}

// memory is an event store as far as relays and rebuilds see one: dense positions.
type memory struct {
	mu     sync.Mutex
	events []eventstore.Recorded
	grown  chan struct{}
	read   int // events that were read slice by slice
	away   bool
}

func newMemory() *memory { return &memory{grown: make(chan struct{})} }

func (m *memory) add(key string, e domain.Event) uint64 {
	return m.addTo("groomer-"+key, key, e, time.Now())
}

func (m *memory) addTo(stream, key string, e domain.Event, at time.Time) uint64 {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	pos := uint64(len(m.events) + 1)
	meta, _ := json.Marshal(eventstore.Metadata{CommandID: uuid.New(), Command: "test", Actor: domain.Actor{ID: "kim", Role: domain.Customer}})
	m.events = append(m.events, eventstore.Recorded{
		Position: pos, Stream: stream, Revision: eventstore.Revision(pos), ID: uuid.New(), Type: e.EventType(), Key: key,
		RecordedAt: at.UTC().Truncate(time.Microsecond), Metadata: meta, Data: b,
	})
	close(m.grown)
	m.grown = make(chan struct{})
	return pos
}

// addMany adds events of so many keys.
func (m *memory) addMany(keys, events int) {
	for i := range events {
		key := fmt.Sprintf("salon-%d", (i*7919)%keys)
		switch i % 10 {
		case 9:
			m.add(key, ignored{})
		case 8:
			m.add(key, undone{int64((i - 8) % 5)})
		default:
			m.add(key, added{int64(i % 5)})
		}
	}
}

func (m *memory) all() []eventstore.Recorded {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.events[:len(m.events):len(m.events)]
}

func (m *memory) ReadAll(_ context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		m.mu.Lock()
		away := m.away
		m.mu.Unlock()
		if away {
			yield(eventstore.Recorded{}, eventstore.ErrUnavailable)
			return
		}
		for _, e := range m.all() {
			if e.Position <= after || !f.Matches(e) {
				continue
			}
			if f.Slices.Len() > 0 {
				m.mu.Lock()
				m.read++
				m.mu.Unlock()
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (m *memory) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range m.ReadAll(ctx, 0, eventstore.Filter{StreamPrefix: stream}) {
			if (err != nil || e.Revision >= from) && !yield(e, err) {
				return
			}
		}
	}
}

func (m *memory) Head(context.Context) (eventstore.Head, error) {
	h := eventstore.Head{Incarnation: "test-1"}
	if all := m.all(); len(all) > 0 {
		h.Position, h.RecordedAt = all[len(all)-1].Position, all[len(all)-1].RecordedAt
	}
	return h, nil
}

func (m *memory) Wait(ctx context.Context, after uint64) error {
	for {
		m.mu.Lock()
		n, grown := uint64(len(m.events)), m.grown
		m.mu.Unlock()
		if n > after {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const partitions = 4

// world is one test's system: an event store, a relay, and projectors of every version.
type world struct {
	t      testing.TB
	store  *memory
	db     *reads.DB
	kafka  []string
	newest engine.Projection
	view   engine.Projection // its newest version; none without withView
	redis  *redis.Client
	desk   *Desk
	stops  map[int]func() // of the projectors, by version
}

// onDatabases runs a test on each reads database.
func onDatabases(t *testing.T, run func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		run(t, "sqlite:"+filepath.Join(t.TempDir(), "reads.db"))
	})
	if testing.Short() {
		return
	}
	for name, url := range map[string]func(testing.TB) string{"mysql": harness.MySQL, "mariadb": harness.MariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, url(t))
		})
	}
}

func newWorld(t testing.TB, url string, newest engine.Projection) *world {
	t.Helper()
	db, err := reads.Open(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	must(t, db.Migrate(t.Context()))
	must(t, engine.EnsureTables(t.Context(), db, newest.Earlier...))
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	must(t, err)
	t.Cleanup(kafka.Close)
	w := &world{
		t: t, store: newMemory(), db: db, kafka: kafka.ListenAddrs(), newest: newest, desk: &Desk{DB: db, Of: []engine.Projection{newest}},
		stops: map[int]func(){},
	}
	topics := relay.Topics{Brokers: w.kafka, Partitions: partitions}
	must(t, topics.Ensure(t.Context()))
	w.start(func(ctx context.Context) error {
		for {
			err := (&relay.Relay{Store: w.store, Brokers: w.kafka, Partitions: partitions, Alone: true, Log: w.log()}).Run(ctx)
			if !errors.Is(err, eventstore.ErrUnavailable) {
				return err
			}
			select { // as main does: a store that is away comes back
			case <-ctx.Done():
				return nil
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	for _, p := range newest.Versions() {
		w.stops[p.Version] = w.start((&engine.Runner{
			Projection: p, Brokers: w.kafka, DB: db, Codec: codec(), Store: w.store, Alone: true, Log: w.log(),
		}).Run)
	}
	return w
}

// withView adds a view of every version, in Redis.
func (w *world) withView(address string) {
	w.redis = redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, DialerRetries: 1, ReadTimeout: time.Second})
	w.t.Cleanup(func() { w.redis.Close() })
	w.view = w.newest.InRedis("toy_view")
	w.desk.Of = append(w.desk.Of, w.view)
	w.desk.Views = engine.Views{DB: w.db, Redis: w.redis}
	for _, p := range w.view.Versions() {
		w.start((&engine.Runner{
			Projection: p, Brokers: w.kafka, DB: w.db, Redis: w.redis, Codec: codec(), Store: w.store, Alone: true, Log: w.log(),
		}).Run)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w *world) log() *slog.Logger { return slog.New(slog.NewTextHandler(testWriter{w.t}, nil)) }

func (w *world) stopProjector(p engine.Projection) { w.stops[p.Version]() }

// start runs something until the returned function is called, or the test ends.
func (w *world) start(run func(ctx context.Context) error) (stop func()) {
	return harness.Background(w.t, run)
}

// worker is one that is quick to take over.
func (w *world) worker() *Worker {
	desk := *w.desk // of its own: a test may change w's while the worker looks
	return &Worker{Desk: &desk, Store: w.store, Codec: codec(), Ends: w.ends, Log: w.log(), Patience: 2 * time.Second}
}

func (w *world) ends(ctx context.Context, topics []string) (map[Partition]int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka...))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, topics...)
	out := map[Partition]int64{}
	listed.Each(func(o kadm.ListedOffset) { out[Partition{o.Topic, o.Partition}] = o.Offset })
	return out, err
}

// caughtUp waits until a version has everything that is in the store now.
func (w *world) caughtUp(p engine.Projection) {
	w.t.Helper()
	want := map[int32]uint64{}
	for _, e := range w.store.all() {
		want[engine.PartitionOf(e.Key, partitions)] = e.Position
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		places, err := engine.PlacesOf(ctx, w.db.Reader(), []string{p.ID()})
		behind := len(places) != partitions
		for _, at := range places {
			behind = behind || at.LastPos < want[at.Part]
		}
		if err == nil && !behind {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Errorf("%s is still behind: %v, %v", p.ID(), places, err)
			return
		}
	}
}

// ask asks and, when it is not refused, waits for the end.
func (w *world) ask(q Request) Run {
	w.t.Helper()
	r, err := w.desk.Ask(w.t.Context(), q)
	if err != nil {
		w.t.Fatalf("%s: %v", q.Kind, err)
	}
	return w.ended(r.ID)
}

func (w *world) ended(id string) Run { return w.until(id, Run.Ended) }

// until waits for what a run is to be.
func (w *world) until(id string, is func(Run) bool) Run {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := w.desk.Run(ctx, id)
		if err == nil && is(r) {
			return r
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("run %s: %+v, %v", id, r, err)
		}
	}
}

// rows are all rows of a version, by table and key.
func (w *world) rows(version int) (out []any) {
	w.t.Helper()
	must(w.t, w.db.Snapshot(w.t.Context(), func(ctx context.Context, q reads.Queryer) error {
		c, err := engine.Query(ctx, q, counters, version, "ORDER BY `key`")
		if err != nil {
			return err
		}
		n, err := engine.Query(ctx, q, notes, version, "ORDER BY `key`, n")
		out = []any{c, n}
		return err
	}))
	return out
}

// want is the fold of the whole store, by the fold and nothing else of ours.
func (w *world) want(p engine.Projection) (out []any) { return w.wantUpTo(p, nil) }

// wantUpTo is the same, where some keys end before a position.
func (w *world) wantUpTo(p engine.Projection, ends map[string]uint64) (out []any) {
	w.t.Helper()
	u := engine.NewUnit()
	for _, r := range w.store.all() {
		if from, found := ends[r.Key]; found && r.Position >= from {
			continue
		}
		e := engine.Event{ID: r.ID, Position: r.Position, Stream: r.Stream, Key: r.Key}
		var err error
		e.Event, err = codec().Decode(r.Type, r.Data)
		must(w.t, err)
		must(w.t, u.Replay(p, e))
	}
	c, n := counters.Rows(u), notes.Rows(u)
	sortRows(c, n)
	return []any{c, n}
}

// eventually waits until something is so.
func (w *world) eventually(is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatal("it never came to that")
		}
	}
}
