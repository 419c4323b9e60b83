package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

// Settled tells what happened to the commands of Settle.
type Settled struct {
	Commands             int
	Unavailable, Unknown int64 // answers, of which one command may have had several
}

// Settle appends until enough is closed, while the caller hurts the stores (instances on the same data, dense). Each
// command is repeated with the same ID until its outcome is known. Then every command must have had one effect, whole,
// where its answer said; and whatever was answered with ErrUnavailable alone must not have been done by then. hit is told of
// every answer that was no success: a machine that is slow is hurt for longer, until something was shown.
func Settle(ctx context.Context, stores []eventstore.Store, writers int, enough <-chan struct{}, hit ...func()) (Settled, error) {
	return SettleFor(ctx, Features{Dense: true}, stores, writers, enough, hit...)
}

// SettleFor is Settle for stores that are not dense, or whose time ascends within streams.
func SettleFor(ctx context.Context, f Features, stores []eventstore.Store, writers int, enough <-chan struct{}, hit ...func()) (Settled, error) {
	var unavailable, unknown atomic.Int64
	var mu sync.Mutex
	answers := map[uuid.UUID]eventstore.Command{}
	g, gctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			s := stores[w%len(stores)]
			for i := 0; ; i++ {
				select {
				case <-enough:
					return nil
				default:
				}
				c, err := settle(gctx, s, request(fmt.Sprintf("stream-%d", (w+i)%(writers+1)), eventstore.AnyRevision, "x", "y", "z"), &unavailable, &unknown, hit...)
				if err != nil {
					return err
				}
				mu.Lock()
				answers[c.ID] = c
				mu.Unlock()
			}
		})
	}
	err := g.Wait()
	out := Settled{len(answers), unavailable.Load(), unknown.Load()}
	if err != nil {
		return out, err
	}
	all, err := patiently(ctx, func() ([]eventstore.Recorded, error) { return readAll(ctx, stores[0], 0) })
	if err != nil {
		return out, err
	}
	k := &kit{Features: f}
	if err := errors.Join(k.ordered(all), same("events, 3 of each command", 3*len(answers), len(all))); err != nil {
		return out, err
	}
	events := map[uuid.UUID]eventstore.Recorded{}
	for _, r := range all {
		events[r.ID] = r
	}
	for _, c := range answers {
		for n := range 3 {
			r, ok := events[eventstore.EventID(c.ID, c.Stream, n)]
			behind := uint64(2 - n) //nolint:gosec // small numbers
			if !ok || r.Revision != c.LastRevision-eventstore.Revision(2-n) || (f.Dense || n == 2) && r.Position != c.Position-behind {
				return out, fmt.Errorf("command %s was answered with revision %d and position %d; its event %d: %t, %d, %d",
					c.ID, c.LastRevision, c.Position, n, ok, r.Revision, r.Position)
			}
		}
	}
	return out, nil
}

// settle repeats one append until its outcome is known.
func settle(ctx context.Context, s eventstore.Store, a eventstore.Append, unavailable, unknown *atomic.Int64, hit ...func()) (eventstore.Command, error) {
	open := false // some try may have been done after all
	return patiently(ctx, func() (eventstore.Command, error) {
		a.DecidedAt = time.Now()
		done, err := s.Append(ctx, a)
		var duplicate *eventstore.DuplicateError
		switch {
		case err == nil:
			return remembered(a, done), nil
		case errors.As(err, &duplicate):
			if !open {
				return eventstore.Command{}, errors.New("an append of which every try was said to have done nothing was done")
			}
			return duplicate.Command, nil
		case errors.Is(err, eventstore.ErrOutcomeUnknown):
			open = true
			unknown.Add(1)
		case errors.Is(err, eventstore.ErrUnavailable):
			unavailable.Add(1)
		}
		for _, tell := range hit {
			tell()
		}
		return eventstore.Command{}, err
	})
}

// patiently repeats what the store could not do for now.
func patiently[T any](ctx context.Context, do func() (T, error)) (T, error) {
	for {
		v, err := do()
		if !errors.Is(err, eventstore.ErrUnavailable) && !errors.Is(err, eventstore.ErrOutcomeUnknown) {
			return v, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return v, fmt.Errorf("not settled: %w", err)
		}
	}
}
