package export_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m, esdbtest.Leaks()...) }

type store interface {
	seal.Store
	eventstore.Loader
	eventstore.Persons
	Close() error
}

func newSQLite(t testing.TB) store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	return opened(t, s, err)
}

func newPostgres(t testing.TB) store {
	t.Helper()
	harness.NeedsServers(t)
	url := harness.Postgres(t)
	if err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	return opened(t, s, err)
}

func opened(t testing.TB, s store, err error) store {
	t.Helper()
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

var kinds = map[string]func(testing.TB) store{"sqlite": newSQLite, "postgres": newPostgres}

// write appends commands with no, one and two events, and seals most of them in blocks of 16.
func write(t testing.TB, s seal.Store, k seal.Key, n int) {
	t.Helper()
	for i := range n {
		stream, id := fmt.Sprintf("groomer-%d", i%5), uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))
		metadata, err := json.Marshal(eventstore.Metadata{CommandID: id, Command: "test", Actor: domain.Actor{ID: "kim", Role: "customer"}})
		if err != nil {
			t.Fatal(err)
		}
		a := eventstore.Append{
			Stream: stream, Key: stream, Expected: eventstore.AnyRevision, Metadata: metadata, DecidedAt: time.Now(),
			Command: eventstore.Command{ID: id, RequestHash: fmt.Appendf(nil, "%032d", i), Actor: "customer:kim"},
		}
		for j := range (1 + i%2) * min(1, i%7) {
			a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(id, stream, j), Type: []string{"odd.v1", "even.v1"}[i%2], Data: fmt.Appendf(nil, `{"n":  %d,"콩이":"é\u00e9"}`, i)})
		}
		if _, err := s.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if i == n*4/5 || i == n/3 {
			if _, err := (&seal.Sealer{Store: s, Key: k, Most: 16}).Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func newKey(t testing.TB) seal.Key {
	t.Helper()
	k, err := seal.LoadOrCreateKey(filepath.Join(t.TempDir(), "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func order(path string) export.Order { return export.Order{Path: path, Kind: "test", Dense: true} }

func exported(t testing.TB, s store, o export.Order) export.Manifest {
	t.Helper()
	m, err := export.Write(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// verified verifies an export with the key.
func verified(t testing.TB, path string, k seal.Key) seal.Report {
	t.Helper()
	f, err := export.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := f.Options()
	if o.Known, err = seal.Known(k.Public); err != nil {
		t.Fatal(err)
	}
	r, err := f.Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// contents is everything that a store has.
type contents struct {
	Events   []eventstore.Recorded
	Commands []eventstore.Accepted
	Silent   []eventstore.Accepted
	Seals    []eventstore.Seal
}

func contentsOf(t testing.TB, s seal.Store) (c contents) {
	t.Helper()
	var ids []uuid.UUID
	var runs seal.Runs
	for r, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		c.Events = append(c.Events, r)
		if id := seal.CommandOf(r); runs.Next(id) {
			ids = append(ids, id)
		}
	}
	found, err := s.CommandsOf(t.Context(), ids, 0)
	if err != nil {
		t.Fatal(err)
	}
	of := map[uuid.UUID]eventstore.Accepted{}
	for _, f := range found {
		of[f.ID] = f
	}
	for _, id := range ids {
		c.Commands = append(c.Commands, of[id])
	}
	for a, err := range s.Silent(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		c.Silent = append(c.Silent, a)
	}
	for l, err := range s.Seals(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		c.Seals = append(c.Seals, l)
	}
	return c
}

// oneEach is a history of n events, each of a command of its own; of tells the event and the command's ID.
func oneEach(n int, of func(i int) (eventstore.Recorded, uuid.UUID)) eventstore.Loaded {
	return eventstore.Loaded{
		Events: func(yield func(eventstore.Recorded, error) bool) {
			for i := range n {
				if r, _ := of(i); !yield(r, nil) {
					return
				}
			}
		},
		Commands: func(yield func(eventstore.Accepted, error) bool) {
			for i := range n {
				r, id := of(i)
				c := eventstore.Command{ID: id, RequestHash: r.Hash[:], Actor: "customer:kim", Stream: r.Stream, LastRevision: r.Revision, Position: r.Position}
				if !yield(eventstore.Accepted{Command: c, RecordedAt: r.RecordedAt}, nil) {
					return
				}
			}
		},
		Seals: func(func(eventstore.Seal, error) bool) {},
	}
}
