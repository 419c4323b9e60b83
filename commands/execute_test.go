package commands

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/sealed"
)

// A toy aggregate over a real event: at most five messages a room.
type toy struct {
	Posted []string
}

var toyKind = Kind[toy]{Evolve: func(s toy, f domain.Fact) toy {
	e := f.Event.(chat.MessagePosted)
	return toy{append(s.Posted[:len(s.Posted):len(s.Posted)], e.ClientMessageID)}
}}

func toyTarget(stream string) Target[toy] {
	return Target[toy]{Kind: toyKind, Stream: "chat-" + stream, Key: stream}
}

var kim = domain.Actor{ID: "kim", Role: domain.Customer}

const toyFull = 5

// post is a decision: "" wants nothing to happen.
func post(name string) func(toy, time.Time) ([]domain.Event, error) {
	return func(s toy, _ time.Time) ([]domain.Event, error) {
		if name == "" {
			return nil, nil
		}
		if len(s.Posted) >= toyFull {
			return nil, domain.Refuse("toy.full", "there are %d", len(s.Posted))
		}
		return []domain.Event{chat.MessagePosted{RoomID: "r", Seq: uint64(len(s.Posted) + 1), Sender: kim, ClientMessageID: name}}, nil
	}
}

func toyMeta(t testing.TB, x *Executor, key, body string) Meta {
	t.Helper()
	m, err := x.NewMeta(t.Context(), kim, "post_message", eventstore.CommandID("customer", "kim", "POST", "/toy", key), struct {
		Body string `json:"body"`
	}{body})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newExecutor(t testing.TB, store eventstore.Store) *Executor {
	t.Helper()
	keys, err := sealed.New(store, make([]byte, sealed.MasterBytes))
	if err != nil {
		t.Fatal(err)
	}
	return NewExecutor(Config{Store: store, Keys: keys, PostRate: -1})
}

// run posts name under key in stream "r".
func run(t testing.TB, x *Executor, key, name string) (Result[toy], error) {
	t.Helper()
	return Execute(t.Context(), x, toyTarget("r"), toyMeta(t, x, key, name), post(name))
}

func mustRun(t testing.TB, x *Executor, key, name string) Result[toy] {
	t.Helper()
	r, err := run(t, x, key, name)
	if err != nil {
		t.Fatalf("post %q under %q: %v", name, key, err)
	}
	return r
}

func posted(t testing.TB, store eventstore.Store) []string {
	t.Helper()
	s, err := Load(t.Context(), newExecutor(t, store), toyTarget("r"))
	if err != nil {
		t.Fatal(err)
	}
	return s.State.Posted
}

func want(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if !errors.Is(err, domain.Refusal{Code: code}) {
		t.Errorf("got error %v, want refusal %s", err, code)
	}
}

func TestARepeatedCommandGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	type step struct {
		name   string
		before func(t *testing.T, store *memory, x *Executor) *Executor
	}
	for _, s := range []step{
		{"at once", func(_ *testing.T, _ *memory, x *Executor) *Executor { return x }},
		{"after more was posted", func(t *testing.T, _ *memory, x *Executor) *Executor {
			mustRun(t, x, "k2", "b")
			return x
		}},
		{"when the decision would refuse now", func(t *testing.T, _ *memory, x *Executor) *Executor {
			for i := range toyFull - 1 {
				mustRun(t, x, fmt.Sprint("more", i), "b")
			}
			return x
		}},
		{"by another process", func(t *testing.T, store *memory, _ *Executor) *Executor { return newExecutor(t, store) }},
		{"by another process with an old cache", func(t *testing.T, store *memory, x *Executor) *Executor {
			other := newExecutor(t, store)
			mustRun(t, other, "k2", "b")
			mustRun(t, x, "k3", "c")
			return other
		}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			store := newMemory()
			x := newExecutor(t, store)
			first := mustRun(t, x, "k1", "a")
			x = s.before(t, store, x)
			before := len(store.events)
			again := mustRun(t, x, "k1", "a")
			want(t, "replayed", again.Replayed, true)
			want(t, "state", again.State, first.State)
			want(t, "revision", again.Revision, first.Revision)
			want(t, "position", again.Position, first.Position)
			want(t, "at", again.At, first.At)
			want(t, "events in the store", len(store.events), before)
			_, err := run(t, x, "k1", "other")
			wantCode(t, err, "idempotency_key.reused")
		})
	}
}

func TestASuccessWithoutEventsIsRemembered(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	nothing := mustRun(t, x, "k2", "")
	want(t, "replayed", nothing.Replayed, false)
	mustRun(t, x, "k3", "b")
	again := mustRun(t, newExecutor(t, store), "k2", "")
	want(t, "replayed", again.Replayed, true)
	want(t, "state", again.State, nothing.State)
	want(t, "position", again.Position, nothing.Position)
}

func TestARefusalNeverRestsOnAStaleState(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x, other := newExecutor(t, store), newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	for i := range toyFull - 1 {
		mustRun(t, other, fmt.Sprint("o", i), "b")
	}
	// x still holds one message. What it must answer is what the store says now.
	refuseFirst := func(s toy, now time.Time) ([]domain.Event, error) {
		if len(s.Posted) < toyFull {
			return nil, domain.Refuse("toy.not_full", "")
		}
		return nil, nil
	}
	r, err := Execute(t.Context(), x, toyTarget("r"), toyMeta(t, x, "k9", "x"), refuseFirst)
	if err != nil {
		t.Fatalf("refused by what was true before: %v", err)
	}
	want(t, "messages", len(r.State.Posted), toyFull)
}

func TestASuccessWithoutEventsNeverRestsOnAStaleState(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x, other := newExecutor(t, store), newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	mustRun(t, other, "k2", "b")
	onlyIfOne := func(s toy, now time.Time) ([]domain.Event, error) {
		if len(s.Posted) == 1 {
			return nil, nil
		}
		return post("c")(s, now)
	}
	r, err := Execute(t.Context(), x, toyTarget("r"), toyMeta(t, x, "k3", "c"), onlyIfOne)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "messages", r.State.Posted, []string{"a", "b", "c"})
}

func TestTheDecisionsTimeIsNeverBeforeTheStream(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	future := time.Now().Add(3 * time.Second).UTC()
	store.now = func() time.Time { return future }
	mustRun(t, x, "k1", "a")
	var seen time.Time
	_, err := Execute(t.Context(), x, toyTarget("r"), toyMeta(t, x, "k2", "b"), func(s toy, now time.Time) ([]domain.Event, error) {
		seen = now
		return post("b")(s, now)
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "time", seen, eventstore.Micros(future))
}

func TestACachedStreamIsNotReadToAppend(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	before := store.reads
	mustRun(t, x, "k2", "b")
	want(t, "events read", store.reads-before, 0)
}

// Whatever keys are repeated, by whichever process, in whichever order, with answers lost: each key has one effect and
// one answer, and the cached state equals the fold of the stream.
func TestEveryKeyHasOneEffectAndOneAnswer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		store := newMemory()
		nodes := []*Executor{newExecutor(t, store), newExecutor(t, store)}
		losing := false
		store.lose = func() (bool, bool) {
			if !losing {
				return false, false
			}
			return rapid.Float64Range(0, 1).Draw(rt, "lose") < 0.3, rapid.Bool().Draw(rt, "written")
		}
		answers := map[string]Result[toy]{}
		accepted := 0
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			x := nodes[rapid.IntRange(0, 1).Draw(rt, "node")]
			key := fmt.Sprint(rapid.IntRange(0, 9).Draw(rt, "key"))
			losing = true
			r, err := run(t, x, key, key)
			losing = false
			if errors.Is(err, eventstore.ErrOutcomeUnknown) {
				r, err = run(t, x, key, key)
			}
			first, seen := answers[key]
			switch {
			case err != nil && !errors.Is(err, domain.Refusal{Code: "toy.full"}):
				rt.Fatal(err)
			case err != nil && seen:
				rt.Fatalf("key %s was accepted and is refused now", key)
			case err == nil && seen:
				if diff := cmp.Diff(first.State, r.State); diff != "" || !r.Replayed {
					rt.Fatalf("another answer for key %s (replayed %v): %s", key, r.Replayed, diff)
				}
			case err == nil:
				answers[key] = r
				accepted++
			}
			for _, x := range nodes {
				if c, ok := cached[toy](x, "chat-r"); ok {
					fresh, err := read(t.Context(), newExecutor(t, store), toyKind, "chat-r", Folded[toy]{Revision: eventstore.NoStream}, c.Revision)
					if err != nil {
						rt.Fatal(err)
					}
					if diff := cmp.Diff(fresh.State, c.State); diff != "" || fresh.last != c.last || fresh.Position != c.Position || !fresh.At.Equal(c.At) {
						rt.Fatalf("the cached state is not the fold: %s", diff)
					}
				}
			}
		}
		if got := len(store.events); got != accepted || got > toyFull {
			rt.Fatalf("%d events for %d accepted keys", got, accepted)
		}
	})
}

func TestManyAtOnceOnOneStreamAndOneKey(t *testing.T) {
	t.Parallel()
	store := newMemory()
	nodes := []*Executor{newExecutor(t, store), newExecutor(t, store)}
	var wg sync.WaitGroup
	var mu sync.Mutex
	firsts := 0
	for i := range 40 {
		m := toyMeta(t, nodes[i%2], "k", "a")
		wg.Go(func() {
			r, err := Execute(t.Context(), nodes[i%2], toyTarget("r"), m, post("a"))
			if err != nil {
				t.Error(err)
			}
			if !r.Replayed {
				mu.Lock()
				firsts++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	want(t, "first answers", firsts, 1)
	want(t, "messages", posted(t, store), []string{"a"})
	want(t, "locks left", len(nodes[0].locks.held)+len(nodes[1].locks.held), 0)
}

func TestOneProcessDoesNotRaceItself(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	var appends atomic.Int64
	x.store = appendFunc{store, func(_ context.Context, a eventstore.Append) (eventstore.Appended, error) {
		appends.Add(1)
		runtime.Gosched()
		return store.write(a)
	}}
	var wg sync.WaitGroup
	for i := range toyFull {
		m := toyMeta(t, x, fmt.Sprint(i), "a")
		wg.Go(func() {
			if _, err := Execute(t.Context(), x, toyTarget("r"), m, post("a")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want(t, "appends", appends.Load(), int64(toyFull))
}

func TestAnotherLifeOfTheStoreForgetsWhatWasFolded(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	*store = *newMemory()
	mustRun(t, newExecutor(t, store), "o1", "other") // same length: the append alone would not notice
	store.incarnation = "another"
	x.life.checked = time.Time{}
	r := mustRun(t, x, "k2", "b")
	want(t, "messages", r.State.Posted, []string{"other", "b"})
	want(t, "incarnation", x.incarnation(), "another")
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	x.cache.most = 3
	for i := range 10 {
		name := fmt.Sprint("s", i)
		if _, err := Execute(t.Context(), x, toyTarget(name), toyMeta(t, x, name, "a"), post("a")); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "kept", len(x.cache.byName), 3)
	want(t, "in order", x.cache.order.Len(), 3)
}

func TestAWaiterLeavesWhenItsCallerDoes(t *testing.T) {
	t.Parallel()
	x := newExecutor(t, newMemory())
	unlock, err := x.locks.lock(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.locks.lock(ctx, "s"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want canceled", err)
	}
	unlock()
	want(t, "locks left", len(x.locks.held), 0)
}
