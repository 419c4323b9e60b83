package audit

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/inbox"
	"github.com/dangdangsalon/salon/projections/reservations"
	"github.com/dangdangsalon/salon/projections/stats"
)

// onEachStore runs a test on every store there is, each empty.
func onEachStore(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, openSQLite(t)))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		harness.NeedsServers(t)
		t.Parallel()
		url := harness.Postgres(t)
		if err := postgres.Migrate(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		test(t, newWorld(t, closing(t, s)))
	})
	t.Run("EventStoreDB", func(t *testing.T) {
		t.Parallel()
		s, err := esdb.Open(t.Context(), esdb.Config{URL: esdbtest.New(t).URL()})
		if err != nil {
			t.Fatal(err)
		}
		test(t, newWorld(t, closing(t, s)))
	})
}

type closer interface {
	Store
	Close() error
}

func closing(t testing.TB, s closer) Store {
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openSQLite(t testing.TB) Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return closing(t, s)
}

// world is a store, and the past of it.
type world struct {
	t     testing.TB
	store Store
	past  *Past
	texts *fakeTexts
	asked int // commands so far
}

func newWorld(t testing.TB, s Store) *world {
	w := &world{t: t, store: s, texts: &fakeTexts{}}
	w.past = &Past{Store: s, Codec: eventstore.Catalog(), Projections: engine.AllVersions(allProjections()), Texts: w.texts}
	return w
}

func allProjections() []engine.Projection {
	return []engine.Projection{
		reservations.Projection(), history.Projection(), groomers.Projection(), calendar.Projection(), stats.Projection(),
		chatrooms.Projection(), inbox.Projection(),
	}
}

// fakeTexts opens what foldtest seals. Of those who had themselves erased nothing opens, and "damaged" never does.
type fakeTexts struct {
	erased map[string]bool
	away   error
}

func (f *fakeTexts) Open(_ context.Context, s domain.Sealed) (string, bool, error) {
	switch {
	case f.away != nil:
		return "", false, f.away
	case f.erased[s.Subject]:
		return "", true, nil
	case string(s.Cipher) == "damaged":
		return "", false, errors.New("cipher: message authentication failed")
	}
	return string(s.Cipher), false, nil
}

// append records events of one command. Its ID, and so the events', is the same in every run.
func (w *world) append(stream, key string, by domain.Actor, command string, events ...domain.Event) eventstore.Appended {
	w.t.Helper()
	raw := make([]eventstore.NewEvent, len(events))
	for i, e := range events {
		data, err := w.past.Codec.Encode(e)
		if err != nil {
			w.t.Fatal(err)
		}
		raw[i] = eventstore.NewEvent{Type: e.EventType(), Data: data}
	}
	return w.appendRaw(stream, key, by, command, raw...)
}

func (w *world) appendRaw(stream, key string, by domain.Actor, command string, events ...eventstore.NewEvent) eventstore.Appended {
	w.t.Helper()
	id := w.nextCommand()
	return w.appendAs(eventstore.Metadata{CommandID: id, Command: command, Actor: by, CorrelationID: id.String(), CausationID: id.String()}, stream, key, events...)
}

func (w *world) nextCommand() uuid.UUID {
	w.asked++
	return uuid.NewSHA1(uuid.Nil, []byte{byte(w.asked >> 8), byte(w.asked)})
}

func (w *world) appendAs(m eventstore.Metadata, stream, key string, events ...eventstore.NewEvent) eventstore.Appended {
	w.t.Helper()
	id, by := m.CommandID, m.Actor
	metadata, err := json.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	a := eventstore.Append{
		Stream: stream, Key: key, Expected: eventstore.AnyRevision, Metadata: metadata, DecidedAt: time.Now(),
		Command: eventstore.Command{ID: id, RequestHash: make([]byte, 32), Actor: by.Subject()}, Events: events,
	}
	for i := range a.Events {
		a.Events[i].ID = eventstore.EventID(id, stream, i)
	}
	done, err := w.store.Append(w.t.Context(), a)
	if err != nil {
		w.t.Fatal(err)
	}
	return done
}

func (w *world) moment(location, text string) Moment {
	w.t.Helper()
	m, err := ParseMoment(location, text)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// all are the store's events.
func (w *world) all() (out []eventstore.Recorded) {
	w.t.Helper()
	for r, err := range w.store.ReadAll(w.t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// asJSON is an answer as its reader gets it.
func asJSON(t testing.TB, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}
