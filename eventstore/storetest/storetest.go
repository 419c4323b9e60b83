package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// Features tells what a store does beyond the contract and how its tests get at it.
type Features struct {
	// Dense: positions are 1, 2, 3… without a hole.
	Dense bool
	// TimeByStream: recorded_at ascends within each stream alone. A store whose server numbers the events after their time
	// was written into them cannot promise more: two appends at once may stand in the other order.
	TimeByStream bool
	// ChecksExpectedID: an append verifies Append.ExpectedID.
	ChecksExpectedID bool
	// Another opens a second instance beside s on the same data, as another process would. Nil when the store has one
	// owner only.
	Another func(t testing.TB, s eventstore.Store) eventstore.Store
	// Reopen closes s and opens the same data again. Closing twice is allowed: the test's clean-up does.
	Reopen func(t testing.TB, s eventstore.Store) eventstore.Store
	// Writers is how many append at once in the concurrent checks. Defaults to 16.
	Writers int
	// Patience ends a check that hangs. Defaults to two minutes.
	Patience time.Duration
}

// check is one promise.
type check struct {
	name string
	run  func(ctx context.Context, k *kit) error
}

func checks() []check {
	return slices.Concat(contractChecks(), readChecks(), duplicateChecks(), concurrentChecks(), otherChecks(), personChecks())
}

// Run holds the store that open makes, a new and empty one each time, to every promise.
func Run(t *testing.T, open func(t testing.TB) eventstore.Store, f Features) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := c.try(t, open, f); err != nil {
				t.Error(err)
			}
		})
	}
}

// try runs the check on a new store and answers what is wrong with it.
func (c check) try(t testing.TB, open func(t testing.TB) eventstore.Store, f Features) error {
	if f.Writers == 0 {
		f.Writers = 16
	}
	if f.Patience == 0 {
		f.Patience = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), f.Patience)
	defer cancel()
	seed := rand.Uint64()
	k := &kit{t: t, Features: f, stores: []eventstore.Store{open(t)}, random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // a test's dice, printed below
	if f.Another != nil {
		k.stores = append(k.stores, f.Another(t, k.stores[0]))
	}
	if err := c.run(ctx, k); err != nil {
		return fmt.Errorf("seed %d: %w", seed, err)
	}
	return nil
}

// kit is what a check works with.
type kit struct {
	Features
	t      testing.TB
	stores []eventstore.Store // instances on the same data; the first is never nil
	random *rand.Rand         // of the check's own goroutine
}

func (k *kit) store() eventstore.Store { return k.stores[0] }

// instance spreads goroutines over the instances.
func (k *kit) instance(n int) eventstore.Store { return k.stores[n%len(k.stores)] }

const (
	eventType = "test.happened.v1"
	metadata  = `{"command":"test","actor":{"id":"kim","role":"customer"}}`
)

// request is an append of one event for each data.
func request(stream string, expected eventstore.Revision, data ...string) eventstore.Append {
	a := eventstore.Append{
		Stream: stream, Key: "key of " + stream, Expected: expected, Metadata: []byte(metadata), DecidedAt: time.Now(),
		Command: eventstore.Command{ID: uuid.New(), RequestHash: bytes.Repeat([]byte{0xAB}, 32), Actor: "customer:kim"},
	}
	return fill(a, data...)
}

// fill gives the append one event for each data, named as a command's events are.
func fill(a eventstore.Append, data ...string) eventstore.Append {
	a.Events = nil
	for i, d := range data {
		a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(a.Command.ID, a.Stream, i), Type: eventType, Data: []byte(d)})
	}
	return a
}

// remembered is the command as the store must keep it.
func remembered(a eventstore.Append, done eventstore.Appended) eventstore.Command {
	c := a.Command
	c.Stream, c.LastRevision, c.Position = a.Stream, done.LastRevision, done.Position
	return c
}

// recorded is what an append must have left in its stream.
func recorded(a eventstore.Append, done eventstore.Appended) []eventstore.Recorded {
	var out []eventstore.Recorded
	for i, e := range a.Events {
		behind := len(a.Events) - 1 - i
		r := eventstore.Recorded{
			Position: done.Position - uint64(behind), Stream: a.Stream, Revision: done.LastRevision - eventstore.Revision(behind), //nolint:gosec // a small count
			ID: e.ID, Type: e.Type, Key: a.Key, RecordedAt: done.RecordedAt, Metadata: a.Metadata, Data: e.Data,
		}
		r.Hash = eventstore.ContentHash(r)
		out = append(out, r)
	}
	return out
}

// recorded is the same for any store. Where positions have holes the answer tells the last one's alone: the others' are
// read, and have to ascend to it.
func (k *kit) recorded(ctx context.Context, a eventstore.Append, done eventstore.Appended) ([]eventstore.Recorded, error) {
	out := recorded(a, done)
	if k.Dense || len(out) < 2 {
		return out, nil
	}
	for i := range out[:len(out)-1] {
		out[i].Position = 0
	}
	n, before := 0, uint64(0)
	for r, err := range k.store().ReadStream(ctx, a.Stream, out[0].Revision) {
		if err != nil {
			return nil, fmt.Errorf("read %.40q: %w", a.Stream, err)
		}
		if r.Position <= before || r.Position > done.Position {
			return nil, fmt.Errorf("event %d of an append that ended at position %d stands at %d, after %d", n, done.Position, r.Position, before)
		}
		before = r.Position
		if n == len(out)-1 {
			break
		}
		out[n].Position = r.Position
		n++
	}
	return out, nil
}

// append1 appends and complains about any error.
func append1(ctx context.Context, s eventstore.Store, a eventstore.Append) (eventstore.Appended, error) {
	done, err := s.Append(ctx, a)
	if err != nil {
		return done, fmt.Errorf("append to %.40q: %w", a.Stream, err)
	}
	return done, nil
}

func readStream(ctx context.Context, s eventstore.Store, stream string, from eventstore.Revision) ([]eventstore.Recorded, error) {
	var out []eventstore.Recorded
	for r, err := range s.ReadStream(ctx, stream, from) {
		if err != nil {
			return out, fmt.Errorf("read %.40q: %w", stream, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func readAll(ctx context.Context, s eventstore.Store, after uint64) ([]eventstore.Recorded, error) {
	var out []eventstore.Recorded
	for r, err := range s.ReadAll(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return out, fmt.Errorf("read all: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// same compares and tells the difference. Empty and nil bytes are the same: neither store keeps the difference.
func same(what string, want, got any) error {
	if d := cmp.Diff(want, got, emptyIsNil); d != "" {
		if len(d) > 2000 {
			d = d[:2000] + "…"
		}
		return fmt.Errorf("%s (-want +got):\n%s", what, d)
	}
	return nil
}

var emptyIsNil = cmp.Transformer("bytes", func(b []byte) string { return string(b) })

// unchanged runs do and complains when the store is not what it was.
func unchanged(ctx context.Context, s eventstore.Store, do func() error) error {
	before, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	after, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	headAfter, err := s.Head(ctx)
	if err != nil {
		return err
	}
	return errors.Join(same("the store changed", before, after), same("the head moved", head, headAfter))
}

// refused appends and wants exactly this error, and that nothing was done.
func refused(ctx context.Context, s eventstore.Store, a eventstore.Append, want error) error {
	return unchanged(ctx, s, func() error {
		_, err := s.Append(ctx, a)
		if !errors.Is(err, want) {
			return fmt.Errorf("append: want %q, got: %v", want, err)
		}
		return notRemembered(ctx, s, a)
	})
}

// conflicts appends and wants a conflict with both revisions, and that nothing was done.
func conflicts(ctx context.Context, s eventstore.Store, a eventstore.Append, actual eventstore.Revision) error {
	return unchanged(ctx, s, func() error {
		_, err := s.Append(ctx, a)
		var conflict *eventstore.ConflictError
		if !errors.As(err, &conflict) {
			return fmt.Errorf("append expecting %d: want a conflict, got: %v", a.Expected, err)
		}
		return errors.Join(same("the conflict", &eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: actual}, conflict),
			notRemembered(ctx, s, a))
	})
}

func notRemembered(ctx context.Context, s eventstore.Store, a eventstore.Append) error {
	_, found, err := s.Command(ctx, a.Command.ID)
	if err == nil && found {
		err = fmt.Errorf("a refused command is remembered")
	}
	return err
}

// duplicates appends and wants the first answer, and that nothing was done.
func duplicates(ctx context.Context, s eventstore.Store, a eventstore.Append, first eventstore.Command) error {
	return unchanged(ctx, s, func() error {
		_, err := s.Append(ctx, a)
		var duplicate *eventstore.DuplicateError
		if !errors.As(err, &duplicate) {
			return fmt.Errorf("append of a known command: want a duplicate, got: %v", err)
		}
		if err := same("the duplicate", first, duplicate.Command); err != nil {
			return err
		}
		found, ok, err := s.Command(ctx, a.Command.ID)
		if err != nil || !ok {
			return fmt.Errorf("find the command: %t, %v", ok, err)
		}
		return same("the command", first, found)
	})
}
