package relay_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// markedAt reads until each partition has a marker at a position or above, and returns those.
func (b broker) markedAt(t *testing.T, position uint64) map[string]wire.Marker {
	t.Helper()
	out := map[string]wire.Marker{}
	b.read(t, func(r record) bool {
		if r.marker != nil && r.marker.At.Position >= position {
			out[r.partition] = *r.marker
		}
		return len(out) == 2*partitions
	})
	return out
}

// lasts are the last events of each partition.
func (s *store) lasts() map[string]wire.Place {
	out := map[string]wire.Place{}
	want := s.want()
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, positions := range want {
		out[p] = wire.PlaceOf(s.events[positions[len(positions)-1]-1])
	}
	return out
}

func TestEachPartitionIsMarkedAtFirstAndWhileItHasNoEvents(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		r := b.relay(s)
		r.MarkerEvery = 20 * time.Millisecond
		start(t, r)
		if diff := cmp.Diff(wire.Marker{Incarnation: "test-1"}, b.markedAt(t, 0)[wire.BookingTopic+"/0"]); diff != "" {
			t.Errorf("of an empty store (-want +got):\n%s", diff)
		}
		s.addMixed(70)
		s.add("admin-kim", 1) // the last event that is read is in no partition
		at := wire.PlaceOf(s.events[70])
		lasts := s.lasts()
		for p, m := range b.markedAt(t, 71) {
			if diff := cmp.Diff(wire.Marker{Incarnation: "test-1", At: at, Prev: lasts[p]}, m); diff != "" {
				t.Errorf("%s (-want +got):\n%s", p, diff)
			}
		}
		// Events go on where the last event was: a marker is in nobody's way.
		s.addMixed(70)
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

// Without a marker the smallest position of the ends is 0 as long as any partition has no event.
func TestAPartitionWithoutEventsDoesNotMakeAStartReadAll(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.add("groomer-1", 200)
		stop := start(t, b.relay(s))
		b.markedAt(t, 200)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		s.add("groomer-1", 1)
		r := b.relay(s)
		seen := make(chan uint64, 1)
		r.Store = afters{s, seen}
		start(t, r)
		b.first(t, s)
		if after := <-seen; after != 200 {
			t.Errorf("read from position %d on, want 200", after)
		}
	})
}

// A relay that was replaced writes its marker last: what it says is old, and true.
func TestAnOldMarkerAtTheEndRepeatsEventsAndLosesNone(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(100)
		stop := start(t, b.relay(s))
		old := b.markedAt(t, 100)
		s.addMixed(100)
		b.first(t, s)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		b.write(t, b.record(wire.BookingTopic, 1, old[wire.BookingTopic+"/1"].Headers(), nil))
		stop = start(t, b.relay(s))
		s.addMixed(10)
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// No event comes, so no acknowledgement tells.
func TestALostTailIsNoticedWithoutEvents(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(100)
		r := b.relay(s)
		r.MarkerEvery = 500 * time.Millisecond
		ended := runFor(t, r)
		b.first(t, s)
		client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := kadm.NewClient(client).DeleteTopics(t.Context(), b.prefix+wire.ChatTopic); err != nil {
			t.Fatal(err)
		}
		b.ensure(t)
		if err := <-ended; err == nil { // its words differ: in between the topic was not there at all
			t.Fatal("the run went on")
		}
		start(t, b.relay(s))
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTheLagIsThatOfTheOldestEventThatIsNotInTheLog(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		r := b.relay(s)
		s.addMixed(10)
		s.events[0].RecordedAt = time.Now().Add(-time.Hour)
		if events, age, err := r.Lag(t.Context()); err != nil || events != 10 || age < time.Hour || age > time.Hour+time.Minute {
			t.Errorf("before it led: %d events, %v, %v", events, age, err)
		}
		stop := start(t, r)
		b.markedAt(t, 10)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if events, age, err := r.Lag(t.Context()); err != nil || events != 0 || age != 0 {
			t.Errorf("when all is relayed: %d events, %v, %v", events, age, err)
		}
		s.add("admin-kim", 1) // goes to no topic
		if events, age, err := r.Lag(t.Context()); err != nil || events != 0 || age != 0 {
			t.Errorf("when what is left is not relayed: %d events, %v, %v", events, age, err)
		}
		s.addMixed(2)
		s.events[11].RecordedAt = time.Now().Add(-time.Minute)
		if events, age, err := r.Lag(t.Context()); err != nil || events != 3 || age < time.Minute || age > 2*time.Minute {
			t.Errorf("after it led: %d events, %v, %v", events, age, err)
		}
	})
}

func TestARecordThatIsTooLargeIsNamedAndAllBeforeItIsRelayed(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(60)
		large := newStore()
		large.events = append(large.events, s.events...)
		large.addMixed(60)
		large.events[60].Data = make([]byte, relay.MaxRecordBytes)
		err := b.relay(large).Run(t.Context())
		if err == nil || !containsAll(err.Error(), large.events[60].ID.String(), "position 61") {
			t.Fatalf("got %v, want an error that names the event", err)
		}
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}
