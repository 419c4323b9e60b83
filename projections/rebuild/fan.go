package rebuild

import (
	"context"
	"fmt"
	"iter"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

// A store without an index over slices reads all it has, whichever of them are asked for. So one reader reads it once for
// several ranges, and gives each of them to the worker that folds it:
//
//	store ──▶ bring ──┬─▶ feed ──▶ pass over slices 0…511
//	                  └─▶ feed ──▶ pass over slices 512…1023
//
// The slowest holds up all, since little is read ahead; one that fails ends the others.

// Events are what is read: a store's, a feed's, or those that were exported of one.
type Events interface {
	ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error]
}

// feed is what the reader brings of a range of slices. It is read once, as a store is: who narrows its filter, or has written
// a part down, goes on where it was.
type feed struct {
	events chan eventstore.Recorded
	left   chan struct{} // closed when nobody reads it any more
	err    error         // of the reader, once events is closed
}

// readAhead is how many events a feed holds, of at most 256 KiB each.
const readAhead = 64

func (f *feed) ReadAll(ctx context.Context, after uint64, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			select {
			case e, more := <-f.events:
				if !more {
					if f.err != nil {
						yield(e, f.err)
					}
					return
				}
				if e.Position > after && filter.Matches(e) && !yield(e, nil) {
					return
				}
			case <-ctx.Done():
				yield(eventstore.Recorded{}, ctx.Err())
				return
			}
		}
	}
}

// together reads the store once after a position, and has each of the ranges folded meanwhile.
func (k *work) together(ctx context.Context, ranges []eventstore.SliceRange, after uint64, without []string, fold func(context.Context, Events, eventstore.SliceRange) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var of [eventstore.Slices]*feed
	feeds := make([]*feed, len(ranges))
	for i, r := range ranges {
		one := &feed{events: make(chan eventstore.Recorded, readAhead), left: make(chan struct{})}
		for s := r.From; s < r.To; s++ {
			of[s] = one
		}
		feeds[i] = one
		group.Go(func() error {
			defer close(one.left)
			return fold(ctx, one, r)
		})
	}
	group.Go(func() error {
		err := k.bring(ctx, &of, after, without)
		for _, one := range feeds {
			one.err = err // before it is closed: an end without an error is the end of the history
			close(one.events)
		}
		return err
	})
	return group.Wait()
}

// bring gives each event after a position, up to the head, to the feed of its slice.
func (k *work) bring(ctx context.Context, of *[eventstore.Slices]*feed, after uint64, without []string) error {
	for e, err := range k.Store.ReadAll(ctx, after, eventstore.Filter{Without: without}) {
		if err != nil {
			return fmt.Errorf("read the store: %w", err)
		}
		if e.Position > k.run.plan.Head {
			break
		}
		one := of[eventstore.Slice(e.Key)]
		if one == nil {
			continue
		}
		select {
		case one.events <- e:
		case <-one.left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
