package esdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/dangdangsalon/salon/eventstore"
)

const (
	// grace is how long the answer of a write is awaited after its caller has given up: it is on its way.
	grace = 250 * time.Millisecond
	// maxAppendSize is what a server takes with its default settings.
	maxAppendSize = 1 << 20
	// Whoever finds a command in flight looks again a few times, before it writes what may be the second attempt.
	looks    = 10
	lookWait = 5 * time.Millisecond
)

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if err := a.Validate(); err != nil {
		return eventstore.Appended{}, err
	}
	if reserved(a.Stream) {
		return eventstore.Appended{}, fmt.Errorf("%w: stream %q is not for events", eventstore.ErrInvalid, a.Stream)
	}
	if _, size := proposed(a, 0, time.Time{}); size > maxAppendSize {
		return eventstore.Appended{}, fmt.Errorf("%w: %d bytes with keys and types, at most %d", eventstore.ErrTooLarge, size, maxAppendSize)
	}
	if err := ctx.Err(); err != nil {
		return eventstore.Appended{}, err
	}
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return eventstore.Appended{}, errClosed
	}
	began := time.Now()
	if err := s.clock.check(ctx, s, a.DecidedAt); err != nil {
		return eventstore.Appended{}, s.refuse(ctx, a, err)
	}
	done, err := s.append(ctx, a)
	if err == nil && s.onCommit != nil {
		s.onCommit(1, time.Since(began))
	}
	return done, err
}

// refuse answers with the refusal unless the command is known: known is known, before anything else is looked at.
func (s *Store) refuse(ctx context.Context, a eventstore.Append, refusal error) error {
	command, found, err := s.Command(ctx, a.Command.ID)
	switch {
	case err != nil:
		return err
	case found:
		return &eventstore.DuplicateError{Command: command}
	}
	return refusal
}

// send writes for an append. It ends with the store's time-out, not with its caller: a caller that gives up gets the
// answer that is on its way, if it comes soon.
func (s *Store) send(ctx context.Context, stream string, expected esdb.ExpectedRevision, events ...esdb.EventData) (*esdb.WriteResult, error) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	return s.write(own, stream, expected, events...)
}

// place is where an append's events go, and how it was claimed.
type place struct {
	behind   eventstore.Revision
	position uint64 // of the event there, known to appends without events
	claim    int64  // the claim's revision in the command's stream
	claimed  uint64 // the claim's position in the log
	joined   bool   // another attempt for this very place may be in flight
	since    time.Time
}

func (s *Store) append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	for at := (place{claim: unclaimed}); ; {
		if err := s.find(ctx, a, &at); err != nil {
			return eventstore.Appended{}, err
		}
		if err := s.claim(ctx, a, &at); err != nil {
			return eventstore.Appended{}, err
		}
		write := s.put
		if len(a.Events) == 0 {
			write = s.confirm
		}
		done, err := write(ctx, a, at)
		if !errors.Is(err, errTaken) {
			return done, err
		}
	}
}

// find resolves the expectation. An exact one is believed, since the server verifies it with the append; without events
// nothing is appended, so the stream's end is looked at.
func (s *Store) find(ctx context.Context, a eventstore.Append, at *place) error {
	if len(a.Events) > 0 && a.Expected != eventstore.AnyRevision {
		at.behind = a.Expected
		return nil
	}
	var err error
	if at.behind, at.position, err = s.end(ctx, a.Stream); err != nil {
		return s.unavailable(ctx, "append", err)
	}
	if a.Expected != eventstore.AnyRevision && a.Expected != at.behind {
		return s.refuse(ctx, a, &eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: at.behind})
	}
	return nil
}

// end is a stream's last revision and its position.
func (s *Store) end(ctx context.Context, stream string) (eventstore.Revision, uint64, error) {
	e, err := s.last(ctx, stream)
	if err != nil || e == nil {
		return eventstore.NoStream, 0, err
	}
	r, err := s.read(e)
	if err != nil {
		return 0, 0, err
	}
	s.note(r.Position, r.RecordedAt)
	return r.Revision, r.Position, nil
}

// claim notes the place in the command's stream, settling what stands there already.
func (s *Store) claim(ctx context.Context, a eventstore.Append, at *place) error {
	c := claim{Stream: a.Stream, Revision: at.behind, Events: len(a.Events)}
	if len(a.Events) == 0 {
		c.Position, c.RequestHash, c.Actor = at.position, a.Command.RequestHash, a.Command.Actor
	}
	at.joined = false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		at.since = time.Now()
		claim, position, err := s.record(ctx, a.Command.ID, at.claim, c)
		switch {
		case err == nil:
			at.claim, at.claimed = claim, position
			return s.unhurried(ctx, a, *at)
		case !wrongVersion(err) && len(a.Events) == 0:
			return unknown(err)
		case !wrongVersion(err):
			return s.unavailable(ctx, "append", err)
		}
		what, before, command, err := s.look(ctx, a.Command.ID)
		for n := 0; err == nil && what == inFlight && n < looks; n++ { // most likely its owner is about to finish
			if err = pause(ctx, lookWait); err == nil {
				what, before, command, err = s.look(ctx, a.Command.ID)
			}
		}
		switch {
		case err != nil:
			return s.unavailable(ctx, "append", err)
		case what == accepted:
			return &eventstore.DuplicateError{Command: command}
		case what == free:
			at.claim, at.joined = before.at, false
		case len(a.Events) > 0 && before.Stream == a.Stream && before.Revision == at.behind:
			at.claim, at.joined = before.at, true
		case time.Now().Add(s.off()).Sub(before.made) > 3*s.timeout:
			at.claim, at.joined = before.at, false
		default:
			return fmt.Errorf("append: %w: an earlier attempt of the command may be in flight", eventstore.ErrOutcomeUnknown)
		}
	}
}

// unhurried stops an attempt whose claim may have been given up by others, or whose caller has gone.
func (s *Store) unhurried(ctx context.Context, a eventstore.Append, at place) error {
	switch {
	case len(a.Events) == 0:
		return nil // it is done, or not
	case ctx.Err() != nil:
		return ctx.Err()
	case time.Since(at.since) > s.timeout:
		return fmt.Errorf("append: %w: the server is too slow", eventstore.ErrUnavailable)
	}
	return nil
}

func (s *Store) off() time.Duration {
	off, _ := s.clock.skew(time.Now())
	return off
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errTaken says that another event is where the append's should have come, and that it may be tried again.
var errTaken = errors.New("the place is taken")

// confirm looks whether a claim without events stands.
func (s *Store) confirm(ctx context.Context, a eventstore.Append, at place) (eventstore.Appended, error) {
	own := context.WithoutCancel(ctx) // whoever has given up gets what is so, within the time-out
	what, err := s.stood(own, a.Stream, at.behind, at.claimed)
	switch {
	case err != nil:
		return eventstore.Appended{}, unknown(err)
	case what == accepted:
		return eventstore.Appended{LastRevision: at.behind, Position: at.position, RecordedAt: s.now()}, nil
	case a.Expected == eventstore.AnyRevision:
		return eventstore.Appended{}, errTaken
	}
	end, _, err := s.end(ctx, a.Stream)
	if err != nil {
		return eventstore.Appended{}, s.unavailable(ctx, "append", err)
	}
	return eventstore.Appended{}, &eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: end}
}

// put writes the events into the place that is claimed for them.
func (s *Store) put(ctx context.Context, a eventstore.Append, at place) (eventstore.Appended, error) {
	now := s.now()
	events, _ := proposed(a, at.behind, now)
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	if at.behind != eventstore.NoStream {
		expected = esdb.Revision(uint64(at.behind)) //nolint:gosec // not negative here
	}
	done, err := s.send(ctx, s.namespace+a.Stream, expected, events...)
	switch {
	case err == nil:
		s.note(done.CommitPosition, now)
		return eventstore.Appended{
			LastRevision: at.behind + eventstore.Revision(len(a.Events)), Position: done.CommitPosition, RecordedAt: now,
		}, nil
	case !wrongVersion(err):
		return eventstore.Appended{}, unknown(err)
	}
	return eventstore.Appended{}, s.refused(ctx, a, at)
}

// refused tells why the server did not take the events. Its answer names the stream's end in prose alone; the stream is
// looked at instead.
func (s *Store) refused(ctx context.Context, a eventstore.Append, at place) error {
	command, what, err := s.landed(ctx, a.Command.ID, a.Stream, at.behind)
	if err != nil {
		return s.unavailable(ctx, "append", err)
	}
	if what == accepted {
		return &eventstore.DuplicateError{Command: command}
	}
	end, _, err := s.end(ctx, a.Stream)
	if err != nil {
		return s.unavailable(ctx, "append", err)
	}
	switch {
	case end == at.behind:
		return errTaken // the stream has come to there just now
	case end < at.behind && !at.joined:
		// The claim would stand for an attempt in flight, since the stream may yet grow to there. If this fails, or
		// another attempt has claimed meanwhile, that is what others will think.
		_, _, _ = s.record(ctx, a.Command.ID, at.claim, claim{Withdrawn: true})
	}
	if a.Expected == eventstore.AnyRevision {
		return errTaken
	}
	return &eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: end}
}

// unknown is a failure of the write that makes the effect.
func unknown(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("append: %w: no answer", eventstore.ErrOutcomeUnknown)
	}
	return fmt.Errorf("append: %w: %s", eventstore.ErrOutcomeUnknown, what(err))
}
