package esdb_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/storetest"
)

// within runs a call that must not outlast its deadline by much.
func within(t *testing.T, limit time.Duration, do func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	err := do(ctx)
	if took := time.Since(began); took > limit+2*time.Second {
		t.Errorf("a call with a deadline of %v took %v", limit, took)
	}
	return err
}

func everyCall(s eventstore.Store) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"append":  func(ctx context.Context) error { _, err := s.Append(ctx, request("hurt", "x")); return err },
		"command": func(ctx context.Context) error { _, _, err := s.Command(ctx, uuid.New()); return err },
		"head":    func(ctx context.Context) error { _, err := s.Head(ctx); return err },
		"read": func(ctx context.Context) error {
			for _, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
				return err
			}
			return nil
		},
		"stream": func(ctx context.Context) error {
			for _, err := range s.ReadStream(ctx, "stream", 0) {
				return err
			}
			return nil
		},
		"key":      func(ctx context.Context) error { _, _, _, err := s.PersonKey(ctx, "kim"); return err },
		"snapshot": func(ctx context.Context) error { _, _, err := s.Snapshot(ctx, "stream", 1); return err },
	}
}

// works waits until everything works again, which a new client needs a moment for.
func works(t *testing.T, s eventstore.Store) {
	t.Helper()
	for what, do := range everyCall(s) {
		for limit := time.Now().Add(30 * time.Second); ; {
			err := do(t.Context())
			if err == nil {
				break
			}
			if !errors.Is(err, eventstore.ErrUnavailable) && !errors.Is(err, eventstore.ErrOutcomeUnknown) || time.Now().After(limit) {
				t.Fatalf("%s, afterwards: %v", what, err)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
}

func TestCallsEndWhileTheServerHangsAndWorkAfterwards(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL(), Timeout: 400 * time.Millisecond})
	appended(t, s, request("stream", "before"))
	for round := range 2 {
		server.Hang()
		for what, do := range everyCall(s) {
			err := within(t, 100*time.Millisecond, do) // its own deadline first
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, eventstore.ErrUnavailable) {
				t.Errorf("round %d: %s: %v", round, what, err)
			}
			if err := do(t.Context()); !errors.Is(err, eventstore.ErrUnavailable) { // the store's
				t.Errorf("round %d: %s: %v", round, what, err)
			}
		}
		if err := within(t, 200*time.Millisecond, func(ctx context.Context) error { return s.Wait(ctx, 1<<40) }); err == nil {
			t.Error("a wait on a server that hangs ended well")
		}
		server.Answer()
		works(t, s)
	}
}

func TestAServerThatDiesAndComesBackIsFoundAgain(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL(), Timeout: time.Second})
	appended(t, s, request("stream", "before"))
	for range 3 {
		server.Stop()
		for what, do := range everyCall(s) {
			for range 3 { // the first notices, the next ones have a client that gave up, or a new one
				err := within(t, 3*time.Second, do)
				wants(t, err, eventstore.ErrUnavailable)
				if errors.Is(err, eventstore.ErrOutcomeUnknown) {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		if _, err := esdb.Open(t.Context(), s.config); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("open: %v", err)
		}
		server.Start(t)
		works(t, s)
	}
	if got := stored(t, s); got[0] != "before" || len(got) != 4 {
		t.Errorf("the store holds %q", got)
	}
}

func TestAWaitGoesOnAfterItsSubscriptionWasDropped(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL()})
	other := openAt(t, s.config)
	done := appended(t, s, request("stream", "x"))
	for round := range 5 {
		woken := make(chan error, 1)
		go func() {
			for {
				err := s.Wait(t.Context(), done.Position)
				if !errors.Is(err, eventstore.ErrUnavailable) { // a drop may meet the subscription's beginning
					woken <- err
					return
				}
			}
		}()
		if round > 0 { // once, nothing is dropped
			<-time.After(20 * time.Millisecond)
			server.Drop()
		}
		var next eventstore.Appended
		for {
			a := request("stream", fmt.Sprint(round))
			var err error
			if next, err = other.Append(t.Context(), a); err == nil {
				break
			}
			if !errors.Is(err, eventstore.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		select {
		case err := <-woken:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody was woken")
		}
		done = next
	}
}

func TestTheLeaderIsFollowed(t *testing.T) {
	t.Parallel()
	leader := esdbtest.New(t)
	follower := leader.Beside(t)
	s := openAt(t, esdb.Config{URL: follower.URL()})
	appended(t, s, request("stream", "0"))
	follower.Follow(leader.Address())
	works(t, s)
	if leader.Calls("Append") == 0 {
		t.Error("the leader was never asked")
	}
	leader.Follow("") // and knows of no other
	_, err := s.Append(t.Context(), request("stream", "refused"))
	wants(t, err, eventstore.ErrUnavailable)
	leader.Lead()
	works(t, s)

	// Of several addresses the one that leads is found by their gossip.
	follower.Follow(leader.Address())
	before := follower.Calls("Append")
	cluster := openAt(t, esdb.Config{URL: "esdb://" + follower.Address() + "," + leader.Address() + "?tls=false"})
	works(t, cluster)
	if got := follower.Calls("Append"); got != before {
		t.Errorf("the follower was sent %d appends", got-before)
	}
}

// hurting does something to the server every few milliseconds.
func hurting(t *testing.T, times int, do func(n int)) {
	for n := range times {
		select {
		case <-time.After(30 * time.Millisecond):
			do(n)
		case <-t.Context().Done():
			return
		}
	}
}

// hurt settles commands meanwhile.
func hurt(t *testing.T, stores []eventstore.Store, times int, do func(n int)) storetest.Settled {
	t.Helper()
	enough := make(chan struct{})
	go func() {
		defer close(enough)
		hurting(t, times, do)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	settled, err := storetest.SettleFor(ctx, features, stores, 8, enough)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%+v", settled)
	return settled
}

func TestEveryCommandHasOneEffectWhateverHappensToTheServer(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name string
		do   func(t *testing.T, server *esdbtest.Server, n int)
	}{
		{"connections break", func(_ *testing.T, server *esdbtest.Server, _ int) { server.Drop() }},
		{"answers are lost", func(_ *testing.T, server *esdbtest.Server, n int) {
			server.Intercept(on([]string{"stream-", "command-"}[n%2], n%3 > 0, 0, drop))
		}},
		{"it dies and comes back", func(t *testing.T, server *esdbtest.Server, _ int) {
			server.Stop()
			server.Start(t)
		}},
		{"it hangs for a while", func(_ *testing.T, server *esdbtest.Server, n int) {
			if n%4 == 3 {
				server.Hang()
				<-time.After(400 * time.Millisecond)
				server.Answer()
			}
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			server := esdbtest.New(t)
			config := esdb.Config{URL: server.URL(), Timeout: 300 * time.Millisecond}
			stores := []eventstore.Store{openAt(t, config), openAt(t, config)}
			settled := hurt(t, stores, 40, func(n int) { fault.do(t, server, n) })
			if settled.Commands == 0 || settled.Unavailable+settled.Unknown == 0 {
				t.Errorf("too little happened: %+v", settled)
			}
			// And of each stream's calls there is an order that explains every answer.
			seed, over := rand.Uint64(), make(chan struct{})
			t.Logf("seed %d", seed)
			go func() {
				defer close(over)
				hurting(t, 30, func(n int) { fault.do(t, server, n) })
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			h, err := storetest.Linearize(ctx, stores, 6, seed, over)
			t.Logf("%+v", h)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAProcessThatIsKilledHasDoneWhatItWasToldAndNothingByHalves(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	storetest.KillsFor(t, features, storetest.Times(t, 6),
		func() *exec.Cmd { return storetest.Child(t, "append until killed", server.URL()) },
		func() eventstore.Store { return openAt(t, esdb.Config{URL: server.URL()}) })
}
