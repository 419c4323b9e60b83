package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The toy events. spoiled is one that the fold refuses; strange is in no catalogue.
type (
	added   struct{ N int64 }
	ignored struct{}
	spoiled struct{}
)

func (added) EventType() string   { return "test.added.v1" }
func (ignored) EventType() string { return "test.ignored.v1" }
func (spoiled) EventType() string { return "test.spoiled.v1" }

const strange = "test.strange.v1"

func catalog() []domain.Event { return []domain.Event{added{}, ignored{}, spoiled{}, tricky{}} }

// counter is the oracle's row: adding twice, leaving out or swapping changes Count, Sum or Order.
type counter struct {
	Key     string    `db:"key,pk"`
	Count   int64     `db:"count"`
	Sum     int64     `db:"sum"`
	Order   string    `db:"order_hash,text"` // of all positions of the key, in the order of arrival
	Last    time.Time `db:"last_at"`
	Numbers []int64   `db:"numbers"` // the last three
}

func (c counter) add(e Event) counter {
	n := e.Event.(added).N
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%d", c.Order, e.Position))
	numbers := append(append([]int64{}, c.Numbers...), n)
	return counter{
		Key: e.Key, Count: c.Count + 1, Sum: c.Sum + n, Order: hex.EncodeToString(sum[:8]), Last: e.At, Numbers: numbers[max(0, len(numbers)-3):],
	}
}

// counters is the toy projection; its tables have a name of the test's own, so that tests can share servers.
func counters() (Projection, *Table[counter]) {
	name := "counters_" + strings.ToLower(rand.Text()[:8])
	table := NewTable[counter](name, Index{Name: "by_count", Columns: []string{"count"}})
	return Projection{
		Name: name, Version: 1, Topics: []string{wire.BookingTopic}, Types: []domain.Event{added{}, spoiled{}}, Tables: []AnyTable{table},
		Keys: func(e Event) []Ref { return []Ref{table.Ref(e.Key)} },
		Fold: func(u *Unit, e Event) error {
			if _, ok := e.Event.(spoiled); ok {
				return errors.New("spoiled")
			}
			row, _, err := table.Get(u, e.Key)
			if err != nil {
				return err
			}
			table.Put(u, row.add(e))
			return nil
		},
	}, table
}

// log is an event store as far as a relay can see: dense positions, in memory.
type log struct {
	mu     sync.Mutex
	events []eventstore.Recorded
	grown  chan struct{}
}

func newLog() *log { return &log{grown: make(chan struct{})} }

func (l *log) add(key, eventType string, data any) uint64 {
	b, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	pos := uint64(len(l.events) + 1)
	meta, _ := json.Marshal(eventstore.Metadata{CommandID: uuid.New(), Command: "test", Actor: domain.Actor{ID: "kim", Role: domain.Customer}})
	l.events = append(l.events, eventstore.Recorded{
		Position: pos, Stream: "groomer-" + key, Revision: eventstore.Revision(pos), ID: uuid.New(), Type: eventType, Key: key,
		RecordedAt: time.UnixMicro(1_700_000_000_000_000 + int64(pos)).UTC(), Metadata: meta, Data: b,
	})
	close(l.grown)
	l.grown = make(chan struct{})
	return pos
}

func (l *log) addMany(keys, events int) {
	for i := range events {
		key := fmt.Sprintf("salon-%d", (i*7919)%keys)
		if i%10 == 9 {
			l.add(key, ignored{}.EventType(), ignored{})
			continue
		}
		l.add(key, added{}.EventType(), added{int64(i)})
	}
}

func (l *log) snapshot() []eventstore.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[:len(l.events):len(l.events)]
}

func (l *log) ReadStream(_ context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range l.snapshot() {
			if e.Stream == stream && e.Revision >= from && !yield(e, nil) {
				return
			}
		}
	}
}

func (l *log) ReadAll(_ context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range l.snapshot() {
			if e.Position > after && f.Matches(e) && !yield(e, nil) {
				return
			}
		}
	}
}

func (l *log) Head(context.Context) (eventstore.Head, error) {
	return eventstore.Head{Position: uint64(len(l.snapshot())), Incarnation: "test-1"}, nil
}

func (l *log) Wait(ctx context.Context, after uint64) error {
	for {
		l.mu.Lock()
		n, grown := uint64(len(l.events)), l.grown
		l.mu.Unlock()
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

// want is what the projection must be: the fold of the log, by the oracle's own loop.
func (l *log) want(t testing.TB) map[string]counter {
	t.Helper()
	d := newDecoder(eventstore.NewCodec(catalog()), Projection{}, nil)
	rows := map[string]counter{}
	for _, r := range l.snapshot() {
		if r.Type != (added{}).EventType() {
			continue
		}
		e, err := d.event(r)
		if err != nil {
			t.Fatal(err)
		}
		rows[r.Key] = rows[r.Key].add(e)
	}
	return rows
}

// last is the last position of each partition.
func (l *log) last(partitions int) map[int32]uint64 {
	last := map[int32]uint64{}
	for _, e := range l.snapshot() {
		last[eventstore.Partition(e.Key, partitions)] = e.Position
	}
	return last
}

// progress gathers what runners applied, and lets a test wait for it.
type progress struct {
	mu      sync.Mutex
	at      map[int32]uint64
	moved   chan struct{}
	batches int
}

func newProgress() *progress { return &progress{at: map[int32]uint64{}, moved: make(chan struct{})} }

func (p *progress) applied(a Applied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[a.Part] = max(p.at[a.Part], a.Position)
	p.batches++
	close(p.moved)
	p.moved = make(chan struct{})
}

// wait returns when every partition has come to its position.
func (p *progress) wait(t testing.TB, want map[int32]uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		p.mu.Lock()
		behind := map[int32]uint64{}
		for part, pos := range want {
			if p.at[part] < pos {
				behind[part] = p.at[part]
			}
		}
		moved := p.moved
		p.mu.Unlock()
		if len(behind) == 0 {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			t.Fatalf("still behind: at %v, want %v", behind, want)
		}
	}
}

// world is one test's servers.
type world struct {
	t          testing.TB
	log        *log
	brokers    []string
	prefix     string
	partitions int
	db         *reads.DB
	kafka      *kfake.Cluster // nil on a real one
}

// kafkaInProcess starts a broker and makes the topics.
func newWorld(t testing.TB, dbURL string) *world {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	w := &world{t: t, log: newLog(), brokers: kafka.ListenAddrs(), partitions: 4, kafka: kafka}
	w.topics()
	w.db = openReads(t, dbURL)
	return w
}

func (w *world) topics() {
	w.t.Helper()
	topics := relay.Topics{Brokers: w.brokers, Prefix: w.prefix, Partitions: w.partitions}
	if err := topics.Ensure(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func openReads(t testing.TB, url string) *reads.DB {
	t.Helper()
	db, err := reads.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// start runs something until the returned function is called, or the test ends.
func (w *world) start(run func(ctx context.Context) error) (stop func()) {
	return harness.Background(w.t, run)
}

func (w *world) relay() *relay.Relay {
	return &relay.Relay{Store: w.log, Brokers: w.brokers, Partitions: w.partitions, TopicPrefix: w.prefix, Alone: true, Log: testLog(w.t)}
}

func (w *world) runner(p Projection, seen *progress) *Runner {
	return &Runner{
		Projection: p, Brokers: w.brokers, DB: w.db, Codec: eventstore.NewCodec(catalog()), Store: w.log, TopicPrefix: w.prefix,
		Alone: true, Applied: seen.applied, Log: testLog(w.t),
	}
}

func (w *world) rows(table *Table[counter]) map[string]counter {
	w.t.Helper()
	rows := map[string]counter{}
	err := w.db.Snapshot(w.t.Context(), func(ctx context.Context, q reads.Queryer) error {
		list, err := Query(ctx, q, table, 1, "")
		for _, r := range list {
			rows[r.Key] = r
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

func (w *world) equal(table *Table[counter]) {
	w.t.Helper()
	same(w.t, w.log.want(w.t), w.rows(table))
}

func same(t testing.TB, want, got map[string]counter) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows are not the fold of the log (-want +got):\n%s", diff)
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, nil))
}

func partitionOf(key string, n int) int32 { return eventstore.Partition(key, n) }
