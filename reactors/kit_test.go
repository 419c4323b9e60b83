package reactors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/reactors"
)

func TestMain(m *testing.M) { harness.Main(m) }

const partitions = 4

// world is one test's part of the real servers: the event store, the log and the reads database.
type world struct {
	*testing.T
	store   eventstore.Store
	db      *reads.DB
	brokers []string
	prefix  string
	began   time.Time
	moved   chan struct{} // closed and made anew when the projection committed a batch
	mu      sync.Mutex
	at      map[int32]uint64
}

// newWorld has a relay that runs; the test starts and stops the projection.
func newWorld(t *testing.T, readsURL func(testing.TB) string) *world {
	harness.NeedsServers(t)
	events := harness.Postgres(t)
	if err := postgres.Migrate(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	store, err := postgres.Open(t.Context(), postgres.Config{URL: events})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	db, err := reads.Open(t.Context(), readsURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	kafka, prefix := harness.Kafka(t)
	w := &world{
		T: t, store: store, db: db, brokers: strings.Split(kafka, ","), prefix: prefix, began: time.Now().UTC().Truncate(time.Microsecond),
		moved: make(chan struct{}), at: map[int32]uint64{},
	}
	topics := relay.Topics{Brokers: w.brokers, Prefix: prefix, Partitions: partitions, Replication: 1}
	if err := topics.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.start((&relay.Relay{Store: store, Brokers: w.brokers, Partitions: partitions, TopicPrefix: prefix, Alone: true, Log: w.log()}).Run)
	return w
}

func onSQLite(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "reads.db") }

func (w *world) log() *slog.Logger { return slog.New(slog.NewTextHandler(w.Output(), nil)) }

// start runs something until the returned function is called, or the test ends.
func (w *world) start(run func(context.Context) error) (stop func()) {
	return harness.Background(w.T, run)
}

// project runs the timers' projection until the returned function is called.
func (w *world) project() (stop func()) {
	return w.start((&engine.Runner{
		Projection: reactors.Timers(), Brokers: w.brokers, DB: w.db, Codec: eventstore.Catalog(), Store: w.store, TopicPrefix: w.prefix,
		Alone: true, Log: w.log(), Applied: func(a engine.Applied) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.at[a.Part] = a.Position
			close(w.moved)
			w.moved = make(chan struct{})
		},
	}).Run)
}

// caughtUp waits until the projection has folded everything that is in the store.
func (w *world) caughtUp() {
	w.Helper()
	want := map[int32]uint64{}
	for _, r := range w.events() {
		want[eventstore.Partition(r.Key, partitions)] = r.Position
	}
	limit := time.After(time.Minute)
	for {
		w.mu.Lock()
		behind, moved := 0, w.moved
		for part, position := range want {
			if w.at[part] < position {
				behind++
			}
		}
		w.mu.Unlock()
		if behind == 0 {
			return
		}
		select {
		case <-moved:
		case <-limit:
			w.Fatalf("%d partitions are behind", behind)
		}
	}
}

// node is what another process would have: an executor with nothing in its memory.
func (w *world) node() *commands.Executor {
	w.Helper()
	keys, err := sealed.New(w.store, make([]byte, sealed.MasterBytes))
	if err != nil {
		w.Fatal(err)
	}
	return commands.NewExecutor(commands.Config{Store: w.store, Keys: keys})
}

func (w *world) firer(c reactors.Commands) *reactors.Firer {
	return &reactors.Firer{Reads: w.db, Commands: c, Log: w.log(), Pace: 20 * time.Millisecond}
}

// happened appends what a test says has happened in a salon, as one command; commands would not let a request expire
// within seconds.
func (w *world) happened(salon string, events ...domain.Event) []uuid.UUID {
	w.Helper()
	id, stream := uuid.New(), eventstore.GroomerStream(salon)
	by := domain.Actor{ID: "minji", Role: domain.Customer}
	metadata, err := json.Marshal(eventstore.Metadata{
		CommandID: id, Command: "test", Actor: by, CorrelationID: "because of " + id.String(), CausationID: id.String(),
	})
	if err != nil {
		w.Fatal(err)
	}
	a := eventstore.Append{
		Stream: stream, Key: salon, Expected: eventstore.AnyRevision, Metadata: metadata, DecidedAt: time.Now(),
		Command: eventstore.Command{ID: id, RequestHash: make([]byte, 32), Actor: by.Subject()},
	}
	var ids []uuid.UUID
	for i, e := range events {
		data, err := eventstore.Catalog().Encode(e)
		if err != nil {
			w.Fatal(err)
		}
		ids = append(ids, eventstore.EventID(id, stream, i))
		a.Events = append(a.Events, eventstore.NewEvent{ID: ids[i], Type: e.EventType(), Data: data})
	}
	if _, err := w.store.Append(w.Context(), a); err != nil {
		w.Fatal(err)
	}
	return ids
}

func (w *world) open(salon string) {
	w.Helper()
	w.happened(salon, groomer.Registered{GroomerID: salon, Zone: "Asia/Seoul"})
}

// requested opens a request that expires so long after the test's beginning, and answers its event's ID.
func (w *world) requested(salon, id string, expires time.Duration) uuid.UUID {
	w.Helper()
	start := w.began.AddDate(0, 0, 3)
	return w.happened(salon, groomer.Requested{
		ReservationID: id, Visit: visit(start), Day: start.Format(time.DateOnly), ExpiresAt: w.began.Add(expires),
	})[0]
}

// booked is a visit whose reminder is due so long after the test's beginning; it answers the ID of the event that says so.
func (w *world) booked(salon, id string, due time.Duration) uuid.UUID {
	w.Helper()
	start := w.began.Add(due + groomer.ReminderLead)
	day := start.Format(time.DateOnly)
	return w.happened(salon, groomer.Requested{ReservationID: id, Visit: visit(start), Day: day}, groomer.Confirmed{ReservationID: id, Day: day})[0]
}

func visit(start time.Time) groomer.Visit {
	return groomer.Visit{CustomerID: "minji", Start: start, Minutes: 30, Mode: groomer.Shop}
}

func reservation(salon string, n int) string { return fmt.Sprintf("%s.%026d", salon, n) }

// events reads the whole store.
func (w *world) events() []eventstore.Recorded {
	w.Helper()
	var out []eventstore.Recorded
	for r, err := range w.store.ReadAll(w.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			w.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// done is what the timers brought about: by reservation and type, the metadata of each event.
func (w *world) done() map[string][]eventstore.Metadata {
	w.Helper()
	out := map[string][]eventstore.Metadata{}
	for _, r := range w.events() {
		f, err := eventstore.Catalog().Fact(r)
		if err != nil {
			w.Fatal(err)
		}
		m, err := eventstore.DecodeMetadata(r.Metadata)
		if err != nil {
			w.Fatal(err)
		}
		switch e := f.Event.(type) {
		case groomer.Expired, groomer.Reminded:
			at := groomer.About(e) + " " + e.EventType()
			out[at] = append(out[at], m)
		}
	}
	return out
}

// awaitDone waits until the timers have brought n events about.
func (w *world) awaitDone(n int) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	for {
		head, err := w.store.Head(ctx)
		if err != nil {
			w.Fatal(err)
		}
		got := 0
		for _, each := range w.done() {
			got += len(each)
		}
		if got >= n {
			return
		}
		if err := w.store.Wait(ctx, head.Position); err != nil {
			w.Fatalf("%d of %d happened: %v", got, n, err)
		}
	}
}

// left lists the rows of the table.
func (w *world) left() (rows []reactors.Due) {
	w.Helper()
	err := w.db.Snapshot(w.Context(), func(ctx context.Context, q reads.Queryer) (err error) {
		rows, err = engine.Query(ctx, q, reactors.Table, reactors.Version, "ORDER BY reservation_id, kind")
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return rows
}
