package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
)

// onEachStore runs a test on every store there is. Each is empty; its second call of open gives another process's view
// of it, where there can be one.
func onEachStore(t *testing.T, test func(t *testing.T, open func() eventstore.Store)) {
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		m := newMemory()
		test(t, func() eventstore.Store { return m })
	})
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		s := openSQLite(t) // has one owner
		test(t, func() eventstore.Store { return s })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		harness.NeedsServers(t)
		t.Parallel()
		url := harness.Postgres(t)
		if err := postgres.Migrate(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		test(t, func() eventstore.Store { return openPostgres(t, url) })
	})
}

func openPostgres(t testing.TB, url string) eventstore.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openSQLite(t testing.TB) eventstore.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// counted counts what a store is asked.
type counted struct {
	eventstore.Store
	appends, commands, reads, events, heads, loads, saves, keys atomic.Int64
}

func (c *counted) forget() {
	for _, n := range []*atomic.Int64{&c.appends, &c.commands, &c.reads, &c.events, &c.heads, &c.loads, &c.saves, &c.keys} {
		n.Store(0)
	}
}

func (c *counted) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	c.appends.Add(1)
	return c.Store.Append(ctx, a)
}

func (c *counted) Command(ctx context.Context, id uuid.UUID) (eventstore.Command, bool, error) {
	c.commands.Add(1)
	return c.Store.Command(ctx, id)
}

func (c *counted) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	c.reads.Add(1)
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range c.Store.ReadStream(ctx, stream, from) {
			c.events.Add(1)
			if !yield(r, err) {
				return
			}
		}
	}
}

func (c *counted) Head(ctx context.Context) (eventstore.Head, error) {
	c.heads.Add(1)
	return c.Store.Head(ctx)
}

func (c *counted) Snapshot(ctx context.Context, stream string, version int) (eventstore.Snapshot, bool, error) {
	c.loads.Add(1)
	return c.Store.Snapshot(ctx, stream, version)
}

func (c *counted) SaveSnapshot(ctx context.Context, s eventstore.Snapshot) error {
	c.saves.Add(1)
	return c.Store.SaveSnapshot(ctx, s)
}

func (c *counted) PersonKey(ctx context.Context, subject string) (string, []byte, bool, error) {
	c.keys.Add(1)
	return c.Store.PersonKey(ctx, subject)
}

func (c *counted) PersonKeyByID(ctx context.Context, subject, id string) ([]byte, bool, error) {
	c.keys.Add(1)
	return c.Store.PersonKeyByID(ctx, subject, id)
}

// record appends events as commands of an earlier time would have, a hundred at once.
func record(t testing.TB, store eventstore.Store, stream, key string, by domain.Actor, from eventstore.Revision, events []domain.Event) {
	t.Helper()
	metadata, err := json.Marshal(eventstore.Metadata{Actor: by})
	if err != nil {
		t.Fatal(err)
	}
	codec := eventstore.Catalog()
	for len(events) > 0 {
		n := min(len(events), eventstore.MaxAppendEvents)
		command := uuid.New()
		a := eventstore.Append{
			Stream: stream, Key: key, Expected: from - 1, Metadata: metadata, DecidedAt: time.Now(),
			Command: eventstore.Command{ID: command, RequestHash: make([]byte, 32), Actor: by.Subject()},
		}
		for i, e := range events[:n] {
			data, err := codec.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(command, stream, i), Type: e.EventType(), Data: data})
		}
		if _, err := store.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		events, from = events[n:], from+eventstore.Revision(n)
	}
}

const longRoom = "mong.00000000000000000000000000"

// talk is a room of n messages.
func talk(t testing.TB, store eventstore.Store, room string, n int) {
	t.Helper()
	events := []domain.Event{chat.Opened{RoomID: room, CustomerID: "kim", GroomerID: "mong"}}
	for i := range n {
		events = append(events, chat.MessagePosted{
			RoomID: room, Seq: uint64(i + 1), Sender: kim, ClientMessageID: fmt.Sprint("old ", i),
			Text: domain.Sealed{Subject: "customer:kim", KeyID: "01kaz3q5w8", Cipher: make([]byte, 90)},
		})
	}
	record(t, store, eventstore.ChatStream(room), room, kim, 0, events)
}

func pastID(i int) string { return fmt.Sprintf("mong.%026d", i) }

// history is a book whose last n/6 reservations came by holds and are long over.
func history(t testing.TB, store eventstore.Store, n int) {
	t.Helper()
	var s groomer.Settings
	fixed, err := json.Marshal(settings("instant"))
	if err != nil {
		t.Fatal(err)
	}
	var r RegisterGroomer
	if err := json.Unmarshal(fixed, &r); err != nil {
		t.Fatal(err)
	}
	s = r.settings()
	events, err := groomer.Groomer{}.Put("mong", domain.Actor{ID: "mong", Role: domain.Groomer}, s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n / 6 {
		start := time.Now().UTC().Truncate(time.Hour).AddDate(0, 0, -3)
		dog := groomer.Dog{Name: domain.Sealed{Subject: "customer:kim", KeyID: "01kaz3q5w8", Cipher: make([]byte, 40)}, Size: "small", Services: []string{"bath"}}
		v := groomer.Visit{CustomerID: "kim", Start: start, Minutes: 30, BufferMinutes: 10, Mode: "shop", Dogs: []groomer.Dog{dog}, PriceKRW: 25_000}
		id, day := pastID(i), start.Format(time.DateOnly)
		events = append(events,
			groomer.SlotHeld{HoldID: pastID(1_000_000 + i), Visit: v, ExpiresAt: start.AddDate(0, 0, -1)},
			groomer.Requested{ReservationID: id, HoldID: pastID(1_000_000 + i), Visit: v, Day: day, Cancellation: s.Policies.Cancellation},
			groomer.Confirmed{ReservationID: id, Day: day},
			groomer.Rescheduled{ReservationID: id, Start: start, FromStart: start, BufferMinutes: 10, Day: day, FromDay: day, Status: groomer.StatusConfirmed},
			groomer.CheckedIn{ReservationID: id, Day: day}, groomer.Completed{ReservationID: id, Day: day, PriceKRW: 25_000})
	}
	record(t, store, eventstore.GroomerStream("mong"), "mong", kim, 0, events)
}
