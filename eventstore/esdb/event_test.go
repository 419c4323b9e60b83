package esdb

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
)

// A reader of any stored bytes answers an error or what was written, and never panics.
func FuzzEnvelope(f *testing.F) {
	f.Add(envelope{id: uuid.New(), at: time.UnixMicro(1).UTC(), events: 3, key: "key", requestHash: make([]byte, 32), actor: "customer:kim", metadata: []byte(`{}`)}.encode())
	f.Add(envelope{id: uuid.New(), at: time.UnixMicro(1).UTC(), events: 1, key: "key", origin: 7, metadata: []byte(`{}`)}.encode())
	f.Add([]byte{envelopeVersion})
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err != nil {
			return
		}
		if !bytes.Equal(e.encode(), b) {
			t.Errorf("%x came back as %x", b, e.encode())
		}
		for n := range len(b) - len(e.metadata) {
			if _, err := decode(b[:n]); err == nil {
				t.Errorf("%d bytes of %d are taken for an envelope", n, len(b))
			}
		}
	})
}

// EventStoreDB accepts the same ID again: it must be of the same content.
func TestAnEventsIDOnTheServerIsOfItsContent(t *testing.T) {
	t.Parallel()
	a := eventstore.Append{Stream: "stream", Key: "key", Command: eventstore.Command{ID: uuid.New()}}
	a.Events = []eventstore.NewEvent{{ID: eventstore.EventID(a.Command.ID, "stream", 0), Type: "t", Data: []byte("x")}}
	now := time.Now()
	id := func(change func(a *eventstore.Append), behind eventstore.Revision, at time.Time) uuid.UUID {
		b := a
		b.Events = append([]eventstore.NewEvent(nil), a.Events...)
		change(&b)
		events, _ := proposed(b, behind, at)
		return events[0].EventID
	}
	same := func(*eventstore.Append) {}
	if again := id(same, 1, now); again != id(same, 1, now) {
		t.Error("the same event has two IDs")
	}
	seen := map[uuid.UUID]bool{id(same, 1, now): true}
	for i, other := range []uuid.UUID{
		id(func(a *eventstore.Append) { a.Events[0].Data = []byte("y") }, 1, now), id(func(a *eventstore.Append) { a.Metadata = []byte("m") }, 1, now),
		id(func(a *eventstore.Append) { a.Key = "k" }, 1, now), id(same, 2, now), id(same, 1, now.Add(time.Millisecond)),
	} {
		if seen[other] {
			t.Errorf("event %d has another's ID", i)
		}
		seen[other] = true
	}
}

// Another process may have a clock that is a little ahead.
func TestWhatWasReadIsNeverLaterThanWhatIsAppended(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{URL: esdbtest.New(t).URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ahead := eventstore.Micros(time.Now().Add(2 * time.Second))
	s.note(1, ahead)
	a := eventstore.Append{Stream: "stream", Key: "key", Expected: eventstore.NoStream, DecidedAt: time.Now(), Command: eventstore.Command{ID: uuid.New()}}
	a.Events = []eventstore.NewEvent{{ID: eventstore.EventID(a.Command.ID, "stream", 0), Type: "t"}}
	if done, err := s.Append(t.Context(), a); err != nil || done.RecordedAt.Before(ahead) {
		t.Errorf("recorded at %v, after something of %v: %v", done.RecordedAt, ahead, err)
	}
}

// What the client does while it looks for a node: it waits for a channel, whatever its context says.
func TestACallThatHangsPastItsContextIsLeftBehindWithItsClient(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{URL: esdbtest.New(t).URL(), Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	forever, left := make(chan struct{}), make(chan *esdb.Client, 2)
	defer close(forever)
	for _, ended := range []bool{true, false} { // its caller's context, and the store's time-out
		ctx, cancel := context.WithCancel(t.Context())
		if ended {
			time.AfterFunc(20*time.Millisecond, cancel)
		}
		began := time.Now()
		_, err := call(ctx, s, func(_ context.Context, c *esdb.Client) (int, error) {
			left <- c
			<-forever
			return 0, nil
		})
		cancel()
		if !errors.Is(err, errHangs) || time.Since(began) > 2*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		old := <-left
		if _, err := call(t.Context(), s, func(_ context.Context, c *esdb.Client) (int, error) {
			if c == old {
				t.Error("the client that hangs is asked again")
			}
			return 0, nil
		}); err != nil {
			t.Error(err)
		}
	}
}
