package relay_test

import (
	"context"
	"crypto/rand"
	"errors"
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
	mu     sync.Mutex
	events []eventstore.Recorded
	grown  chan struct{}
}

func newStore() *store { return &store{grown: make(chan struct{})} }

func (s *store) add(stream string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		pos := uint64(len(s.events) + 1)
		s.events = append(s.events, eventstore.Recorded{
			Position: pos, Stream: stream, ID: uuid.New(), Type: "test.v1", Key: stream, RecordedAt: time.UnixMicro(int64(pos)).UTC(),
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

func (s *store) ReadAll(_ context.Context, after uint64) iter.Seq2[eventstore.Recorded, error] {
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
	return eventstore.Head{Position: uint64(len(s.events)), Incarnation: "test-1"}, nil
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
func start(t *testing.T, r *relay.Relay) (stop func() error) {
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

// first reads the log until it has seen every relayed event of the store, and returns the first occurrences of each
// partition. It fails on a hole: a record whose prev is above what came before.
func (b broker) first(t *testing.T, s *store) map[string][]uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...), kgo.ConsumeTopics(b.prefix+wire.BookingTopic, b.prefix+wire.ChatTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want := s.want()
	missing := 0
	for _, positions := range want {
		missing += len(positions)
	}
	got, last := map[string][]uint64{}, map[string]uint64{}
	for missing > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d events still missing: %v", missing, err)
		}
		for r := range fetches.RecordsAll() {
			p := fmt.Sprintf("%s/%d", strings.TrimPrefix(r.Topic, b.prefix), r.Partition)
			w, err := wire.Parse(func(name string) string {
				for _, h := range r.Headers {
					if h.Key == name {
						return string(h.Value)
					}
				}
				return ""
			}, r.Value)
			if err != nil {
				t.Fatal(err)
			}
			if w.Pos <= last[p] {
				continue
			}
			if w.Prev > last[p] {
				t.Fatalf("%s: position %d follows %d, but the last seen is %d", p, w.Pos, w.Prev, last[p])
			}
			last[p] = w.Pos
			got[p] = append(got[p], w.Pos)
			missing--
		}
	}
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
		before := b.size(t)
		start(t, b.relay(s))
		s.add("groomer-1", 1)
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
		if after := b.size(t); after != before+1 {
			t.Errorf("%d records were added for one event", after-before)
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
		r := b.relay(s)
		r.Store = partial{s, wire.BookingTopic, 1, 40}
		stop := start(t, r)
		for b.size(t) < r.Store.(partial).relayed() {
			if err := t.Context().Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		start(t, b.relay(s))
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

// partial is a store that shows nothing of one partition after a position.
type partial struct {
	*store
	topic string
	part  int32
	after uint64
}

func (p partial) shows(e eventstore.Recorded) bool {
	return e.Position <= p.after || wire.TopicOf(e.Stream) != p.topic || eventstore.Partition(e.Key, partitions) != p.part
}

func (p partial) ReadAll(ctx context.Context, after uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range p.store.ReadAll(ctx, after) {
			if p.shows(e) && !yield(e, err) {
				return
			}
		}
	}
}

func (p partial) relayed() (n int64) {
	for e := range p.ReadAll(context.Background(), 0) {
		if wire.TopicOf(e.Stream) != "" {
			n++
		}
	}
	return n
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

func TestAStoreRestoredBehindKafkaIsRefused(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(100)
		stop := start(t, b.relay(s))
		b.first(t, s)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		shorter, overtaken := newStore(), newStore()
		shorter.events = s.events[:60]
		overtaken.events = append(overtaken.events, s.events[:60]...)
		overtaken.addMixed(100) // new events stand where the lost ones stood
		for name, restored := range map[string]*store{"shorter": shorter, "overtaken": overtaken} {
			var want *relay.RestoredError
			if err := b.relay(restored).Run(t.Context()); !errors.As(err, &want) {
				t.Errorf("%s: got %v, want a refusal", name, err)
			}
		}
	})
}

func TestTopicsAreCheckedWithWhatToDo(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		if err := b.topics().Check(t.Context()); err == nil || !strings.Contains(err.Error(), "salon topics ensure") {
			t.Fatalf("without topics: %v", err)
		}
		if err := b.relay(newStore()).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "salon topics ensure") {
			t.Fatalf("a relay without topics: %v", err)
		}
		b.ensure(t)
		b.ensure(t) // twice is the same
		other := b.topics()
		other.Partitions = partitions + 1
		if err := other.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "partitions") {
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
