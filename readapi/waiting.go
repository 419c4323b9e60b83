package readapi

import (
	"context"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
)

// pollPeriod is the time between two looks while somebody waits: a small part of the usual few tens of milliseconds
// between a write and its rows, and at most 250 queries a second however many wait.
const pollPeriod = 4 * time.Millisecond

// waiting lets any number of reads wait for projections to move, with one of them looking at where they stand for all.
//
// Whoever holds the baton looks, each pollPeriod, until its own wish is met, and passes the baton on. So nobody looks
// while nobody waits, and there is no goroutine to start or stop.
type waiting struct {
	look  func(ctx context.Context) ([]engine.Place, error)
	baton chan struct{}

	mu     sync.Mutex
	wishes map[*wish]struct{}
}

type wish struct {
	reached func([]engine.Place) bool
	met     chan struct{}
}

func newWaiting(look func(context.Context) ([]engine.Place, error)) *waiting {
	w := &waiting{look: look, baton: make(chan struct{}, 1), wishes: map[*wish]struct{}{}}
	w.baton <- struct{}{}
	return w
}

// until returns nil once reached is true of where they stand, ctx's error when that ends first, or the failure to look.
func (w *waiting) until(ctx context.Context, reached func([]engine.Place) bool) error {
	me := &wish{reached, make(chan struct{})}
	w.mu.Lock()
	w.wishes[me] = struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.wishes, me)
		w.mu.Unlock()
	}()
	select {
	case <-me.met:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.baton:
		defer func() { w.baton <- struct{}{} }()
		return w.lookUntil(ctx, me)
	}
}

func (w *waiting) lookUntil(ctx context.Context, me *wish) error {
	t := time.NewTicker(pollPeriod)
	defer t.Stop()
	for {
		select {
		case <-me.met:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		places, err := w.look(ctx)
		if err != nil {
			return err
		}
		w.tell(places)
	}
}

// tell wakes those whose wish is met.
func (w *waiting) tell(places []engine.Place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.wishes {
		if one.reached(places) {
			close(one.met)
			delete(w.wishes, one)
		}
	}
}
