package esdb_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
)

func request(stream string, data ...string) eventstore.Append {
	a := eventstore.Append{
		Stream: stream, Key: stream, Expected: eventstore.AnyRevision, Metadata: []byte(`{}`), DecidedAt: time.Now(),
		Command: eventstore.Command{ID: uuid.New(), RequestHash: make([]byte, 32), Actor: "customer:kim"},
	}
	return fill(a, data...)
}

func fill(a eventstore.Append, data ...string) eventstore.Append {
	a.Events = nil
	for i, d := range data {
		a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(a.Command.ID, a.Stream, i), Type: "test.v1", Data: []byte(d)})
	}
	return a
}

// stored is what stands in the store: the data of its events.
func stored(t testing.TB, s eventstore.Store) (out []string) {
	t.Helper()
	for r, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(r.Data))
	}
	return out
}

func holds(t testing.TB, s eventstore.Store, want ...string) {
	t.Helper()
	if got := stored(t, s); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("the store holds %q, want %q", got, want)
	}
}

func appended(t testing.TB, s eventstore.Store, a eventstore.Append) eventstore.Appended {
	t.Helper()
	a.DecidedAt = time.Now()
	done, err := s.Append(t.Context(), a)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return done
}

// duplicate appends and wants the answer that the command was accepted, with its stream's last revision.
func duplicate(t testing.TB, s eventstore.Store, a eventstore.Append, last eventstore.Revision) {
	t.Helper()
	var known *eventstore.DuplicateError
	if _, err := s.Append(t.Context(), a); !errors.As(err, &known) || known.Command.LastRevision != last || known.Command.ID != a.Command.ID {
		t.Fatalf("append of a known command: want a duplicate at revision %d, got: %v", last, err)
	}
}

func wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("want %q, got: %v", want, err)
	}
	for _, leak := range []string{"127.0.0.1", "esdb:", "dial", "secret"} {
		if strings.Contains(err.Error(), leak) {
			t.Errorf("the error says %q: %v", leak, err)
		}
	}
}

// on is an interceptor for the streams whose names begin so; it lets n of them by first.
func on(prefix string, done bool, n int32, do func(ctx context.Context) error) esdbtest.Interceptor {
	var met atomic.Int32
	return func(ctx context.Context, s esdbtest.Step) error {
		if !strings.HasPrefix(s.Stream, prefix) || s.Done != done || met.Add(1) != n+1 {
			return nil
		}
		return do(ctx)
	}
}

func drop(context.Context) error { return esdbtest.ErrDrop }

func TestAnAppendWhoseAnswerIsLostIsSettledByItsCommandID(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL()})
	appended(t, s, request("stream", "before"))

	a := request("stream", "x", "y")
	server.Intercept(on("stream", true, 0, drop))
	_, err := s.Append(t.Context(), a)
	wants(t, err, eventstore.ErrOutcomeUnknown)
	duplicate(t, s, a, 2)
	duplicate(t, openAt(t, s.config), fill(a, "other content"), 2)

	none := request("stream")
	server.Intercept(on("command-", true, 0, drop))
	_, err = s.Append(t.Context(), none)
	wants(t, err, eventstore.ErrOutcomeUnknown)
	duplicate(t, s, none, 2)

	b := request("stream", "z")
	server.Intercept(on("command-", true, 0, drop)) // of the claim: nothing was done, and nothing will be
	_, err = s.Append(t.Context(), b)
	wants(t, err, eventstore.ErrUnavailable)
	holds(t, s, "before", "x", "y")
	appended(t, s, b)
	holds(t, s, "before", "x", "y", "z")
}

func TestWhatACrashBetweenClaimAndAppendLeavesIsSettledByTheRepetition(t *testing.T) {
	t.Parallel()
	crash := func(t *testing.T) (*esdbtest.Server, opened, eventstore.Append) {
		server := esdbtest.New(t)
		s := openAt(t, esdb.Config{URL: server.URL(), Timeout: 300 * time.Millisecond})
		appended(t, s, request("stream", "before"))
		a := request("stream", "x", "y")
		dying, kill := context.WithCancel(t.Context())
		server.Intercept(on("command-", true, 0, func(context.Context) error { kill(); return nil }))
		_, err := s.Append(dying, a)
		wants(t, err, context.Canceled)
		server.Intercept(nil)
		if _, found, err := s.Command(t.Context(), a.Command.ID); found || err != nil {
			t.Fatalf("a claim alone is taken for a command: %t, %v", found, err)
		}
		holds(t, s, "before")
		return server, openAt(t, s.config), a
	}
	t.Run("it goes to the same place", func(t *testing.T) {
		t.Parallel()
		_, s, a := crash(t)
		if done := appended(t, s, fill(a, "decided anew")); done.LastRevision != 1 {
			t.Errorf("ended at revision %d", done.LastRevision)
		}
		duplicate(t, s, a, 1)
		holds(t, s, "before", "decided anew")
	})
	t.Run("the stream has moved on", func(t *testing.T) {
		t.Parallel()
		_, s, a := crash(t)
		appended(t, s, request("stream", "between"))
		appended(t, s, a)
		duplicate(t, s, a, 3)
		holds(t, s, "before", "between", "x", "y")
	})
	t.Run("without events, or elsewhere, it waits until the claim is old", func(t *testing.T) {
		t.Parallel()
		for _, change := range []func(a eventstore.Append) eventstore.Append{
			func(a eventstore.Append) eventstore.Append { return fill(a) },
			func(a eventstore.Append) eventstore.Append { a.Stream = "elsewhere"; return fill(a, "z") },
		} {
			_, s, a := crash(t)
			a = change(a)
			began, unknown := time.Now(), 0
			for {
				a.DecidedAt = time.Now()
				_, err := s.Append(t.Context(), a)
				if err == nil {
					break
				}
				wants(t, err, eventstore.ErrOutcomeUnknown)
				unknown++
			}
			if took := time.Since(began); unknown == 0 || took < 600*time.Millisecond {
				t.Errorf("a claim that might be in flight was passed over after %v", took)
			}
			if _, err := s.Append(t.Context(), a); !errors.As(err, new(*eventstore.DuplicateError)) {
				t.Errorf("and again: %v", err)
			}
		}
	})
}

// While the claim is on its way the stream moves on. The answer must be true of one moment.
func TestACommandWithoutEventsIsAcceptedAtTheEndOfItsStream(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL()})
	other := openAt(t, s.config)
	appended(t, s, request("stream", "0"))
	meanwhile := func(data string) {
		server.Intercept(on("command-", false, 0, func(context.Context) error {
			server.Intercept(nil)
			appended(t, other, request("stream", data))
			return nil
		}))
	}
	exact := request("stream")
	exact.Expected = 0
	meanwhile("1")
	var conflict *eventstore.ConflictError
	if _, err := s.Append(t.Context(), exact); !errors.As(err, &conflict) || conflict.Actual != 1 {
		t.Errorf("want a conflict at revision 1, got: %v", err)
	}
	if _, found, err := s.Command(t.Context(), exact.Command.ID); found || err != nil {
		t.Errorf("a refused command is remembered: %t, %v", found, err)
	}
	whatever := request("stream")
	meanwhile("2")
	if done := appended(t, s, whatever); done.LastRevision != 2 {
		t.Errorf("accepted at revision %d", done.LastRevision)
	}
	appended(t, s, request("stream", "3"))
	duplicate(t, other, whatever, 2)
	exact.Expected = 3
	if done := appended(t, s, exact); done.LastRevision != 3 {
		t.Errorf("accepted at revision %d", done.LastRevision)
	}
}

// held begins an append that hangs in the server, just before its effect, until let; its caller has given up by then.
func held(t *testing.T, server *esdbtest.Server, s eventstore.Store, a eventstore.Append) (let func()) {
	t.Helper()
	arrived, release, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	server.Intercept(func(_ context.Context, step esdbtest.Step) error {
		switch {
		case step.Stream != a.Stream:
		case !step.Done:
			server.Intercept(func(_ context.Context, step esdbtest.Step) error { return nil })
			close(arrived)
			<-release
			server.Intercept(on(a.Stream, true, 0, func(context.Context) error { close(gone); return nil }))
		}
		return nil
	})
	waiting, leave := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() {
		_, err := s.Append(waiting, a)
		answer <- err
	}()
	<-arrived
	leave()
	wants(t, <-answer, eventstore.ErrOutcomeUnknown)
	return func() {
		close(release)
		<-gone
		server.Intercept(nil)
	}
}

func TestALateAttemptAndItsRepetitionHaveOneEffect(t *testing.T) {
	t.Parallel()
	t.Run("the repetition is first", func(t *testing.T) {
		t.Parallel()
		server := esdbtest.New(t)
		s := openAt(t, esdb.Config{URL: server.URL()})
		a := request("stream", "late")
		let := held(t, server, s, a)
		other := openAt(t, s.config)
		appended(t, other, fill(a, "again"))
		let()
		holds(t, other, "again")
		duplicate(t, s, a, 0)
	})
	t.Run("the late one is first", func(t *testing.T) {
		t.Parallel()
		server := esdbtest.New(t)
		s := openAt(t, esdb.Config{URL: server.URL()})
		a := request("stream", "late")
		let := held(t, server, s, a)
		other := openAt(t, s.config)
		server.Intercept(on("command-", true, 1, func(context.Context) error { let(); return nil })) // the second claim stands
		duplicate(t, other, fill(a, "again", "and more"), 0)
		holds(t, other, "late")
	})
	t.Run("the late one meets another command's event", func(t *testing.T) {
		t.Parallel()
		server := esdbtest.New(t)
		s := openAt(t, esdb.Config{URL: server.URL()})
		a := request("stream", "late")
		let := held(t, server, s, a)
		appended(t, s, request("stream", "another's"))
		appended(t, s, fill(a, "again"))
		let()
		holds(t, s, "another's", "again")
	})
}
