package export_test

import (
	"context"
	"encoding/json"
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
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

type store interface {
	seal.Store
	eventstore.Loader
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

// Persons' keys travel in a file of their own, which nobody else may read, and never over those that are there.
func TestPersonsKeysTravelBeside(t *testing.T) {
	t.Parallel()
	eventStoreDB := func(t testing.TB) seal.Store {
		s, err := esdb.Open(t.Context(), esdb.Config{URL: esdbtest.New(t).URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	for name, old := range map[string]func(testing.TB) seal.Store{
		"sqlite": func(t testing.TB) seal.Store { return newSQLite(t) }, "postgres": func(t testing.TB) seal.Store { return newPostgres(t) }, "esdb": eventStoreDB,
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

func contentsOf(t testing.TB, s seal.Store) (c contents) {
	t.Helper()
	var ids []uuid.UUID
	var runs seal.Runs
	for r, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		c.Events = append(c.Events, r)
		if id, begins := runs.Next(r); begins {
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

// cut ends a reading behind some events.
type cut struct {
	store
	after int
}

func (c cut) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		n := 0
		for r, err := range c.store.ReadAll(ctx, after, f) {
			if n++; n > c.after {
				yield(eventstore.Recorded{}, errCut)
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

var errCut = errors.New("cut")

// However an export was interrupted, going on makes the files that it would have made at once.
func TestAnInterruptedExportGoesOn(t *testing.T) {
	t.Parallel()
	s, k, dir := newSQLite(t), newKey(t), t.TempDir()
	write(t, s, k, 100)
	whole := filepath.Join(dir, "whole", "history.jsonl")
	if err := os.Mkdir(filepath.Dir(whole), 0o700); err != nil {
		t.Fatal(err)
	}
	exported(t, s, order(whole))
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	events, commands := read(whole), read(whole+".commands")
	for n := range 40 {
		path := filepath.Join(dir, fmt.Sprint(n), "history.jsonl")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := export.Write(t.Context(), cut{store: s}, order(path)); !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if _, err := export.Open(path); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("opening what is not finished: %v", err)
		}
		// A kill leaves any part of each file, the commands ahead of the events.
		at := len(events) * n / 40
		ahead := min(len(commands), len(commands)*(n+7)/40)
		for name, part := range map[string]string{"": events[:at], ".commands": commands[:ahead]} {
			if err := os.WriteFile(path+name+".part", []byte(part), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if n%3 == 0 { // killed at the very end, when it had begun to give names
			if err := os.Rename(path+".commands.part", path+".commands"); err != nil {
				t.Fatal(err)
			}
		}
		write := order(path)
		if n == 5 {
			write.Asked.Stream = "groomer-1"
			if _, err := export.Write(t.Context(), s, write); err == nil || !strings.Contains(err.Error(), "another export") {
				t.Errorf("going on with another: %v", err)
			}
			write.Asked.Stream = ""
		}
		exported(t, s, write)
		for _, name := range []string{"", ".commands", ".seals"} {
			if diff := cmp.Diff(read(whole+name), read(path+name)); diff != "" {
				t.Fatalf("interrupted at %d of %d bytes: %s differs:\n%s", at, len(events), name, diff)
			}
		}
		if r := verified(t, path, k); r.Finding != nil {
			t.Errorf("%v", r.Finding)
		}
	}
	if _, err := export.Write(t.Context(), s, order(whole)); !errors.Is(err, export.ErrThere) {
		t.Errorf("over what is there: %v", err)
	}
}

// Parts of a history verify, too, with the seals that lie in them; they cannot be imported.
func TestPartsOfAHistory(t *testing.T) {
	t.Parallel()
	s, k, dir := newSQLite(t), newKey(t), t.TempDir()
	write(t, s, k, 100)
	for _, c := range []struct {
		name  string
		asked export.Asked
		seals uint64
	}{
		{"a prefix", export.Asked{To: 70}, 4},
		{"a middle", export.Asked{From: 20, To: 70}, 2},
		{"an end", export.Asked{From: 40}, 4},
		{"less than a block", export.Asked{From: 3, To: 5}, 0},
		{"a stream", export.Asked{Stream: "groomer-1"}, 0},
		{"a key", export.Asked{Key: "groomer-2"}, 0},
		{"a type", export.Asked{Types: []string{"odd.v1"}}, 0},
		{"nothing", export.Asked{Key: "nobody"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := order(filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-")))
			o.Asked = c.asked
			m := exported(t, s, o)
			r := verified(t, o.Path, k)
			if r.Finding != nil || r.Seals != c.seals || r.Events != m.Events {
				t.Errorf("%d of %d events, %d seals, want %d: %v", r.Events, m.Events, r.Seals, c.seals, r.Finding)
			}
			f, err := export.Open(o.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want := export.ErrNotWhole
			if c.name == "a prefix" {
				want = nil
			}
			if err := export.Import(t.Context(), f, newSQLite(t), nil); !errors.Is(err, want) {
				t.Errorf("import: %v", err)
			}
		})
	}
}

// An export that was changed is found out, whatever was changed, and leaves the store that is to take it empty.
func TestAChangedExportIsNamed(t *testing.T) {
	t.Parallel()
	s, k, dir := newSQLite(t), newKey(t), t.TempDir()
	write(t, s, k, 100)
	whole := filepath.Join(dir, "whole")
	exported(t, s, order(whole))
	lines := func(of string, change func(lines []string) []string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			b, err := os.ReadFile(path + of)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+of, []byte(strings.Join(change(strings.SplitAfter(string(b), "\n")), "")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, path string)
		want seal.Finding
	}{
		{"an event's data", lines("", func(l []string) []string { l[20] = strings.Replace(l[20], `"n":  `, `"n":  9`, 1); return l }), seal.Finding{What: seal.Changed, Position: 21}},
		{"an event less", lines("", func(l []string) []string { return append(l[:20], l[21:]...) }), seal.Finding{What: seal.Missing, Position: 21}},
		{"two events swapped", lines("", func(l []string) []string { l[20], l[24] = l[24], l[20]; return l }), seal.Finding{What: seal.Moved, Position: 25}},
		{"the last line cut off", lines("", func(l []string) []string { l[len(l)-2] = l[len(l)-2][:40]; return l }), seal.Finding{What: seal.Missing}},
		{"a command", lines(".commands", func(l []string) []string { l[11] = strings.Replace(l[11], "kim", "lee", 1); return l }), seal.Finding{What: seal.CommandChanged}},
		{"a command less", lines(".commands", func(l []string) []string { return append(l[:11], l[12:]...) }), seal.Finding{What: seal.CommandMissing}},
		{"a seal", lines(".seals", func(l []string) []string { l[1] = strings.Replace(l[1], `\"count\":`, `\"count\":1`, 1); return l }), seal.Finding{What: seal.SealChanged}},
		{"a seal less", lines(".seals", func(l []string) []string { return append(l[:1], l[2:]...) }), seal.Finding{What: seal.SealMissing}},
		{"a space", lines("", func(l []string) []string { l[2] = strings.Replace(l[2], `,"stream"`, `, "stream"`, 1); return l }), seal.Finding{What: seal.Changed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "whole")
			for _, of := range []string{"", ".commands", ".seals", ".manifest.json"} {
				b, err := os.ReadFile(whole + of)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path+of, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c.do(t, path)
			r := verified(t, path, k)
			if r.Finding == nil || r.Finding.What != c.want.What || c.want.Position > 0 && r.Finding.Position != c.want.Position {
				t.Errorf("want %+v, got: %+v", c.want, r.Finding)
			}
			f, err := export.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			into := newSQLite(t)
			if err := export.Import(t.Context(), f, into, nil); !errors.Is(err, export.ErrNotAsManifested) {
				t.Errorf("import: %v", err)
			}
			if have := contentsOf(t, into); len(have.Events)+len(have.Commands)+len(have.Seals) > 0 {
				t.Errorf("the store has %d events", len(have.Events))
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
