package postgres_test

import (
	"context"
	"errors"
	neturl "net/url"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/internal/harness"
)

// Waiting would not help: whoever starts is told why, at once, and no secret is repeated.
func TestWrongCredentialsAreToldAtOnce(t *testing.T) {
	t.Parallel()
	server, url := own(t)
	beside := sql(t, url)
	execute(t, beside, "CREATE ROLE kim LOGIN PASSWORD 'geheim'")
	execute(t, beside, "CREATE ROLE bada LOGIN PASSWORD 'geheim'")
	execute(t, beside, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO kim")
	server.Authenticate(t, "kim", "scram-sha-256")
	for _, c := range []struct {
		name, user, password, says string
	}{
		{"a wrong password", "kim", "verraten", "password authentication failed"},
		{"no password", "kim", "", ""},
		{"somebody unknown", "nobody", "verraten", `role "nobody" does not exist`},
		{"somebody who may not look", "bada", "geheim", "permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			as := changed(t, url, func(u *neturl.URL) { u.User = neturl.UserPassword(c.user, c.password) })
			began := time.Now()
			s, err := postgres.Open(t.Context(), postgres.Config{URL: as})
			if err == nil || errors.Is(err, eventstore.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want a refusal that says %q, got: %v, %v", c.says, err, s)
			}
			migrate := postgres.Migrate(t.Context(), as)
			for _, err := range []error{err, migrate} {
				if err == nil || strings.Contains(err.Error(), "verraten") || strings.Contains(err.Error(), "\n") {
					t.Errorf("want one line without secrets, got: %v", err)
				}
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v to say so", took)
			}
		})
	}
	// Who may read and not write is told so, and nothing is done.
	s := openAt(t, changed(t, url, func(u *neturl.URL) { u.User = neturl.UserPassword("kim", "geheim") }))
	if _, err := s.Append(t.Context(), request("stream", "x")); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Errorf("append without the right to: want ErrUnavailable, got: %v", err)
	}
	if n := count(t, beside); n != 0 {
		t.Errorf("%d events", n)
	}
}

// A rollback by one release must find its store open: what a newer one added is its own business.
func TestADatabaseOfANewerReleaseIsUsed(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	beside := sql(t, url)
	execute(t, beside, "INSERT INTO events_migrations (version_id, is_applied) VALUES (99, true)")
	execute(t, beside, "ALTER TABLE events ADD COLUMN newer text")
	s := openAt(t, url)
	if _, err := s.Append(t.Context(), request("stream", "x")); err != nil {
		t.Fatal(err)
	}
	if n := count(t, beside); n != 1 {
		t.Errorf("%d events", n)
	}
	for r, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil || r.Position != 1 {
			t.Errorf("read: %+v, %v", r, err)
		}
	}
	if err := postgres.Migrate(t.Context(), url); err != nil {
		t.Errorf("migrate: %v", err)
	}
	if steps, err := postgres.Migrations(t.Context(), url); err != nil || len(steps) == 0 {
		t.Errorf("migrations: %+v, %v", steps, err)
	}
}

// A clock that jumps ahead leaves its mark on the head, and one that jumps back finds it there.
func TestTimeAscendsHoweverTheServersClockJumps(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	s, beside := openAt(t, url), sql(t, url)
	append1 := func() time.Time {
		t.Helper()
		done, err := s.Append(t.Context(), request("stream", "x"))
		if err != nil {
			t.Fatal(err)
		}
		return done.RecordedAt
	}
	last := append1()
	for _, jump := range []string{"1 second", "1 hour", "2 hours"} {
		// The clock was so far ahead when the last event was written, and is right again now.
		head := wasAhead(t, beside, jump)
		for range 2 {
			at := append1()
			if at.Before(last) || at.Before(head) {
				t.Errorf("after a jump of %s: recorded at %v, after %v and a head of %v", jump, at, last, head)
			}
			last = at
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var before time.Time
	for r, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil || r.RecordedAt.Before(before) {
			t.Fatalf("position %d was recorded at %v, the one before at %v: %v", r.Position, r.RecordedAt, before, err)
		}
		before = r.RecordedAt
	}
}

// A decision counts its age by the database's clock. One that is wrong stops a node's appends, with a definite answer.
func TestANodeWhoseClockIsWrongAppendsNothing(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	s, beside := openAt(t, url), sql(t, url)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		a := request("stream", "x")
		a.DecidedAt = time.Now().Add(off)
		if _, err := s.Append(t.Context(), a); !errors.Is(err, eventstore.ErrDecisionTooOld) {
			t.Errorf("%v off: want ErrDecisionTooOld, got: %v", off, err)
		}
	}
	if n := count(t, beside); n != 0 {
		t.Errorf("%d events", n)
	}
}

// A server that is away when a node starts, and comes: Open says so until then, and works at once.
func TestAServerThatComesLaterIsOpenedThen(t *testing.T) {
	t.Parallel()
	url, proxy := harness.Through(t, migrated(t))
	proxy.Cut()
	for range 3 {
		began := time.Now()
		if s, err := postgres.Open(t.Context(), postgres.Config{URL: url}); !errors.Is(err, eventstore.ErrUnavailable) || time.Since(began) > 10*time.Second {
			t.Fatalf("want ErrUnavailable soon, got after %v: %v, %v", time.Since(began), err, s)
		}
	}
	proxy.Restore(t)
	if _, err := openAt(t, url).Append(t.Context(), request("stream", "x")); err != nil {
		t.Fatal(err)
	}
}
