package export_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
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

// What one store has, another one has after export and import: every byte, every number, every command, every seal. The
// new store answers a repeated command as the old one did, and goes on.
func TestExportAndImportAreTheSameHistory(t *testing.T) {
	t.Parallel()
	for from, old := range kinds {
		for to, fresh := range kinds {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				a, b, k, path := old(t), fresh(t), newKey(t), filepath.Join(t.TempDir(), "history.jsonl")
				write(t, a, k, 100)
				m := exported(t, a, order(path))
				if r := verified(t, path, k); r.Finding != nil || r.Seals < 5 || r.Unsealed == 0 || r.Events != m.Events {
					t.Fatalf("the export: %+v, %v", r, r.Finding)
				}
				f, err := export.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if err := export.Import(t.Context(), f, b, nil); err != nil {
					t.Fatal(err)
				}
				want := contentsOf(t, a)
				if diff := cmp.Diff(want, contentsOf(t, b)); diff != "" {
					t.Errorf("contents (-exported +imported):\n%s", diff)
				}
				known, err := seal.Known(k.Public)
				if err != nil {
					t.Fatal(err)
				}
				if r, err := seal.Verify(t.Context(), b, seal.Options{Dense: true, Known: known}); err != nil || r.Finding != nil {
					t.Errorf("the imported store: %v, %v", r.Finding, err)
				}
				last := want.Commands[len(want.Commands)-1]
				_, err = b.Append(t.Context(), eventstore.Append{
					Stream: last.Stream, Key: last.Stream, Expected: eventstore.AnyRevision, Metadata: []byte("{}"), DecidedAt: time.Now(), Command: last.Command,
				})
				var duplicate *eventstore.DuplicateError
				if !errors.As(err, &duplicate) || cmp.Diff(last.Command, duplicate.Command) != "" {
					t.Errorf("the last command again: %v", err)
				}
				end := want.Events[len(want.Events)-1]
				id := uuid.New()
				done, err := b.Append(t.Context(), eventstore.Append{
					Stream: end.Stream, Key: end.Stream, Expected: end.Revision, Metadata: []byte("{}"), DecidedAt: time.Now(), Command: eventstore.Command{ID: id},
					Events: []eventstore.NewEvent{{ID: eventstore.EventID(id, end.Stream, 0), Type: "new.v1", Data: []byte("{}")}},
				})
				if err != nil || done.Position != end.Position+1 || done.RecordedAt.Before(end.RecordedAt) {
					t.Errorf("the next append: %+v, %v", done, err)
				}
				again, err := export.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer again.Close()
				if err := export.Import(t.Context(), again, b, nil); !errors.Is(err, eventstore.ErrNotEmpty) {
					t.Errorf("into a store that is not empty: %v", err)
				}
			})
		}
	}
}

// EventStoreDB's history moves to the other stores, which number its events from 1; hashes, order and seals are the same.
func TestEventStoreDBMovesToAnotherStore(t *testing.T) {
	t.Parallel()
	s, err := esdb.Open(t.Context(), esdb.Config{URL: esdbtest.New(t).URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k, path := newKey(t), filepath.Join(t.TempDir(), "history.jsonl")
	write(t, s, k, 60)
	o := order(path)
	o.Dense = false
	if _, err := export.Write(t.Context(), s, o); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, path, k); r.Finding != nil || r.Seals < 3 {
		t.Fatalf("the export: %+v, %v", r, r.Finding)
	}
	want := contentsOf(t, s)
	numbers := map[uint64]uint64{}
	for i, r := range want.Events {
		numbers[r.Position] = uint64(i + 1)     //nolint:gosec // not negative
		want.Events[i].Position = uint64(i + 1) //nolint:gosec // not negative
	}
	for i := range want.Commands {
		want.Commands[i].Position = numbers[want.Commands[i].Position]
	}
	for i := range want.Silent {
		want.Silent[i].Position, want.Silent[i].Silent = numbers[want.Silent[i].Position], uint64(i+1) //nolint:gosec // not negative
	}
	for i := range want.Seals {
		want.Seals[i].Through = numbers[want.Seals[i].Through]
		want.Seals[i].SilentThrough = 0 // compared by the verification
	}
	for kind, fresh := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			into := fresh(t)
			f, err := export.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := export.Import(t.Context(), f, into, nil); err != nil {
				t.Fatal(err)
			}
			got := contentsOf(t, into)
			for i := range got.Seals {
				got.Seals[i].SilentThrough = 0
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("contents (-exported +imported):\n%s", diff)
			}
			known, err := seal.Known(k.Public)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := seal.Verify(t.Context(), into, seal.Options{Dense: true, Known: known}); err != nil || r.Finding != nil || r.Seals != uint64(len(want.Seals)) {
				t.Errorf("%+v, %v: %v", r, r.Finding, err)
			}
		})
	}
}

// Whatever ends an import in the middle, the store is empty, and takes the next one.
func TestAnImportThatEndsInTheMiddleLeavesNothing(t *testing.T) {
	t.Parallel()
	s, k, path := newSQLite(t), newKey(t), filepath.Join(t.TempDir(), "history.jsonl")
	write(t, s, k, 100)
	exported(t, s, order(path))
	for kind, fresh := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			into := fresh(t)
			for _, part := range []string{"events", "commands", "seals"} {
				f, err := export.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := export.Import(t.Context(), f, ending{into, part}, nil); !errors.Is(err, errCut) {
					t.Errorf("ended in the %s: %v", part, err)
				}
				f.Close()
				if head, err := into.Head(t.Context()); err != nil || head.Position != 0 {
					t.Errorf("the head is %d: %v", head.Position, err)
				}
				if have := contentsOf(t, into); len(have.Events)+len(have.Silent)+len(have.Seals) > 0 {
					t.Errorf("ended in the %s, the store has %d events, %d seals", part, len(have.Events), len(have.Seals))
				}
			}
			f, err := export.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := export.Import(t.Context(), f, into, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// ending ends a part of what is loaded behind its second.
type ending struct {
	eventstore.Loader
	part string
}

func (e ending) Load(ctx context.Context, from eventstore.Loaded) error {
	switch e.part {
	case "events":
		from.Events = second(from.Events)
	case "commands":
		from.Commands = second(from.Commands)
	case "seals":
		from.Seals = second(from.Seals)
	}
	return e.Loader.Load(ctx, from)
}

func second[T any](all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		n := 0
		for v, err := range all {
			if n++; n > 2 {
				var none T
				yield(none, errCut)
				return
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// keyed is a store whose persons' keys are exported.
type keyed interface {
	seal.Store
	eventstore.Persons
}

// Persons' keys travel in a file of their own, which nobody else may read, and never over those that are there.
func TestPersonsKeysTravelBeside(t *testing.T) {
	t.Parallel()
	eventStoreDB := func(t testing.TB) keyed {
		s, err := esdb.Open(t.Context(), esdb.Config{URL: esdbtest.New(t).URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	for name, old := range map[string]func(testing.TB) keyed{
		"sqlite": func(t testing.TB) keyed { return newSQLite(t) }, "postgres": func(t testing.TB) keyed { return newPostgres(t) }, "esdb": eventStoreDB,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, dir := old(t), newSQLite(t), t.TempDir()
			const persons = 3000
			for n := range persons / 100 { // a few of them on EventStoreDB, where each is a round trip
				for m := range 100 {
					if name == "esdb" && m > 0 {
						break
					}
					if _, _, err := a.AddPersonKey(t.Context(), fmt.Sprintf("customer:%d-%d", n, m), fmt.Sprint("key", m), []byte{byte(n), byte(m)}); err != nil {
						t.Fatal(err)
					}
				}
			}
			o := order(filepath.Join(dir, "history.jsonl"))
			o.Keys = filepath.Join(dir, "keys")
			m, err := export.Write(t.Context(), a, o)
			if err != nil || m.PersonKeys < persons/100 {
				t.Fatalf("%d keys, %v", m.PersonKeys, err)
			}
			if i, err := os.Stat(o.Keys); err != nil || i.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", i.Mode(), err)
			}
			if _, err := export.WriteKeys(o.Keys, a.PersonKeys(t.Context())); !errors.Is(err, export.ErrThere) {
				t.Errorf("over what is there: %v", err)
			}
			for range 2 {
				if n, err := export.AddKeys(t.Context(), o.Keys, b); err != nil || n != m.PersonKeys {
					t.Errorf("%d of %d keys, %v", n, m.PersonKeys, err)
				}
			}
			for k, err := range a.PersonKeys(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				wrapped, found, err := b.PersonKeyByID(t.Context(), k.Subject, k.KeyID)
				if err != nil || !found || string(wrapped) != string(k.Wrapped) {
					t.Fatalf("%s: found %v, %v", k.Subject, found, err)
				}
			}
			other := newSQLite(t)
			if _, _, err := other.AddPersonKey(t.Context(), "customer:0-0", "another", []byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := export.AddKeys(t.Context(), o.Keys, other); err == nil || !strings.Contains(err.Error(), "another key") {
				t.Errorf("over another key: %v", err)
			}
		})
	}
}
