package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

func TestMain(m *testing.M) {
	storetest.Children{
		"writes": opens(func(ctx context.Context, s *sqlite.Store, _ []string) error {
			return storetest.AppendUntilKilled(ctx, s, os.Stdout)
		}),
		"serves": opens(func(ctx context.Context, s *sqlite.Store, _ []string) error {
			return storetest.Serve(ctx, s, os.Stdin, os.Stdout)
		}),
		"settles":          opens(settles),
		"runs out of room": opens(runOutOfRoom),
	}.Main(m)
}

// opens is a child that opens the store of its first argument.
func opens(does func(ctx context.Context, s *sqlite.Store, args []string) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		s, err := sqlite.Open(ctx, sqlite.Config{Path: args[0]})
		if err != nil {
			return err
		}
		defer s.Close()
		return does(ctx, s, args)
	}
}

func request(stream string, data ...string) eventstore.Append {
	a := eventstore.Append{
		Stream: stream, Key: stream, Expected: eventstore.AnyRevision, Metadata: []byte(`{}`), DecidedAt: time.Now(),
		Command: eventstore.Command{ID: uuid.New(), RequestHash: make([]byte, 32), Actor: "customer:kim"},
	}
	return fill(a, data...)
}

func fill(a eventstore.Append, data ...string) eventstore.Append {
	for i, d := range data {
		a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(a.Command.ID, a.Stream, i), Type: "test.v1", Data: []byte(d)})
	}
	return a
}

func TestKilledProcess(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	storetest.Kills(t, storetest.Times(t, 5), func() *exec.Cmd { return storetest.Child(t, "writes", path) }, func() eventstore.Store { return openAt(t, path) })
}

func TestAnswersHaveAnExplanationWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	storetest.ExplainKills(t, func() *exec.Cmd { return storetest.Child(t, "serves", path) })
}

func TestASecondOwnerIsToldWhoTheFirstIs(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	locked := func(want int) {
		t.Helper()
		var l *sqlite.LockedError
		if s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}); !errors.As(err, &l) || l.PID != want || !strings.Contains(err.Error(), fmt.Sprint(want)) {
			t.Fatalf("want a lock of process %d, got: %v, %v", want, s, err)
		}
		if err := sqlite.Migrate(t.Context(), path); !errors.As(err, &l) {
			t.Fatalf("migrate: want a lock, got: %v", err)
		}
	}
	c := storetest.Child(t, "writes", path)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// Its first word says that it has the store; the rest is read so that it does not stop at a full pipe.
	words := bufio.NewReader(out)
	if _, err := words.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var drained sync.WaitGroup
	drained.Go(func() { _, _ = words.WriteTo(discard{}) })
	locked(c.Process.Pid)
	// Its migrations may be listed all the same.
	if steps, err := sqlite.Migrations(t.Context(), path); err != nil || len(steps) == 0 || steps[0].AppliedAt.IsZero() {
		t.Errorf("migrations of a store in use: %+v, %v", steps, err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	drained.Wait()
	_ = c.Wait()
	// A lock ends with its process, however that ended.
	s := openAt(t, path)
	locked(os.Getpid())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// runOutOfRoom lets files of this process grow no further while many append, again and again.
func runOutOfRoom(ctx context.Context, s *sqlite.Store, _ []string) error {
	var free syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &free); err != nil {
		return err
	}
	enough := make(chan struct{})
	var hits atomic.Int64
	var hurting sync.WaitGroup
	hurting.Go(func() {
		defer close(enough)
		for n := 0; n < 12 || hits.Load() == 0 && n < 100; n++ { // a slow disk writes nothing while it is short
			for _, limit := range []uint64{uint64(64+n*8) << 10, free.Cur} { //nolint:gosec // small numbers
				<-time.After(time.Duration(15+n) * time.Millisecond)
				if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: free.Max}); err != nil {
					panic(err)
				}
			}
		}
	})
	settled, err := storetest.Settle(ctx, []eventstore.Store{s}, 16, enough, func() { hits.Add(1) })
	hurting.Wait()
	if err == nil && settled.Unavailable+settled.Unknown == 0 {
		err = errors.New("no append was hit: nothing was shown")
	}
	fmt.Fprintf(os.Stderr, "%+v\n", settled)
	return err
}

func TestEveryCommandHasOneEffectWhenThereIsNoRoom(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	if err := storetest.Child(t, "runs out of room", path).Run(); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	n := uint64(0)
	for r, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if n++; err != nil || r.Position != n {
			t.Fatalf("position %d is the %d.: %v", r.Position, n, err)
		}
	}
}

// edit changes a closed store's file behind its back.
func edit(t *testing.T, path string, query string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedTailIsNotAppendedTo(t *testing.T) {
	t.Parallel()
	for _, damage := range []struct{ name, query string }{
		{"the last event is gone", "DELETE FROM events WHERE position = 400"},
		{"one of the last events is gone", "DELETE FROM events WHERE position = 390"},
		{"the head is behind", "UPDATE store_head SET position = 399"},
		{"the head is ahead", "UPDATE store_head SET position = 401"},
		{"the head's time is behind", "UPDATE store_head SET recorded_at = recorded_at - 1000000"},
		{"an event says something else", `UPDATE events SET data = CAST('{"price_krw":1}' AS BLOB) WHERE position = 300`},
		{"an event was somebody else's", `UPDATE events SET metadata = CAST('{"actor":{}}' AS BLOB) WHERE position = 300`},
		{"two events changed places", "UPDATE events SET position = CASE position WHEN 398 THEN -399 ELSE -398 END WHERE position IN (398, 399); UPDATE events SET position = -position WHERE position < 0"},
		{"all are gone", "DELETE FROM events"},
	} {
		t.Run(damage.name, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			s := openAt(t, path)
			for range 40 {
				if _, err := s.Append(t.Context(), request("stream", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := openAt(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			edit(t, path, damage.query)
			_, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
			if !errors.Is(err, eventstore.ErrDamaged) {
				t.Fatalf("want ErrDamaged, got: %v", err)
			}
			t.Log(err)
		})
	}
}

func TestAFileOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	steps, err := sqlite.Migrations(t.Context(), path)
	if err != nil || len(steps) == 0 || !steps[0].AppliedAt.IsZero() || steps[0].Name != "00001_events.sql" {
		t.Fatalf("migrations of no file: %+v, %v", steps, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("asking made the file: %v", err)
	}
	if s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}); !errors.Is(err, sqlite.ErrNotMigrated) {
		t.Fatalf("want ErrNotMigrated, got: %v, %v", s, err)
	}
	other := filepath.Join(t.TempDir(), "letter.txt")
	if err := os.WriteFile(other, []byte(strings.Repeat("Dear groomer, ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{other, filepath.Join(t.TempDir(), "no", "such", "folder", "events.db")} {
		_, open := sqlite.Open(t.Context(), sqlite.Config{Path: path})
		for what, err := range map[string]error{"open": open, "migrate": sqlite.Migrate(t.Context(), path)} {
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %s: want one line, got: %q", what, filepath.Base(path), err)
			}
		}
	}
}

func TestAFileMayBeCalledAnything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "50% off? #1 댕댕&_pragma=synchronous(OFF);%20 'x'")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	if _, err := s.Append(t.Context(), request("stream", "x")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

func TestTimeDoesNotGoBackWithTheClock(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	// As if this machine's clock had been an hour ahead until now.
	ahead := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	edit(t, path, "UPDATE store_head SET recorded_at = ?", ahead.UnixMicro())
	s := openAt(t, path)
	for range 3 {
		if done, err := s.Append(t.Context(), request("stream", "x")); err != nil || !done.RecordedAt.Equal(ahead) {
			t.Fatalf("recorded at %v, want %v; %v", done.RecordedAt, ahead, err)
		}
	}
	old := request("stream", "x")
	old.DecidedAt = time.Now().Add(-eventstore.MaxDecisionAge - time.Second)
	if _, err := s.Append(t.Context(), old); !errors.Is(err, eventstore.ErrDecisionTooOld) {
		t.Fatalf("want ErrDecisionTooOld, got: %v", err)
	}
}
