package postgres

import (
	"errors"
	"testing"

	"github.com/dangdangsalon/salon/internal/harness"
)

// The driver cancels on the server what it gives up on; of a commit that waits for its standby that would be a lie.
func TestNothingIsCancelledOnTheServer(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	pool, err := connect(t.Context(), harness.Postgres(t), 1, appendSettings, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for range 2 { // a pool's second connection is as good as its first
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Conn().PgConn().CancelRequest(t.Context()); !errors.Is(err, errNoCancel) {
			t.Errorf("cancel: want %v, got: %v", errNoCancel, err)
		}
		if err := conn.Conn().Close(t.Context()); err != nil {
			t.Error(err)
		}
		conn.Release()
	}
}

func TestTwoDatabasesOfAServerAreTwoIncarnations(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	lives := map[string]bool{}
	for range 2 {
		url := harness.Postgres(t)
		if err := Migrate(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		head, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lives[head.Incarnation] = true
	}
	if len(lives) != 2 {
		t.Errorf("incarnations: %v", lives)
	}
}
