package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/eventstore"
)

// Refusals counts who asks for what is for admins and analysts and is neither, and notes it once a minute: one event for each
// person and operation, however often they asked. Safe for concurrent use.
//
// What was counted since the last minute is lost with a process that is killed. A refusal is not held up by its note.
type Refusals struct {
	Store eventstore.Store
	Log   *slog.Logger

	mu     sync.Mutex
	counts map[refusal]admin.Refused
	more   int // that had no room

	unsettled *eventstore.Append // the note that may have been written; Run's alone
}

type refusal struct {
	by        domain.Actor
	operation string
}

const (
	refusalsEach = time.Minute
	// So many persons and operations a minute, and no more: tokens are cheap where the issuer is somebody else's. The rest is
	// counted in the log.
	mostRefusals = 200
)

// Add counts one.
func (r *Refusals) Add(by domain.Actor, operation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := refusal{by, operation}
	n, known := r.counts[of]
	if !known {
		if len(r.counts) >= mostRefusals {
			r.more++
			return
		}
		n = admin.Refused{Operation: operation, Since: eventstore.Micros(time.Now())}
	}
	n.Times++
	if r.counts == nil {
		r.counts = map[refusal]admin.Refused{}
	}
	r.counts[of] = n
}

// Run notes what was counted, each minute and once more when ctx ends.
func (r *Refusals) Run(ctx context.Context) error {
	tick := time.NewTicker(refusalsEach)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.note(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
			defer cancel()
			r.note(last)
			return nil
		}
	}
}

// note writes down what there is. At the first that cannot be written it stops, and counts the others on; that one may be there,
// and is what the next note begins with.
func (r *Refusals) note(ctx context.Context) {
	r.mu.Lock()
	counts, more := r.counts, r.more
	r.counts, r.more = nil, 0
	r.mu.Unlock()
	if more > 0 {
		r.Log.WarnContext(ctx, "refusals were not noted: too many people and operations in a minute", "refusals", more)
	}
	write := func(a eventstore.Append) error {
		err := appendNote(ctx, r.Store, a)
		if r.unsettled = nil; err != nil {
			r.unsettled = &a
		}
		return err
	}
	var failed error
	if r.unsettled != nil {
		failed = write(*r.unsettled)
	}
	for of, n := range counts {
		if failed != nil {
			r.keep(of, n)
			continue
		}
		a, err := noteOf(ctx, of.by, "record_refusals", n)
		if err == nil {
			err = write(a)
		}
		failed = err
	}
	if failed != nil && !errors.Is(failed, context.Canceled) {
		r.Log.ErrorContext(ctx, "refusals cannot be noted now", "error", fmt.Errorf("record refusals: %w", failed))
	}
}

// keep counts what was not noted into the next note.
func (r *Refusals) keep(of refusal, n admin.Refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if later, has := r.counts[of]; has {
		n.Times += later.Times
	}
	if r.counts == nil {
		r.counts = map[refusal]admin.Refused{}
	}
	r.counts[of] = n
}
