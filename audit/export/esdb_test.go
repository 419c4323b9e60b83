package export_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
)

// loadingAt opens EventStoreDB as who imports does.
func loadingAt(t testing.TB, server *esdbtest.Server) *esdb.Store {
	t.Helper()
	s, err := esdb.Open(t.Context(), esdb.Config{URL: server.URL(), Loading: true})
	for errors.Is(err, eventstore.ErrUnavailable) { // a write that was under way when a test broke connections has broken this one, too
		s, err = esdb.Open(t.Context(), esdb.Config{URL: server.URL(), Loading: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func imported(t testing.TB, path string, into eventstore.Loader) error {
	t.Helper()
	f, err := export.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return export.Import(t.Context(), f, into, nil)
}

// onlyOrder takes what a store numbers by itself out of its contents, and leaves in which order all of it is.
func onlyOrder(c contents) contents {
	number := map[uint64]uint64{}
	for i := range c.Events {
		n := uint64(i + 1) //nolint:gosec // not negative
		number[c.Events[i].Position], c.Events[i].Position, c.Events[i].Origin = n, n, 0
	}
	for _, some := range [][]eventstore.Accepted{c.Commands, c.Silent} {
		for i := range some {
			some[i].Position, some[i].Silent = number[some[i].Position], 0
		}
	}
	for i := range c.Seals {
		c.Seals[i].Through, c.Seals[i].SilentThrough = number[c.Seals[i].Through], 0 // the verification compares it
	}
	return c
}

func sound(t testing.TB, s seal.Store, k seal.Key, dense bool) seal.Report {
	t.Helper()
	known, err := seal.Known(k.Public)
	if err != nil {
		t.Fatal(err)
	}
	r, err := seal.Verify(t.Context(), s, seal.Options{Dense: dense, Known: known})
	if err != nil || r.Finding != nil {
		t.Errorf("%v, %v", r.Finding, err)
	}
	return r
}

// A history moves to EventStoreDB and from there to SQLite, and is the same: each event in its order, with its ID, revision,
// time and hash, each command, each seal. EventStoreDB keeps where an event stood, answers repeated commands and goes on.
func TestAHistoryMovesThroughEventStoreDB(t *testing.T) {
	t.Parallel()
	for name, old := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, c, k, dir := old(t), newSQLite(t), newKey(t), t.TempDir()
			server := esdbtest.New(t)
			b := loadingAt(t, server)
			write(t, a, k, 100)
			path := filepath.Join(dir, "one.jsonl")
			exported(t, a, order(path))
			if err := imported(t, path, b); err != nil {
				t.Fatal(err)
			}
			want := contentsOf(t, a)
			got := contentsOf(t, b)
			for i, r := range got.Events {
				if r.Origin != want.Events[i].Position || r.Position == r.Origin {
					t.Errorf("the event at position %d says that it stood at %d, not %d", r.Position, r.Origin, want.Events[i].Position)
				}
			}
			if diff := cmp.Diff(onlyOrder(contentsOf(t, a)), onlyOrder(got)); diff != "" {
				t.Errorf("contents (-exported +imported):\n%s", diff)
			}
			if r := sound(t, b, k, false); r.Seals != uint64(len(want.Seals)) || r.Unsealed == 0 {
				t.Errorf("%+v", r)
			}
			if err := imported(t, path, b); !errors.Is(err, eventstore.ErrNotEmpty) {
				t.Errorf("into a store that is not empty: %v", err)
			}

			second := order(filepath.Join(dir, "two.jsonl"))
			second.Kind, second.Dense = "esdb", false
			if _, err := export.Write(t.Context(), b, second); err != nil {
				t.Fatal(err)
			}
			if err := imported(t, second.Path, c); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, contentsOf(t, c)); diff != "" {
				t.Errorf("through EventStoreDB (-exported +imported):\n%s", diff)
			}
			sound(t, c, k, true)

			for _, last := range []eventstore.Accepted{want.Commands[len(want.Commands)-1], want.Silent[len(want.Silent)-1]} {
				_, err := b.Append(t.Context(), eventstore.Append{
					Stream: last.Stream, Key: last.Stream, Expected: eventstore.AnyRevision, Metadata: []byte("{}"), DecidedAt: time.Now(), Command: last.Command,
				})
				var duplicate *eventstore.DuplicateError
				if !errors.As(err, &duplicate) || duplicate.Command.LastRevision != last.LastRevision || string(duplicate.Command.RequestHash) != string(last.RequestHash) {
					t.Errorf("command %s again: %v", last.ID, err)
				}
			}
			end, id := got.Events[len(got.Events)-1], uuid.New()
			done, err := b.Append(t.Context(), eventstore.Append{
				Stream: end.Stream, Key: end.Stream, Expected: end.Revision, Metadata: []byte("{}"), DecidedAt: time.Now(), Command: eventstore.Command{ID: id},
				Events: []eventstore.NewEvent{{ID: eventstore.EventID(id, end.Stream, 0), Type: "new.v1", Data: []byte("{}")}},
			})
			if err != nil || done.RecordedAt.Before(end.RecordedAt) {
				t.Errorf("the next append: %+v, %v", done, err)
			}
			if _, err := (&seal.Sealer{Store: b, Key: k, Most: 16}).Seal(t.Context()); err != nil {
				t.Error(err)
			}
			if r := sound(t, b, k, false); r.Unsealed != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Wherever an import into EventStoreDB is cut off, with its write done or not, nothing but an import opens the store, and the
// next one goes on until all is there, once.
func TestAnImportIntoEventStoreDBThatIsCutOffGoesOn(t *testing.T) {
	t.Parallel()
	a, k, path := newSQLite(t), newKey(t), filepath.Join(t.TempDir(), "history.jsonl")
	write(t, a, k, 30)
	exported(t, a, order(path))
	want := onlyOrder(contentsOf(t, a))
	server := esdbtest.New(t)
	var left, cut atomic.Int64
	server.Intercept(func(_ context.Context, s esdbtest.Step) error {
		if strings.HasPrefix(s.Stream, "salon-clock") || strings.HasPrefix(s.Stream, "$$") || left.Add(-1) >= 0 {
			return nil
		}
		left.Store(7 + 11*cut.Add(1)) // further each time: what goes ahead is written again, and is the same
		return esdbtest.ErrDrop
	})
	left.Store(7)
	for whole := false; !whole; {
		s := loadingAt(t, server)
		err := imported(t, path, s)
		if whole = err == nil; !whole && !errors.Is(err, eventstore.ErrUnavailable) {
			t.Fatal(err)
		}
		if len(server.Streams("salon-import")) == 0 {
			continue // it was cut off in front of anything
		}
		o, err := esdb.Open(t.Context(), esdb.Config{URL: server.URL()})
		for errors.Is(err, eventstore.ErrUnavailable) {
			o, err = esdb.Open(t.Context(), esdb.Config{URL: server.URL()})
		}
		if err == nil {
			_ = o.Close()
		}
		if opened := err == nil; opened != whole || !whole && !errors.Is(err, eventstore.ErrLoading) {
			t.Fatalf("imported: %t, and opening it: %v", whole, err)
		}
	}
	server.Intercept(nil)
	if cut.Load() < 4 {
		t.Errorf("it was cut off %d times", cut.Load())
	}
	s := loadingAt(t, server)
	if diff := cmp.Diff(want, onlyOrder(contentsOf(t, s))); diff != "" {
		t.Errorf("contents (-exported +imported):\n%s", diff)
	}
	sound(t, s, k, false)
}

// What was begun with one history does not go on with another, and what somebody else wrote in between is found out.
func TestAnImportIntoEventStoreDBIsOfOneHistory(t *testing.T) {
	t.Parallel()
	k, dir := newKey(t), t.TempDir()
	files := make([]string, 2)
	for i := range files {
		a := newSQLite(t)
		write(t, a, k, 20+i)
		files[i] = filepath.Join(dir, string(rune('a'+i)))
		exported(t, a, order(files[i]))
	}
	server := esdbtest.New(t)
	before, err := esdb.Open(t.Context(), esdb.Config{URL: server.URL()}) // a node that began with the empty store
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	var events atomic.Int64
	server.Intercept(func(_ context.Context, s esdbtest.Step) error {
		if strings.HasPrefix(s.Stream, "groomer-") && events.Add(1) == 10 {
			return esdbtest.ErrDrop
		}
		return nil
	})
	s := loadingAt(t, server)
	if err := imported(t, files[0], s); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Fatal(err)
	}
	if err := imported(t, files[1], s); !errors.Is(err, eventstore.ErrNotEmpty) || !strings.Contains(err.Error(), "is not of the history") {
		t.Errorf("going on with another history: %v", err)
	}
	id := uuid.New()
	_, err = before.Append(t.Context(), eventstore.Append{
		Stream: "groomer-new", Key: "new", Expected: eventstore.NoStream, Metadata: []byte("{}"), DecidedAt: time.Now(), Command: eventstore.Command{ID: id},
		Events: []eventstore.NewEvent{{ID: eventstore.EventID(id, "groomer-new", 0), Type: "new.v1", Data: []byte("{}")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := imported(t, files[0], s); !errors.Is(err, eventstore.ErrNotEmpty) || !strings.Contains(err.Error(), "groomer-new") {
		t.Errorf("with an event of somebody else: %v", err)
	}
}
