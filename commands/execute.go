package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/sealed"
)

// longest is how long a command may take, waiting for its turn included.
const longest = 10 * time.Second

// maxConflicts is how often a command decides anew after losing a race against another process.
const maxConflicts = 8

// Kind is how the streams of one kind fold into a state.
type Kind[S any] struct {
	// Evolve must not change the state that it is given.
	Evolve func(S, domain.Fact) S
	// FoldVersion names what Evolve makes of a history: another fold, or another look of S as JSON, is another version.
	// Snapshots are kept by it; 0 keeps none.
	FoldVersion int
	// Restore gives a decoded state what JSON does not carry. Optional.
	Restore func(S) S
	// Rewind is the state right after a fact of the stream, out of a later one; ok is false when that does not tell. It
	// spares the answer of a repeated command a walk from the stream's beginning. Optional.
	Rewind func(later S, f domain.Fact) (s S, ok bool)
	// Size estimates the memory that a state takes, at a small and constant cost. Without it, smallState.
	Size func(S) int
}

// smallState is the size of a state that does not say.
const smallState = 512

func (k Kind[S]) size(s S) int {
	if k.Size == nil {
		return smallState
	}
	return k.Size(s)
}

// Folded is a state and the place in its stream that it was folded to.
type Folded[S any] struct {
	State    S
	Revision eventstore.Revision // NoStream for a stream without events
	Position uint64              // of the event at Revision
	At       time.Time           // its recorded_at

	last [16]byte // its ID: another one there means that the store was restored
}

// Result is what a command did: the state of its stream right after it.
type Result[S any] struct {
	Folded[S]
	Stream   string
	Key      string // the stream's ordering key
	Replayed bool   // accepted before; this is the answer of then
}

// Target names the stream that a command writes, and its ordering key.
type Target[S any] struct {
	Kind        Kind[S]
	Stream, Key string
	// Recall gives the state back what it let go of, for a decision that was refused without it: states hold the
	// future, a command may name the past. found is false when the stream never had it. Optional.
	Recall func(ctx context.Context, s S) (recalled S, found bool, err error)
}

// Execute decides a command on one stream and appends what it decided.
//
// decide is pure and may run several times; now is the decision's time, never before the stream's last event. The
// error is decide's own refusal, 422 idempotency_key.reused, *eventstore.ConflictError after too many lost races, or
// one of the store's: after eventstore.ErrOutcomeUnknown the same command ID settles what happened.
func Execute[S any](ctx context.Context, x *Executor, t Target[S], m Meta, decide func(s S, now time.Time) ([]domain.Event, error)) (Result[S], error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	// Before anything is written: afterwards a failure would hide a success.
	if err := x.life.check(ctx, x); err != nil {
		return Result[S]{}, err
	}
	unlock, err := x.locks.lock(ctx, t.Stream)
	if err != nil {
		return Result[S]{}, fmt.Errorf("wait for %s: %w", t.Stream, err)
	}
	defer unlock()
	c := execution[S]{Executor: x, target: t, meta: m}
	return c.run(ctx, decide)
}

// execution is one command on its way. The stream is locked in this process.
type execution[S any] struct {
	*Executor
	target Target[S]
	meta   Meta
}

func (c *execution[S]) run(ctx context.Context, decide func(S, time.Time) ([]domain.Event, error)) (Result[S], error) {
	s, fromCache := cached[S](c.Executor, c.target.Stream)
	fresh := !fromCache // read in this call
	if !fromCache {
		var err error
		if s, err = c.readOn(ctx, Folded[S]{Revision: eventstore.NoStream}); err != nil {
			return Result[S]{}, err
		}
	}
	for conflicts := 0; ; {
		clock := eventstore.Micros(c.now())
		now := clock
		if s.At.After(now) {
			now = s.At
		}
		events, refusal := decide(s.State, now)
		if refusal != nil || len(events) == 0 {
			// No append verifies this answer, so it must rest on the stream as it is now.
			if !fresh {
				var err error
				if s, err = c.readOn(ctx, s); err != nil {
					return Result[S]{}, err
				}
				fresh = true
				continue
			}
			// After the read, not before it: what refuses may be this command's own first success.
			if first, found, err := c.store.Command(ctx, c.meta.CommandID); err != nil {
				return Result[S]{}, fmt.Errorf("look up command: %w", err)
			} else if found {
				return c.replay(ctx, first, s)
			}
		}
		if refusal != nil && c.target.Recall != nil {
			recalled, found, err := c.target.Recall(ctx, s.State)
			if err != nil {
				return Result[S]{}, err
			}
			if found { // decided on, never kept: s stays the fold
				events, refusal = decide(recalled, now)
			}
		}
		if refusal != nil {
			return Result[S]{}, refusal
		}
		r, err := c.append(ctx, s, events, clock)
		var conflict *eventstore.ConflictError
		if !errors.As(err, &conflict) {
			return r, err
		}
		if conflicts++; conflicts > maxConflicts {
			return Result[S]{}, err
		}
		if s, err = c.readOn(ctx, s); err != nil {
			return Result[S]{}, err
		}
		fresh = true
	}
}

// append writes the decision. An unknown outcome is settled here when one more try can do it.
func (c *execution[S]) append(ctx context.Context, s Folded[S], events []domain.Event, decidedAt time.Time) (Result[S], error) {
	a, err := c.prepare(s, events, decidedAt)
	if err != nil {
		return Result[S]{}, err
	}
	done, err := c.store.Append(ctx, a)
	unknown := errors.Is(err, eventstore.ErrOutcomeUnknown)
	if unknown && ctx.Err() == nil {
		done, err = c.store.Append(ctx, a)
	}
	var duplicate *eventstore.DuplicateError
	var conflict *eventstore.ConflictError
	switch {
	case err == nil:
		c.life.wrote(c.Executor, done.Incarnation)
		return c.advance(ctx, s, a, events, done), nil
	case errors.As(err, &duplicate):
		return c.replay(ctx, duplicate.Command, s)
	case errors.As(err, &conflict):
		// Also after an unknown outcome: the first try expected the same revision and cannot succeed any more.
		return Result[S]{}, fmt.Errorf("%s: %w", c.meta.Command, err)
	case unknown:
		// What the second try says ("unavailable", "too old") is about itself; the first is still unknown.
		return Result[S]{}, fmt.Errorf("%s: %w: %w", c.meta.Command, eventstore.ErrOutcomeUnknown, err)
	}
	return Result[S]{}, fmt.Errorf("%s: %w", c.meta.Command, err)
}

func (c *execution[S]) prepare(s Folded[S], events []domain.Event, decidedAt time.Time) (eventstore.Append, error) {
	m, stream := c.meta, c.target.Stream
	metadata, err := json.Marshal(eventstore.Metadata{
		CommandID: m.CommandID, Command: m.Command, Actor: m.Actor,
		CorrelationID: m.CorrelationID, CausationID: m.CausationID, Traceparent: m.Traceparent,
	})
	if err != nil {
		return eventstore.Append{}, fmt.Errorf("encode metadata: %w", err)
	}
	a := eventstore.Append{
		Stream: stream, Key: c.target.Key, Expected: s.Revision, ExpectedID: s.last, Metadata: metadata, DecidedAt: decidedAt,
		Command: eventstore.Command{ID: m.CommandID, RequestHash: m.RequestHash, Actor: m.Actor.Subject()},
		Events:  make([]eventstore.NewEvent, len(events)),
	}
	for i, e := range events {
		data, err := c.codec.Encode(e)
		if err != nil {
			return eventstore.Append{}, err
		}
		a.Events[i] = eventstore.NewEvent{ID: eventstore.EventID(m.CommandID, stream, i), Type: e.EventType(), Data: data}
	}
	return a, nil
}

// advance folds what was appended into the cached state: no read.
func (c *execution[S]) advance(ctx context.Context, s Folded[S], a eventstore.Append, events []domain.Event, done eventstore.Appended) Result[S] {
	k, before := c.target.Kind, s.Revision
	for i, e := range events {
		s.Revision++
		s.At, s.last = done.RecordedAt, a.Events[i].ID
		s.State = k.Evolve(s.State, domain.Fact{
			Event: e, Revision: uint64(s.Revision), At: done.RecordedAt, By: c.meta.Actor, //nolint:gosec // not negative after ++
		})
	}
	s.Position = done.Position
	keep(c.Executor, k, a.Stream, s)
	// Each revision is appended by one process: so each multiple is passed by one.
	if each := snapshotEach(k, s); s.Revision/each != before/each {
		save(ctx, c.Executor, k, a.Stream, s)
	}
	return Result[S]{Folded: s, Stream: a.Stream, Key: a.Key}
}

// happened is an error after the command was accepted. A store that went away since has lost the answer, not the write,
// and the same key brings it: "nothing was done" would be false.
func happened(err error) error {
	if !errors.Is(err, eventstore.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("accepted, not answered: %w: %w", eventstore.ErrOutcomeUnknown, err)
}

// replay answers a command that was accepted before: the state folded to where it left its stream. near is a state of
// the same stream, to save reading.
func (c *execution[S]) replay(ctx context.Context, first eventstore.Command, near Folded[S]) (Result[S], error) {
	if !sealed.SameMessage(first.RequestHash, c.meta.RequestHash) {
		return Result[S]{}, domain.Refuse("idempotency_key.reused", "this Idempotency-Key was used for another request here")
	}
	s, rewound := near, false
	var err error
	if first.Stream != c.target.Stream {
		s = Folded[S]{Revision: eventstore.NoStream}
	} else if near.Revision > first.LastRevision {
		s, rewound, err = c.rewind(ctx, near, first.LastRevision)
	}
	if err == nil && !rewound {
		s, err = read(ctx, c.Executor, c.target.Kind, first.Stream, s, first.LastRevision)
	}
	if err != nil {
		return Result[S]{}, happened(err)
	}
	if s.Revision != first.LastRevision {
		return Result[S]{}, fmt.Errorf("command %s ended at revision %d of %s, which ends at %d", first.ID, first.LastRevision, first.Stream, s.Revision)
	}
	return Result[S]{Folded: s, Stream: first.Stream, Key: c.target.Key, Replayed: true}, nil
}

// rewind is the target's state at a revision before near, or none when near does not tell.
func (c *execution[S]) rewind(ctx context.Context, near Folded[S], to eventstore.Revision) (s Folded[S], ok bool, err error) {
	s = Folded[S]{Revision: eventstore.NoStream}
	if c.target.Kind.Rewind == nil || to < 0 {
		return s, false, nil
	}
	if near, err = c.readOn(ctx, near); err != nil { // what is remembered may be of a history that is over
		return s, false, err
	}
	for r, err := range c.store.ReadStream(ctx, c.target.Stream, to) {
		if err != nil {
			return s, false, fmt.Errorf("read %s: %w", c.target.Stream, err)
		}
		f, err := c.codec.Fact(r)
		if err != nil {
			return s, false, err
		}
		if then, ok := c.target.Kind.Rewind(near.State, f); ok && r.Revision == to {
			return Folded[S]{State: then, Revision: to, Position: r.Position, At: r.RecordedAt, last: r.ID}, true, nil
		}
		break
	}
	return s, false, nil
}

// readOn reads what the stream has after s and keeps it.
func (c *execution[S]) readOn(ctx context.Context, s Folded[S]) (Folded[S], error) {
	s, err := read(ctx, c.Executor, c.target.Kind, c.target.Stream, s, latest)
	if err == nil {
		keep(c.Executor, c.target.Kind, c.target.Stream, s)
	}
	return s, err
}
