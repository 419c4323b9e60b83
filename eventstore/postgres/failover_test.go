package postgres_test

import (
	"context"
	"errors"
	neturl "net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/internal/harness"
)

// both names a primary and its standby, as a deployment with fail-over does.
func both(t testing.TB, url string, standby *harness.OwnPostgres) string {
	t.Helper()
	return changed(t, url, func(u *neturl.URL) {
		u.Host += "," + standby.Addr
		u.RawQuery += "&target_session_attrs=read-write"
	})
}

func TestAPromotedSynchronousStandbyHasAllThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	primary, url := own(t)
	standby := primary.Standby(t)
	url = both(t, url, standby)
	observer := openAt(t, url)
	before, err := observer.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lost, promoted, answered atomic.Int64 // when, in nanoseconds since began
	began := time.Now()
	s := settled(t, url, func(ctx context.Context) {
		storetest.Underway(ctx)
		storetest.Underway(ctx)
		primary.Kill(t)
		lost.Store(int64(time.Since(began)))
		standby.Promote(t)
		promoted.Store(int64(time.Since(began)))
		for { // the first that is told that it appended
			if _, err := observer.Append(ctx, request("observed")); err == nil {
				break
			} else if !errors.Is(err, eventstore.ErrUnavailable) && !errors.Is(err, eventstore.ErrOutcomeUnknown) {
				t.Error(err)
				return
			}
		}
		answered.Store(int64(time.Since(began)))
		storetest.Underway(ctx)
		storetest.Underway(ctx)
	})
	if s.Unavailable+s.Unknown == 0 {
		t.Error("no append was hit: the test has shown nothing")
	}
	t.Logf("promoted %v after the loss, appending again after %v", time.Duration(promoted.Load()-lost.Load()), time.Duration(answered.Load()-lost.Load()))
	// A pool's connections to the lost server fail once each.
	after, err := observer.Head(t.Context())
	for range 10 {
		if err == nil {
			break
		}
		after, err = observer.Head(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if before.Incarnation == after.Incarnation {
		t.Errorf("the promotion began another timeline, and the incarnation is still %s", after.Incarnation)
	}
}

func TestAStandbyIsReadAndNotAppendedTo(t *testing.T) {
	t.Parallel()
	primary, url := own(t)
	standby := primary.Standby(t)
	s := openAt(t, url)
	lackedByStandby(t, s, standby)
	a := request("stream", "x", "y")
	if _, err := s.Append(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	aside := openAt(t, changed(t, url, func(u *neturl.URL) { u.Host = standby.Addr }))
	if err := aside.Wait(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := aside.Append(t.Context(), request("stream", "z")); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
			t.Errorf("append: want ErrUnavailable, got: %v", err)
		}
	}
	n := 0
	for r, err := range aside.ReadAll(t.Context(), 0, eventstore.Filter{StreamPrefix: "str"}) {
		if n++; err != nil || r.Position != uint64(n) {
			t.Fatalf("read: %+v, %v", r, err)
		}
	}
	if _, found, err := aside.Command(t.Context(), a.Command.ID); n != 4 || err != nil || !found {
		t.Errorf("%d events, the command found: %t, %v", n, found, err)
	}
	if _, _, found, err := aside.PersonKey(t.Context(), "customer:kim"); err != nil || found {
		t.Errorf("a key: %t, %v", found, err)
	}
	if _, _, err := aside.AddPersonKey(t.Context(), "customer:kim", "k", []byte{1}); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("add a key: want ErrUnavailable, got: %v", err)
	}
	want, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := aside.Head(t.Context()); err != nil || got != want {
		t.Errorf("head: %+v, %v; the primary's is %+v", got, err, want)
	}
	// Promoted, it is as good as any.
	primary.Kill(t)
	standby.Promote(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for b := request("stream", "z"); ; b.DecidedAt = time.Now() {
		done, err := aside.Append(ctx, b)
		if err == nil && done.Position == 5 {
			break
		}
		if ctx.Err() != nil || err == nil {
			t.Fatalf("append after the promotion: %+v, %v", done, err)
		}
	}
}

// lackedByStandby appends while the standby is away: the commit is in the primary's log, and nobody is told that it is done.
func lackedByStandby(t *testing.T, s eventstore.Store, standby *harness.OwnPostgres) {
	t.Helper()
	standby.Kill(t)
	a := request("stream", "x", "y")
	if _, err := s.Append(t.Context(), a); !errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Fatalf("without the standby: want ErrOutcomeUnknown, got: %v", err)
	}
	standby.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		a.DecidedAt = time.Now()
		_, err := s.Append(ctx, a)
		var before *eventstore.DuplicateError
		if err == nil || errors.As(err, &before) {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}
