package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/sealed"
)

// TestTheMasterKeyOfServersIsChanged goes the four steps of salon keys rewrap --help with one text: before it and after it, who
// has both keys reads the text, and then who has the new one alone, but not who has the old one alone.
func TestTheMasterKeyOfServersIsChanged(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	events := harness.Postgres(t)
	if err := migrateEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	s, err := openEvents(t.Context(), events, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files, keys := [2]string{}, [2][]byte{}
	for i, name := range []string{"old", "new"} {
		files[i] = filepath.Join(t.TempDir(), name)
		if keys[i], err = sealed.LoadOrCreateMaster(files[i]); err != nil {
			t.Fatal(err)
		}
	}
	opened := func(masters ...[]byte) *sealed.Keys {
		t.Helper()
		k, err := sealed.New(s, masters[0], masters[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	text, err := opened(keys[0]).Seal(t.Context(), "customer:kim", "콩이")
	if err != nil {
		t.Fatal(err)
	}
	reads := func(when string, k *sealed.Keys, can bool) {
		t.Helper()
		got, erased, err := k.Open(t.Context(), text)
		if can && (got != "콩이" || erased || err != nil) || !can && !errors.Is(err, sealed.ErrWrongMaster) {
			t.Errorf("%s: %q, %v, %v", when, got, erased, err)
		}
	}
	reads("old before new", opened(keys[0], keys[1]), true)
	reads("new before old", opened(keys[1], keys[0]), true)
	reads("new alone, too early", opened(keys[1]), false)
	rewrap := func(args ...string) called {
		return call(t, append([]string{"keys", "rewrap", "--events", events}, args...)...)
	}
	rewrap("--master-key-file", files[1]).refused(t, 2, "--master-key-also")
	rewrap("--master-key-file", files[1], "--master-key-also", filepath.Join(t.TempDir(), "none")).refused(t, 1, "master key")
	for _, want := range []string{"1 keys, 1 of them wrapped again", "1 keys, 0 of them wrapped again"} {
		if got := rewrap("--master-key-file", files[1], "--master-key-also", files[0]); got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("exit %d, %s%s, want %q", got.code, got.out, got.err, want)
		}
	}
	reads("new before old", opened(keys[1], keys[0]), true)
	reads("new alone", opened(keys[1]), true)
	reads("old alone", opened(keys[0]), false)
}
