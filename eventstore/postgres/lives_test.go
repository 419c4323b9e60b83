package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
)

// A standby that is promoted has the first events of the primary, all of them if no commit went without it. Through
// where, is written down before anything is appended to it, whoever is first.
func TestAPromotedStandbyTellsWhatItInherited(t *testing.T) {
	t.Parallel()
	for name, synchronous := range map[string]bool{"synchronous": true, "asynchronous, and behind": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary, url := own(t)
			standby := primary.Standby(t)
			url = both(t, url, standby)
			s := openAt(t, url)
			before, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			shared := appended(t, s, request("stream", "x", "y"))
			acknowledged := shared
			if !synchronous {
				primary.Asynchronous(t)
				standby.Kill(t)
				acknowledged = appended(t, s, request("stream", "z"), request("other", "z"))
			}
			primary.Kill(t)
			if !synchronous {
				standby.Start(t)
			}
			standby.Promote(t)
			aside := openAt(t, url)
			after, err := aside.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := []eventstore.Life{{Incarnation: before.Incarnation, Inherited: 0}, {Incarnation: after.Incarnation, Inherited: shared}}
			told := func(when string) {
				t.Helper()
				got, err := aside.Lives(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got)\n%s", when, diff)
				}
			}
			told("before anything is appended")
			if synchronous != (acknowledged <= shared) {
				t.Errorf("acknowledged %d, of which the standby has %d", acknowledged, shared)
			}
			var all sync.WaitGroup
			for range 4 { // one of them is first
				all.Go(func() { appended(t, openAt(t, url), request("new", "z")) })
			}
			all.Wait()
			told("when four have begun to append")
			if head, err := aside.Head(t.Context()); err != nil || head.Position != shared+4 {
				t.Errorf("%+v, %v", head, err)
			}
		})
	}
}

// appended appends, each until it is acknowledged, and answers the last position.
func appended(t *testing.T, s *postgres.Store, requests ...eventstore.Append) (last uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, a := range requests {
		for {
			a.DecidedAt = time.Now()
			done, err := s.Append(ctx, a)
			if err == nil {
				last = done.Position
				break
			}
			if ctx.Err() != nil {
				t.Error(err)
				return 0
			}
		}
	}
	return last
}
