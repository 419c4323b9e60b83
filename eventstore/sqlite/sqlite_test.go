package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

func open(t testing.TB) eventstore.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
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

func BenchmarkAppend(b *testing.B) { storetest.Bench(b, open) }
