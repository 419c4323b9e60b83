package relay_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 3

// store is an event store as far as a relay can see.
type store struct {
	mu          sync.Mutex
	events      []eventstore.Recorded
	incarnation string
	grown       chan struct{}
}

func newStore() *store { return &store{grown: make(chan struct{}), incarnation: "test-1"} }

func (s *store) add(stream string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		pos := uint64(len(s.events) + 1)
		revision := eventstore.Revision(0)
		for _, e := range s.events {
			if e.Stream == stream {
				revision = e.Revision + 1
			}
		}
		s.events = append(s.events, eventstore.Recorded{
			Position: pos, Stream: stream, Revision: revision, ID: uuid.New(), Type: "test.v1", Key: stream, RecordedAt: time.Now().UTC(),
			Metadata: []byte(`{}`), Data: []byte(`{"n":` + strconv.FormatUint(pos, 10) + `}`),
		})
	}
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *store) addMixed(n int) {
	for i := range n {
		switch i % 7 {
		case 6:
			s.add(fmt.Sprintf("admin-%d", i%3), 1) // not relayed
		case 5:
			s.add(fmt.Sprintf("chat-%d", i%4), 1)
		default:
			s.add(fmt.Sprintf("groomer-%d", i%11), 1)
		}
	}
}

func (s *store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
			if e.Stream == stream && e.Revision >= from && !yield(e, err) {
				return
			}
		}
	}
}

func (s *store) ReadAll(_ context.Context, after uint64, _ eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		s.mu.Lock()
		events := s.events[min(after, uint64(len(s.events))):]
		s.mu.Unlock()
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *store) Head(context.Context) (eventstore.Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return eventstore.Head{Position: uint64(len(s.events)), Incarnation: s.incarnation}, nil
}

func (s *store) Wait(ctx context.Context, after uint64) error {
	for {
		s.mu.Lock()
		n, grown := uint64(len(s.events)), s.grown
		s.mu.Unlock()
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

// broker is a Kafka for one test.
type broker struct {
	addresses []string
	prefix    string
}

// onBrokers runs a test on the broker in the process and, when SALON_TEST_KAFKA names one, on a real one.
func onBrokers(t *testing.T, run func(t *testing.T, b broker)) {
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		run(t, broker{cluster.ListenAddrs(), ""})
	})
	if address := os.Getenv("SALON_TEST_KAFKA"); address != "" && !testing.Short() {
		t.Run("kafka", func(t *testing.T) {
			t.Parallel()
			run(t, broker{strings.Split(address, ","), "relay-" + strings.ToLower(rand.Text()[:8]) + "."})
		})
	}
}

func (b broker) topics() relay.Topics {
	return relay.Topics{Brokers: b.addresses, Prefix: b.prefix, Partitions: partitions}
}

func (b broker) relay(s *store) *relay.Relay {
	return &relay.Relay{Store: s, Brokers: b.addresses, TopicPrefix: b.prefix, Partitions: partitions, Alone: true, BatchEvents: 50}
}

func (b broker) ensure(t *testing.T) {
	t.Helper()
	if err := b.topics().Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// start runs a relay; stop ends it and returns its error.
func start(t testing.TB, r *relay.Relay) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// record is what a reader makes of a Kafka record.
type record struct {
	partition string
	wire.Record
	marker *wire.Marker
}

func (b broker) parse(t *testing.T, r *kgo.Record) record {
	t.Helper()
	get := func(name string) string {
		for _, h := range r.Headers {
			if h.Key == name {
				return string(h.Value)
			}
		}
		return ""
	}
	out := record{partition: fmt.Sprintf("%s/%d", strings.TrimPrefix(r.Topic, b.prefix), r.Partition)}
	if wire.IsMarker(get) {
		m, err := wire.ParseMarker(get)
		if err != nil {
			t.Fatal(err)
		}
		out.marker = &m
		return out
	}
	var err error
	if out.Record, err = wire.Parse(get, r.Value); err != nil {
		t.Fatal(err)
	}
	return out
}

// read gives every record of the log to see, from the beginning, until that says that it has seen enough.
func (b broker) read(t *testing.T, see func(record) (enough bool)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.ConsumeTopics(b.prefix+wire.BookingTopic, b.prefix+wire.ChatTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("not enough seen: %v", err)
		}
		for r := range fetches.RecordsAll() {
			if see(b.parse(t, r)) {
				return
			}
		}
	}
}

// first reads the log until it has seen every relayed event of the store, and returns the first occurrences of each
// partition. It fails on a hole: a record whose prev is above what came before.
func (b broker) first(t *testing.T, s *store) map[string][]uint64 {
	t.Helper()
	missing := 0
	for _, positions := range s.want() {
		missing += len(positions)
	}
	got, last := map[string][]uint64{}, map[string]uint64{}
	if missing == 0 {
		return got
	}
	b.read(t, func(r record) bool {
		if r.marker != nil {
			if r.marker.Prev.Position > last[r.partition] {
				t.Fatalf("%s: a marker follows %d, but the last seen is %d", r.partition, r.marker.Prev.Position, last[r.partition])
			}
			return false
		}
		if r.Pos <= last[r.partition] {
			return false
		}
		if r.Prev > last[r.partition] {
			t.Fatalf("%s: position %d follows %d, but the last seen is %d", r.partition, r.Pos, r.Prev, last[r.partition])
		}
		last[r.partition] = r.Pos
		got[r.partition] = append(got[r.partition], r.Pos)
		missing--
		return missing == 0
	})
	return got
}

func (s *store) want() map[string][]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]uint64{}
	for _, e := range s.events {
		if topic := wire.TopicOf(e.Stream); topic != "" {
			p := fmt.Sprintf("%s/%d", topic, eventstore.Partition(e.Key, partitions))
			out[p] = append(out[p], e.Position)
		}
	}
	return out
}

func TestTheLogHasTheStoresOrder(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(700)
		start(t, b.relay(s))
		s.addMixed(700)
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestARestartGoesOnFromTheLog(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		for i := range 5 {
			stop := start(t, b.relay(s))
			s.addMixed(300)
			if i == 4 {
				b.first(t, s)
			}
			if err := stop(); err != nil { // anywhere: in the middle of a batch, or before it led
				t.Fatal(err)
			}
		}
		// From here on the log is whole: one more start repeats nothing.
		before := b.events(t)
		stop := start(t, b.relay(s))
		s.add("groomer-1", 1)
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if after := b.events(t); after != before+1 {
			t.Errorf("%d events were added for one", after-before)
		}
	})
}

// A batch of which one partition's part was not acknowledged: the others are ahead of it.
func TestAPartitionThatWasLeftBehindIsMadeWhole(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(100)
		var records []*kgo.Record
		last := map[string]uint64{}
		for _, e := range s.events {
			topic, part := wire.TopicOf(e.Stream), eventstore.Partition(e.Key, partitions)
			if topic == "" || topic == wire.BookingTopic && part == 1 && e.Position > 40 {
				continue
			}
			p := fmt.Sprint(topic, part)
			records = append(records, b.record(topic, part, wire.Record{Pos: e.Position, Prev: last[p], Incarnation: "test-1", Event: e}.Headers(), e.Data))
			last[p] = e.Position
		}
		b.write(t, records...)
		start(t, b.relay(s))
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

func (b broker) record(topic string, part int32, headers []wire.Header, value []byte) *kgo.Record {
	r := &kgo.Record{Topic: b.prefix + topic, Partition: part, Value: value}
	for _, h := range headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	return r
}

// write puts records into the log as another relay would.
func (b broker) write(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// size counts the records in the log.
func (b broker) size(t *testing.T) (n int64) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), b.prefix+wire.BookingTopic, b.prefix+wire.ChatTopic)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// events counts the records that are no markers, while nobody writes.
func (b broker) events(t *testing.T) (n int) {
	t.Helper()
	left := b.size(t)
	b.read(t, func(r record) bool {
		if r.marker == nil {
			n++
		}
		left--
		return left == 0
	})
	return n
}

// A topic that was made anew is a broker that lost all its tail: the offset acknowledged is below the last one.
func TestABrokerThatLostItsTailEndsTheRun(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(100)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r := b.relay(s)
		r.Log = slog.New(slog.DiscardHandler)
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		b.first(t, s)
		client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := kadm.NewClient(client).DeleteTopics(ctx, b.prefix+wire.BookingTopic); err != nil {
			t.Fatal(err)
		}
		b.ensure(t)
		s.add("groomer-1", 1)
		if err := <-ended; err == nil || ctx.Err() != nil {
			t.Fatalf("the run went on: %v", err)
		} else {
			t.Logf("ended with: %v", err)
		}
		start(t, b.relay(s))
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestManyRelaysAtOnceDoNoHarm(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		for range 4 {
			start(t, b.relay(s))
			s.addMixed(300)
		}
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOneLeaderThenTheNext(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		elected := func() *relay.Relay {
			r := b.relay(s)
			r.Alone, r.SessionTimeout = false, 6*time.Second
			return r
		}
		one, two := elected(), elected()
		stops := map[*relay.Relay]func() error{one: start(t, one), two: start(t, two)}
		s.addMixed(200)
		b.first(t, s)
		leader, other := one, two
		if two.Leading() {
			leader, other = two, one
		}
		if !leader.Leading() || other.Leading() {
			t.Fatalf("leading: %v and %v", one.Leading(), two.Leading())
		}
		if err := stops[leader](); err != nil {
			t.Fatal(err)
		}
		s.addMixed(200)
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
		if !other.Leading() {
			t.Error("nobody leads")
		}
	})
}

func TestTopicsAreCheckedWithWhatToDo(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		if _, err := b.topics().Check(t.Context()); err == nil || !strings.Contains(err.Error(), "salon topics ensure") {
			t.Fatalf("without topics: %v", err)
		}
		if err := b.relay(newStore()).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "salon topics ensure") {
			t.Fatalf("a relay without topics: %v", err)
		}
		b.ensure(t)
		b.ensure(t) // twice is the same
		other := b.topics()
		other.Partitions = partitions + 1
		if _, err := other.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "partitions") {
			t.Fatalf("with another partition count: %v", err)
		}
	})
}

func TestTheLargestEventPasses(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.add("groomer-1", 3)
		s.events[1].Data = []byte(`"` + strings.Repeat("x", relay.MaxRecordBytes-100<<10) + `"`)
		start(t, b.relay(s))
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}
