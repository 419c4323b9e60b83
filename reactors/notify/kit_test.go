package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
)

func TestMain(m *testing.M) {
	// go-metrics, which sarama counts with, keeps one goroutine for the life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const partitions = 4

var secret = []byte("a secret of the endpoint and us")

// world is a log on a real Kafka, a reads database and an endpoint.
type world struct {
	*testing.T
	brokers  []string
	prefix   string
	db       *reads.DB
	kafka    *kgo.Client
	endpoint *endpoint
	next     uint64
	prev     map[int32]uint64
}

func newWorld(t *testing.T, readsURL string) *world {
	t.Helper()
	harness.NeedsServers(t)
	brokers, prefix := harness.Kafka(t)
	w := &world{T: t, brokers: strings.Split(brokers, ","), prefix: prefix, prev: map[int32]uint64{}, endpoint: newEndpoint(t)}
	if readsURL == "" {
		readsURL = "sqlite:" + filepath.Join(t.TempDir(), "reads.db")
	}
	var err error
	if w.db, err = reads.Open(t.Context(), readsURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	if err := w.db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A broker may take a moment to hear of a topic that was just made.
	if w.kafka, err = kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(-1)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kafka.Close)
	answers, err := kadm.NewClient(w.kafka).CreateTopics(t.Context(), partitions, 1, nil, prefix+wire.BookingTopic, prefix+wire.ChatTopic)
	if err != nil || answers.Error() != nil {
		t.Fatal(err, answers.Error())
	}
	return w
}

// record puts one event of the type into a partition of the booking topic. Its key is the one that tests tell it by.
func (w *world) record(part int32, name string, e domain.Event, at time.Time) Event {
	w.Helper()
	w.next++
	data, err := eventstore.Catalog().Encode(e)
	if err != nil {
		w.Fatal(err)
	}
	r := wire.Record{Pos: w.next, Prev: w.prev[part], Incarnation: "test-1", Event: eventstore.Recorded{
		Position: w.next, Stream: "groomer-" + name, ID: uuid.NewSHA1(uuid.Nil, []byte(name)), Type: e.EventType(), Key: name,
		RecordedAt: at.UTC().Truncate(time.Microsecond), Metadata: []byte("{}"), Data: data,
	}}
	w.prev[part] = w.next
	var headers []kgo.RecordHeader
	for _, h := range r.Headers() {
		headers = append(headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	w.produce(&kgo.Record{Partition: part, Key: []byte(name), Value: data, Headers: headers})
	return Event{ID: r.Event.ID, Type: r.Event.Type, Key: name, At: r.Event.RecordedAt}
}

func (w *world) produce(r *kgo.Record) {
	w.Helper()
	r.Topic = w.prefix + wire.BookingTopic
	if err := w.kafka.ProduceSync(w.Context(), r).FirstErr(); err != nil {
		w.Fatal(err)
	}
}

// confirmed is an event that somebody is told of.
func (w *world) confirmed(part int32, name string) Event {
	w.Helper()
	return w.record(part, name, groomer.Confirmed{ReservationID: name}, time.Now())
}

// everybody is a directory in which each event is the news of one customer, named after its key.
type everybody struct{}

func (everybody) Notices(_ context.Context, e Event) ([]Notice, error) {
	return []Notice{{
		Receiver: domain.Actor{ID: e.Key, Role: domain.Customer}, Kind: "confirmed", ReservationID: e.Key,
		Start: time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC), Korean: "예약이 확정되었어요", English: "Your booking is confirmed",
	}}, nil
}

// asking is a directory that is a function.
type asking func(Event) ([]Notice, error)

func (a asking) Notices(_ context.Context, e Event) ([]Notice, error) { return a(e) }

// sender is one that tries fast; change alters its settings.
func (w *world) sender(change func(*Config)) *Sender {
	w.Helper()
	c := Config{
		Brokers: w.brokers, TopicPrefix: w.prefix, Types: []domain.Event{groomer.Confirmed{}}, Directory: everybody{}, DB: w.db.Writer(),
		Endpoint: Endpoint{URL: w.endpoint.server.URL + "/hook", Secret: secret}, Pause: 2 * time.Millisecond, Sweep: 10 * time.Millisecond,
		SessionTimeout: 6 * time.Second, Log: slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// run runs a sender until stop is called, or the test ends.
func (w *world) run(s *Sender) (stop func()) {
	return harness.Background(w.T, s.Run)
}

// delivery is one request as the endpoint saw it.
type delivery struct {
	name    string // of the event
	body    Body
	raw     []byte
	headers http.Header
	status  int
}

// endpoint is a real HTTP server. answer, when set, chooses the status of the n-th request for an event, from 1.
type endpoint struct {
	server *httptest.Server
	got    chan delivery

	mu     sync.Mutex
	tries  map[string]int
	answer func(name string, n int) int
}

func newEndpoint(t *testing.T) *endpoint {
	e := &endpoint{got: make(chan delivery, 10_000), tries: map[string]int{}}
	e.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		d := delivery{raw: raw, headers: r.Header.Clone(), status: http.StatusNoContent}
		if err := json.Unmarshal(raw, &d.body); err != nil {
			t.Errorf("body: %v: %s", err, raw)
		}
		d.name = d.body.ReservationID
		e.mu.Lock()
		e.tries[d.name]++
		if e.answer != nil {
			d.status = e.answer(d.name, e.tries[d.name])
		}
		e.mu.Unlock()
		e.got <- d
		rw.WriteHeader(d.status)
	}))
	t.Cleanup(e.server.Close)
	return e
}

func (e *endpoint) answers(f func(name string, n int) int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

// deliveries waits until each of the named events was accepted, and answers every request until then.
func (w *world) deliveries(names ...string) (all []delivery) {
	w.Helper()
	missing := map[string]bool{}
	for _, n := range names {
		missing[n] = true
	}
	deadline := time.After(30 * time.Second)
	for len(missing) > 0 {
		select {
		case d := <-w.endpoint.got:
			all = append(all, d)
			if d.status < 300 {
				delete(missing, d.name)
			}
		case <-deadline:
			w.Fatalf("not delivered within 30 s: %v; %d requests came", missing, len(all))
		}
	}
	return all
}

// count counts a table's rows.
func (w *world) count(table string) (n int) {
	w.Helper()
	if err := w.db.Writer().QueryRowContext(w.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

// until waits for what the database will say.
func (w *world) until(what string, reached func() bool) {
	w.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !reached(); <-tick.C {
		if time.Now().After(deadline) {
			w.Fatal("not within 30 s: " + what)
		}
	}
}

func each(format string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf(format, i))
	}
	return names
}
