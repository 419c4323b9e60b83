package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

// opened is a store that knows where it is.
type opened struct {
	*sqlite.Store
	path string
}

func openAt(t testing.TB, path string) opened {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened{s, path}
}

func newFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) eventstore.Store { return openAt(t, newFile(t)) }, storetest.Features{
		Dense: true,
		Reopen: func(t testing.TB, s eventstore.Store) eventstore.Store {
			was := s.(opened)
			if err := was.Close(); err != nil {
				t.Fatal(err)
			}
			return openAt(t, was.path)
		},
	})
}
