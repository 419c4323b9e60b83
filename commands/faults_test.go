package commands

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
)

func TestALostRaceIsDecidedAnew(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x, other := newExecutor(t, store), newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	races := 0
	store.before = func(a eventstore.Append) {
		if races < 2 { // only x's appends reach here with the hook set
			races++
			hook := store.before
			store.before = nil
			mustRun(t, other, fmt.Sprint("race", races), "rival")
			store.before = hook
		}
	}
	r := mustRun(t, x, "k2", "b")
	want(t, "messages", r.State.Posted, []string{"a", "rival", "rival", "b"})
}

func TestEndlessRacesEndAsAConflict(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	n := 0
	store.before = func(eventstore.Append) {
		n++
		_, err := store.write(eventstore.Append{
			Stream: "chat-r", Key: "r", Expected: eventstore.Revision(n - 2), DecidedAt: store.now(),
			Events:   []eventstore.NewEvent{{ID: uuid.New(), Type: "chat.message_posted.v1", Data: []byte(`{}`)}},
			Metadata: []byte(`{}`), Command: eventstore.Command{ID: uuid.New()},
		})
		if err != nil {
			t.Error(err)
		}
	}
	_, err := Execute(t.Context(), x, toyTarget("r"), toyMeta(t, x, "k", "a"), func(toy, time.Time) ([]domain.Event, error) {
		return []domain.Event{chat.MessagePosted{}}, nil
	})
	var conflict *eventstore.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("got %v, want a conflict", err)
	}
	want(t, "tries", n, maxConflicts+1)
}

func TestALostAnswerIsSettledByTheSameKey(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		losses     int
		written    bool
		wantErr    bool
		wantReplay bool
	}{
		"written, answer lost once: settled at once":            {1, true, false, true},
		"not written, answer lost once: settled at once":        {1, false, false, false},
		"written, answer lost twice: the caller is told":        {2, true, true, true},
		"not written, answer lost twice: the caller does it":    {2, false, true, false},
		"written, answers lost four times: told twice, settled": {4, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newMemory()
			x := newExecutor(t, store)
			mustRun(t, x, "k1", "a")
			left := c.losses
			store.lose = func() (bool, bool) { left--; return left >= 0, c.written }
			r, err := run(t, x, "k2", "b")
			for tries := 0; err != nil; tries++ {
				if !errors.Is(err, eventstore.ErrOutcomeUnknown) || tries > c.losses {
					t.Fatal(err)
				}
				want(t, "may an error be seen", c.wantErr, true)
				r, err = run(t, x, "k2", "b")
			}
			want(t, "replayed", r.Replayed, c.wantReplay)
			want(t, "answer", r.State.Posted, []string{"a", "b"})
			mustRun(t, x, "k3", "c")
			want(t, "messages", posted(t, store), []string{"a", "b", "c"})
		})
	}
}

func TestAnUnknownOutcomeStaysUnknownWhenTheSecondTryCannotTell(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	appends := 0
	x.store = appendFunc{store, func(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
		if appends++; appends == 1 {
			_, _ = store.write(a)
			return eventstore.Appended{}, eventstore.ErrOutcomeUnknown
		}
		return eventstore.Appended{}, eventstore.ErrUnavailable // says that nothing was done, of this try only
	}}
	if _, err := run(t, x, "k2", "b"); !errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Fatalf("got %v, want outcome unknown", err)
	}
}

type appendFunc struct {
	eventstore.Store
	do func(context.Context, eventstore.Append) (eventstore.Appended, error)
}

func (f appendFunc) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	return f.do(ctx, a)
}

func TestARestoredStoreDropsTheCache(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	mustRun(t, x, "k2", "b")
	*store = *newMemory() // restored to nothing, then another history
	other := newExecutor(t, store)
	mustRun(t, other, "o1", "other")
	r := mustRun(t, x, "k3", "c")
	want(t, "messages", r.State.Posted, []string{"other", "c"})

	mustRun(t, other, "o2", "d") // same length, other events: only the ID of the last one tells
	x.cache.put("chat-r", Folded[toy]{State: toy{[]string{"x", "y", "z"}}, Revision: 2, last: uuid.New()}, 1)
	_, err := Execute(t.Context(), x, toyTarget("r"), toyMeta(t, x, "k4", ""), func(s toy, _ time.Time) ([]domain.Event, error) {
		return nil, domain.Refuse("toy.seen", "%v", s.Posted)
	})
	want(t, "refused on", err.Error(), "toy.seen: [other c d]")
}
