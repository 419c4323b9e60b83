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

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
)

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
