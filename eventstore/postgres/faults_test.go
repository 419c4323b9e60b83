package postgres_test

import (
	"context"
	"errors"
	neturl "net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/internal/harness"
)

// sql is a connection beside the store's.
func sql(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func execute(t testing.TB, c *pgx.Conn, query string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func changed(t testing.TB, url string, change func(*neturl.URL)) string {
	t.Helper()
	u, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

func request(stream string, data ...string) eventstore.Append {
	a := eventstore.Append{
		Stream: stream, Key: stream, Expected: eventstore.AnyRevision, Metadata: []byte(`{}`), DecidedAt: time.Now(),
		Command: eventstore.Command{ID: uuid.New(), RequestHash: make([]byte, 32), Actor: "customer:kim"},
	}
	for i, d := range data {
		a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(a.Command.ID, stream, i), Type: "test.v1", Data: []byte(d)})
	}
	return a
}

// count is how many events there are.
func count(t testing.TB, c *pgx.Conn) (n int) {
	t.Helper()
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM events").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// holdTheLock takes what every append takes, for the rest of the transaction.
const holdTheLock = "SELECT pg_advisory_xact_lock(8286574923601)"

// wasAhead makes the store's last event one of a time when the server's clock was so far ahead.
func wasAhead(t testing.TB, c *pgx.Conn, by string) (recorded time.Time) {
	t.Helper()
	err := c.QueryRow(t.Context(), "UPDATE events SET recorded_at = clock_timestamp() + $1::text::interval WHERE position = (SELECT max(position) FROM events) "+
		"RETURNING recorded_at", by).Scan(&recorded)
	if err != nil {
		t.Fatal(err)
	}
	return recorded
}

const terminateAppends = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity " +
	"WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%append_events%'"

// waitForTheLock waits until so many groups of appends of this database wait for a lock that the test holds. The connection must not
// be in a transaction: one sees the same activity to its end.
func waitForTheLock(t testing.TB, c *pgx.Conn, appends int) {
	t.Helper()
	for {
		var waiting int
		err := c.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%append_events%'").Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		if waiting >= appends {
			return
		}
	}
}

func TestAnAppendWhoseConnectionIsKilledIsSettledByItsCommandID(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	s, beside, holder := openAt(t, url), sql(t, url), sql(t, url)
	execute(t, holder, "BEGIN")
	execute(t, holder, holdTheLock)
	a := request("stream", "x", "y")
	answer := make(chan error, 1)
	go func() {
		_, err := s.Append(t.Context(), a)
		answer <- err
	}()
	waitForTheLock(t, beside, 1)
	execute(t, beside, terminateAppends)
	if err := <-answer; !errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Fatalf("want ErrOutcomeUnknown, got: %v", err)
	}
	execute(t, holder, "ROLLBACK")
	done, err := s.Append(t.Context(), a)
	if err != nil || done.LastRevision != 1 || count(t, beside) != 2 {
		t.Fatalf("again: %+v, %v; %d events", done, err, count(t, beside))
	}
	var duplicate *eventstore.DuplicateError
	if _, err := s.Append(t.Context(), a); !errors.As(err, &duplicate) || duplicate.Command.LastRevision != 1 {
		t.Fatalf("and again: %v", err)
	}
}

// pause is long enough for some appends between two faults.
func pause(ctx context.Context) error {
	select {
	case <-time.After(40 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Many appends at once from two instances, whose connections are killed in the middle of it, or whose network is cut.
func TestEveryCommandHasOneEffectWhileConnectionsDie(t *testing.T) {
	t.Parallel()
	const kills = 25
	for _, fault := range []struct {
		name  string
		under func(t *testing.T, url string) (throughURL string, hurt func(context.Context) error)
	}{
		{"backends are terminated", func(t *testing.T, url string) (string, func(context.Context) error) {
			beside := sql(t, url)
			return url, func(ctx context.Context) error {
				for n := 0; n < kills; {
					var killed int
					if err := beside.QueryRow(ctx, terminateAppends).Scan(&killed); err != nil {
						return err
					}
					n += killed
					if killed > 0 {
						if err := pause(ctx); err != nil {
							return err
						}
					}
				}
				return nil
			}
		}},
		{"the network is cut", func(t *testing.T, url string) (string, func(context.Context) error) {
			through, proxy := harness.Through(t, url)
			return through, func(ctx context.Context) error {
				for range kills {
					if err := pause(ctx); err != nil {
						return err
					}
					proxy.Cut()
					proxy.Restore(t)
				}
				return nil
			}
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			url, hurt := fault.under(t, migrated(t))
			stores := []eventstore.Store{openAt(t, url), openAt(t, url)}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			enough := make(chan struct{})
			var hurting sync.WaitGroup
			hurting.Go(func() {
				defer close(enough)
				if err := hurt(ctx); err != nil {
					t.Error(err)
				}
			})
			settled, err := storetest.Settle(ctx, stores, 16, enough)
			hurting.Wait()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", settled)
			if settled.Unknown == 0 {
				t.Error("no append was hit: the test has shown nothing")
			}
		})
	}
}

func TestAHeldLockEndsWaitingAppendsWithADefiniteAnswer(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	s, beside := openAt(t, url), sql(t, url)
	execute(t, beside, "BEGIN")
	execute(t, beside, holdTheLock)
	a := request("stream", "x")
	if _, err := s.Append(t.Context(), a); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Fatalf("want ErrUnavailable, got: %v", err)
	}
	execute(t, beside, "ROLLBACK")
	a.DecidedAt = time.Now()
	if _, err := s.Append(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// A node that died after it took the lock and before it said that this was all.
func TestANodeThatFallsSilentWithTheLockIsEnded(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	s := openAt(t, url)
	holder := sql(t, changed(t, url, func(u *neturl.URL) { u.RawQuery += "&application_name=salon" }))
	// As append_events is called, but for the Sync: the transaction is open, the server waits, and nothing else will come.
	holder.PgConn().Frontend().SendParse(&pgproto3.Parse{Query: holdTheLock})
	holder.PgConn().Frontend().SendBind(&pgproto3.Bind{})
	holder.PgConn().Frontend().SendExecute(&pgproto3.Execute{})
	holder.PgConn().Frontend().Send(&pgproto3.Flush{})
	if err := holder.PgConn().Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	for { // until it has the lock
		answer, err := holder.PgConn().Frontend().Receive()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := answer.(*pgproto3.CommandComplete); ok {
			break
		}
	}
	if _, err := s.Append(t.Context(), request("stream", "x")); err != nil {
		t.Fatal(err)
	}
}

func TestADatabaseOfAnotherReleaseIsRefused(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	url := harness.Postgres(t)
	refused := func() {
		t.Helper()
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if !errors.Is(err, postgres.ErrNotMigrated) {
			t.Fatalf("want ErrNotMigrated, got: %v, %v", s, err)
		}
	}
	refused()
	steps, err := postgres.Migrations(t.Context(), url)
	if err != nil || len(steps) == 0 || !steps[0].AppliedAt.IsZero() || steps[0].Name != "00001_events.sql" {
		t.Fatalf("before: %+v, %v", steps, err)
	}
	refused() // asking made goose's own table
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := postgres.Migrate(t.Context(), url); err != nil {
				t.Errorf("one of four that migrate at once: %v", err)
			}
		})
	}
	all.Wait()
	steps, err = postgres.Migrations(t.Context(), url)
	if err != nil || time.Since(steps[0].AppliedAt) > time.Minute {
		t.Fatalf("after: %+v, %v", steps, err)
	}
	openAt(t, url)
}

func TestAServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	const password = "geheim"
	for _, c := range []struct {
		name, url   string
		unavailable bool
	}{
		{"a closed port", "postgres://kim:" + password + "@127.0.0.1:1/salon", true},
		{"a host without a name", "postgres://kim:" + password + "@no.such.host.invalid/salon", true},
		{"another scheme", "mysql://kim:" + password + "@127.0.0.1/salon", false},
		{"no URL", "postgres://kim:" + password + "@127.0.0.1:port/salon", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := postgres.Open(t.Context(), postgres.Config{URL: c.url})
			if err == nil || errors.Is(err, eventstore.ErrUnavailable) != c.unavailable {
				t.Errorf("open: want unavailable %t, got: %v", c.unavailable, err)
			}
			migrate := postgres.Migrate(t.Context(), c.url)
			if migrate == nil || errors.Is(migrate, eventstore.ErrUnavailable) != c.unavailable {
				t.Errorf("migrate: want unavailable %t, got: %v", c.unavailable, migrate)
			}
			for _, err := range []error{err, migrate} {
				if err != nil && (strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "\n")) {
					t.Errorf("not one line without secrets: %q", err)
				}
			}
		})
	}
}

func TestAServerThatGoesAwayIsUnavailableUntilItIsBack(t *testing.T) {
	t.Parallel()
	url, proxy := harness.Through(t, migrated(t))
	s := openAt(t, url)
	if _, err := s.Append(t.Context(), request("stream", "x")); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	calls := map[string]func() error{
		"append": func() error { _, err := s.Append(ctx, request("stream", "y")); return err },
		"command": func() error {
			_, _, err := s.Command(ctx, uuid.New())
			return err
		},
		"read": func() error {
			for _, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
				return err
			}
			return nil
		},
		"head": func() error { _, err := s.Head(ctx); return err },
		"wait": func() error { return s.Wait(ctx, 1) },
		"key":  func() error { _, _, _, err := s.PersonKey(ctx, "customer:kim"); return err },
		"add key": func() error {
			_, _, err := s.AddPersonKey(ctx, "customer:kim", "k", []byte{1})
			return err
		},
	}
	for range 2 { // the first may find a connection that looked well
		for name, call := range calls {
			if err := call(); !errors.Is(err, eventstore.ErrUnavailable) && !errors.Is(err, eventstore.ErrOutcomeUnknown) {
				t.Errorf("%s: want ErrUnavailable, got: %v", name, err)
			}
		}
	}
	proxy.Restore(t)
	delete(calls, "wait")
	for name, call := range calls {
		err := call()
		if err != nil {
			err = call() // by a new connection
		}
		if err != nil {
			t.Errorf("%s, when the server is back: %v", name, err)
		}
	}
}

// What a server, a database or a role may have set must not change what an append is.
func TestTheServersSettingsDoNotMatter(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	beside := sql(t, url)
	var database string
	if err := beside.QueryRow(t.Context(), "SELECT current_database()").Scan(&database); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{
		"default_transaction_isolation = 'serializable'", "timezone = 'Asia/Seoul'", "datestyle = 'German'", "bytea_output = 'escape'",
		"synchronous_commit = off", "standard_conforming_strings = off", "client_encoding = 'EUC_KR'", "search_path = pg_catalog, public",
	} {
		execute(t, beside, "ALTER DATABASE "+database+" SET "+setting)
	}
	stores := []eventstore.Store{openAt(t, url), openAt(t, url)}
	enough := make(chan struct{})
	begun := time.AfterFunc(500*time.Millisecond, func() { close(enough) })
	defer begun.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	settled, err := storetest.Settle(ctx, stores, 16, enough)
	if err != nil || settled.Unavailable+settled.Unknown > 0 {
		t.Fatalf("%+v, %v", settled, err)
	}
}

func TestADatabaseThatIsNotUTF8IsRefused(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	beside := sql(t, url)
	name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	execute(t, beside, "CREATE DATABASE "+name+" ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(context.Background())
		if _, err := c.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	ascii := changed(t, url, func(u *neturl.URL) { u.Path = "/" + name })
	if err := postgres.Migrate(t.Context(), ascii); err != nil {
		t.Fatal(err)
	}
	if s, err := postgres.Open(t.Context(), postgres.Config{URL: ascii}); err == nil || !strings.Contains(err.Error(), "UTF8") {
		t.Fatalf("want a refusal that names UTF8, got: %v, %v", s, err)
	}
}

func TestAReadOnlyServerIsUnavailable(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	beside := sql(t, url)
	s := openAt(t, changed(t, url, func(u *neturl.URL) { u.RawQuery += "&default_transaction_read_only=on" }))
	if _, err := s.Append(t.Context(), request("stream", "x")); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Fatalf("want ErrUnavailable, got: %v", err)
	}
	if n := count(t, beside); n != 0 {
		t.Fatalf("%d events", n)
	}
}

func TestTimeDoesNotGoBackWithTheServersClock(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	s, beside := openAt(t, url), sql(t, url)
	// As if the server's clock had been three seconds ahead until now.
	if _, err := s.Append(t.Context(), request("stream", "x")); err != nil {
		t.Fatal(err)
	}
	ahead := wasAhead(t, beside, "3 seconds")
	for range 3 {
		done, err := s.Append(t.Context(), request("stream", "x"))
		if err != nil || !done.RecordedAt.Equal(ahead) {
			t.Fatalf("recorded at %v, want %v; %v", done.RecordedAt, ahead, err)
		}
	}
	// A decision's age is measured by the clock, not by what was recorded.
	old := request("stream", "x")
	old.DecidedAt = time.Now().Add(-eventstore.MaxDecisionAge - time.Second)
	if _, err := s.Append(t.Context(), old); !errors.Is(err, eventstore.ErrDecisionTooOld) {
		t.Fatalf("want ErrDecisionTooOld, got: %v", err)
	}
}
