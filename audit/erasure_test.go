package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore/sqlite"
)

func TestALedgerOutlivesWhoDiesWritingIt(t *testing.T) {
	t.Parallel()
	l := Erasures{Path: filepath.Join(t.TempDir(), "erasures")}
	if all, err := l.All(); err != nil || len(all) > 0 {
		t.Errorf("before the first: %v, %v", all, err)
	}
	at := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	first, second := Erasure{"customer:kim", "k1", at, "cli.ops"}, Erasure{"groomer:kim", "k2", at, "cli.ops"}
	add := func(e Erasure) {
		t.Helper()
		if err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(l.Path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	add(first)
	write(`{"subject":"customer:lee","key_id":"k`) // killed
	for range 2 {
		all, err := l.All()
		if diff := cmp.Diff([]Erasure{first}, all); err != nil || diff != "" {
			t.Errorf("with half a line at the end: %v\n%s", err, diff)
		}
	}
	add(second)
	all, err := l.All()
	if diff := cmp.Diff([]Erasure{first, second}, all); err != nil || diff != "" {
		t.Errorf("with half a line in the middle: %v\n%s", err, diff)
	}
	write(`{"subject":"customer:lee","key_id":7}` + "\n")
	if all, err := l.All(); err == nil {
		t.Errorf("a damaged line was passed over: %v", all)
	}
}

// dying is a store whose caller dies before it erases.
type dying struct{ *sqlite.Store }

var errDied = errors.New("died")

func (dying) ErasePerson(context.Context, string) error { return errDied }

// Whoever erases may die between the ledger and the store: what the ledger has is owed until it is applied, and nothing else.
func TestWhatTheLedgerHasIsOwed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for subject, id := range map[string]string{"customer:kim": "k1", "customer:lee": "k2", "customer:ana": "k3"} {
		if _, _, err := s.AddPersonKey(t.Context(), subject, id, []byte("wrapped")); err != nil {
			t.Fatal(err)
		}
	}
	l := Erasures{Path: filepath.Join(t.TempDir(), "erasures")}
	if had, err := Erase(t.Context(), s, l, "customer:ana", "ops"); err != nil || !had {
		t.Fatalf("erase: %v, %v", had, err)
	}
	if _, _, err := s.AddPersonKey(t.Context(), "customer:ana", "k4", []byte("wrapped")); err != nil { // she came back
		t.Fatal(err)
	}
	if _, err := Erase(t.Context(), dying{s}, l, "customer:kim", "ops"); !errors.Is(err, errDied) {
		t.Fatalf("erase: %v", err)
	}
	for _, want := range [][]string{{"customer:kim"}, nil} {
		all, err := l.All()
		if err != nil {
			t.Fatal(err)
		}
		owed, err := Owed(t.Context(), s, all)
		var got []string
		for _, e := range owed {
			got = append(got, e.Subject)
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("owed: %v\n%s", err, diff)
		}
		if err := Apply(t.Context(), s, owed); err != nil {
			t.Fatal(err)
		}
	}
	for subject, want := range map[string]bool{"customer:kim": false, "customer:lee": true, "customer:ana": true} {
		if _, _, found, err := s.PersonKey(t.Context(), subject); err != nil || found != want {
			t.Errorf("%s has a key: %v, %v", subject, found, err)
		}
	}
}
