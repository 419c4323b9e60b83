package commands

import (
	"context"
	"fmt"
	"math"

	"github.com/dangdangsalon/salon/eventstore"
)

// latest reads to the stream's end.
const latest = eventstore.Revision(math.MaxInt64)

// Load gives the state of a stream as it is now, for a decision on another stream.
func Load[S any](ctx context.Context, x *Executor, t Target[S]) (Folded[S], error) {
	s, ok := cached[S](x, t.Stream)
	if !ok {
		s = Folded[S]{Revision: eventstore.NoStream}
	}
	// Without the stream's lock: a reader does not wait for a writer's flush. Should an older state land in the
	// cache by that, the next append conflicts and reads on.
	s, err := read(ctx, x, t.Kind, t.Stream, s, latest)
	if err != nil {
		return s, err
	}
	keep(x, t.Kind, t.Stream, s)
	return s, nil
}

// read folds the events after s, through revision to; without an s, after the stream's snapshot. The event that it begins
// with is read again: when it is not there, or is another one, the store was restored (or the snapshot is of another
// history), and the stream is folded from its beginning.
func read[S any](ctx context.Context, x *Executor, k Kind[S], stream string, s Folded[S], to eventstore.Revision) (Folded[S], error) {
	if s.Revision == eventstore.NoStream {
		s = thaw(ctx, x, k, stream, to)
	}
	next, same, err := fold(ctx, x, k, stream, s, to)
	if err == nil && !same {
		x.cache.drop(stream)
		s = Folded[S]{Revision: eventstore.NoStream}
		next, _, err = fold(ctx, x, k, stream, s, to)
	}
	if err == nil && to == latest && next.Revision-s.Revision >= snapshotEach(k, next) {
		save(ctx, x, k, stream, next)
	}
	return next, err
}

// fold is read for one pass; same reports that the event at s.Revision is the one that s was folded to.
func fold[S any](ctx context.Context, x *Executor, k Kind[S], stream string, s Folded[S], to eventstore.Revision) (_ Folded[S], same bool, err error) {
	same = s.Revision == eventstore.NoStream
	if to < 0 {
		return s, same, nil
	}
	for r, err := range x.store.ReadStream(ctx, stream, max(0, s.Revision)) {
		switch {
		case err != nil:
			return s, false, fmt.Errorf("read %s: %w", stream, err)
		case r.Revision > to:
			return s, same, nil
		case !same:
			// The time as well: a command repeated after a fail-over makes the ID that it made in the lost history.
			if r.Revision != s.Revision || r.ID != s.last || !r.RecordedAt.Equal(s.At) {
				return s, false, nil
			}
			same, s.Position = true, r.Position
			continue
		case r.Revision != s.Revision+1:
			return s, false, fmt.Errorf("read %s: revision %d after %d", stream, r.Revision, s.Revision)
		}
		f, err := x.codec.Fact(r)
		if err != nil {
			return s, false, err
		}
		s.State = k.Evolve(s.State, f)
		s.Revision, s.Position, s.At, s.last = r.Revision, r.Position, r.RecordedAt, r.ID
	}
	return s, same, nil
}

func cached[S any](x *Executor, stream string) (Folded[S], bool) {
	s, ok := x.cache.get(stream).(Folded[S])
	return s, ok
}

func keep[S any](x *Executor, k Kind[S], stream string, s Folded[S]) {
	if s.Revision != eventstore.NoStream { // streams that do not exist are anybody's to name: remember none
		x.cache.put(stream, s, k.size(s.State))
	}
}
