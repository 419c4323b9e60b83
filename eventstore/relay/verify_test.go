package relay_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/relay"
)

// afters is a store that tells where the first read of all events began.
type afters struct {
	*store
	seen chan uint64
}

func (a afters) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	select {
	case a.seen <- after:
	default:
	}
	return a.store.ReadAll(ctx, after, f)
}

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// restore puts the store back to its first n events, and lets others stand where the lost ones stood, in one moment.
func (s *store) restore(n int, then ...string) {
	other := newStore()
	s.mu.Lock()
	defer s.mu.Unlock()
	other.events = append(other.events, s.events[:n]...)
	for _, stream := range then {
		other.add(stream, 1)
	}
	s.events = other.events
	close(s.grown)
	s.grown = make(chan struct{})
}

// runFor runs a relay that is to end with an error; nil comes when it does not.
func runFor(t *testing.T, r *relay.Relay) <-chan error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- r.Run(ctx)
	}()
	return ended
}

func mixed(n int) (streams []string) {
	s := newStore()
	s.addMixed(n)
	for _, e := range s.events {
		streams = append(streams, e.Stream)
	}
	return streams
}

// Partitions end with events or with markers: either names an event that the restored store lacks.
func TestARestoredStoreIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(100)
		stop := start(t, b.relay(s))
		b.markedAt(t, 100)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		lost := s.events[99]
		before := b.size(t)
		for name, then := range map[string][]string{"shorter": nil, "overtaken": mixed(200), "overtaken in another order": mixed(201)[1:]} {
			restored := newStore()
			restored.events = s.events
			restored.restore(60, then...)
			var refused *relay.RestoredError
			if err := b.relay(restored).Run(t.Context()); !errors.As(err, &refused) {
				t.Fatalf("%s: got %v, want a refusal", name, err)
			}
			if refused.Position <= 60 || !containsAll(refused.Error(), refused.ID.String(), refused.Topic, refused.Stream) {
				t.Errorf("%s: %v, want the event that is missing", name, refused)
			}
		}
		// A store that lacks just the last event, which only the markers name.
		shorter := newStore()
		shorter.events = s.events
		shorter.restore(99)
		var refused *relay.RestoredError
		if err := b.relay(shorter).Run(t.Context()); !errors.As(err, &refused) || refused.ID != lost.ID {
			t.Errorf("got %v, want event %s", err, lost.ID)
		}
		if after := b.size(t); after != before {
			t.Errorf("%d records were written", after-before)
		}
	})
}

// The store is restored while the relay runs, and grows past its old end before the relay looks.
func TestARestoredStoreIsNoticedUnderARunningRelay(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		for name, c := range map[string]struct {
			to   int
			then []string
		}{
			"shorter":                       {to: 60},
			"overtaken":                     {to: 60, then: mixed(200)},
			"overtaken by the same streams": {to: 0, then: mixed(140)},
			"as long as it was":             {to: 60, then: mixed(100)[60:]},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				b := b
				b.prefix += strings.ReplaceAll(name, " ", "-") + "."
				b.ensure(t)
				s := newStore()
				s.addMixed(100)
				r := b.relay(s)
				r.MarkerEvery = time.Second // also how soon it looks
				ended := runFor(t, r)
				b.markedAt(t, 100)
				before, lost := b.size(t), s.events[99]
				s.restore(c.to, c.then...)
				var refused *relay.RestoredError
				if err := <-ended; !errors.As(err, &refused) || refused.ID != lost.ID || refused.Position != 100 {
					t.Fatalf("got %v, want a refusal that names event %s", err, lost.ID)
				}
				if after := b.size(t); after != before {
					t.Errorf("%d records were written", after-before)
				}
			})
		}
	})
}

// A promotion that lost nothing: the run ends, and the next goes on under the new incarnation.
func TestAnotherIncarnationIsTakenUpByTheNextRun(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		s := newStore()
		s.addMixed(100)
		ended := runFor(t, b.relay(s))
		b.markedAt(t, 100)
		s.mu.Lock()
		s.incarnation = "test-2"
		s.mu.Unlock()
		s.addMixed(50)
		if err := <-ended; !errors.Is(err, relay.ErrIncarnation) {
			t.Fatalf("got %v, want the end of the incarnation", err)
		}
		start(t, b.relay(s))
		if diff := cmp.Diff(s.want(), b.first(t, s)); diff != "" {
			t.Error(diff)
		}
		b.read(t, func(r record) bool {
			of := r.Incarnation
			if r.marker != nil {
				of, r.Pos = r.marker.Incarnation, r.marker.At.Position
			}
			if want := map[bool]string{true: "test-1", false: "test-2"}[r.Pos <= 100]; of != want && r.marker == nil {
				t.Errorf("position %d is of incarnation %s, want %s", r.Pos, of, want)
			}
			return r.Pos == 150 && r.partition != ""
		})
	})
}
