package seal

import (
	"context"
	"iter"
	"math"
	"reflect"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

func (o Options) known() note.Verifiers {
	if o.Known == nil {
		return note.VerifierList()
	}
	return o.Known
}

// Batch is some events on their way through a walk.
type Batch struct {
	Events   []eventstore.Recorded
	Of       []uuid.UUID                       // the command that each names, or the zero one
	Commands map[uuid.UUID]eventstore.Accepted // of the events, as far as they are asked for and there
	Sound    []bool                            // of a verification: whether an event has the hash that it says
	Made     any                               // what Prepare makes of it, of an export

	leaves []tlog.Hash // of a verification: of the events

	prepared chan struct{}
}

const (
	batchEvents = 1024
	batchBytes  = 8 << 20
	partEvents  = 4 * batchEvents
	workers     = 2
)

// Walk goes through a history in its order.
type Walk struct {
	After, To uint64 // behind this position, through that one; 0: to the end
	Filter    eventstore.Filter
	// Commands is through which position the events' commands are looked up.
	Commands uint64
	// Prepare is called with each batch, with several at once.
	Prepare func(*Batch)
	// Take is called with each batch in its order, when it is prepared and its commands are there.
	Take func(*Batch) error
}

// Run reads, looks up, prepares and takes, each in a goroutine of its own, a few batches ahead of each other.
func (w Walk) Run(ctx context.Context, h History) error {
	group, ctx := errgroup.WithContext(ctx)
	read, looked, work := make(chan *Batch, 2), make(chan *Batch, 2), make(chan *Batch, 4)
	group.Go(func() error {
		defer close(read)
		return w.read(ctx, h, func(b *Batch) error { return send(ctx, read, b) })
	})
	group.Go(func() error {
		defer close(looked)
		defer close(work)
		from := &commandReader{h: h}
		defer from.close()
		for b := range read {
			if err := send(ctx, work, b); err != nil {
				return err
			}
			if err := b.lookUp(ctx, from, w.Commands); err != nil {
				return err
			}
			if err := send(ctx, looked, b); err != nil {
				return err
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for b := range work {
				w.Prepare(b)
				close(b.prepared)
			}
			return nil
		})
	}
	group.Go(func() error {
		for b := range looked {
			<-b.prepared
			if err := w.Take(b); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

func send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read reads all that is wanted: of a store that is Ranged two parts at once, else one event after the other.
func (w Walk) read(ctx context.Context, h History, take func(*Batch) error) error {
	after, through := w.After, w.To
	if through == 0 {
		through = math.MaxUint64
	}
	if ranged, is := h.(eventstore.Ranged); is && reflect.ValueOf(w.Filter).IsZero() {
		head, err := ranged.Head(ctx)
		if err != nil {
			return err
		}
		end := min(head.Position, through)
		if err := readParts(ctx, ranged, after, end, take); err != nil || end == through {
			return err
		}
		after = max(after, end) // what is behind the head has come meanwhile, or is there though the head does not say so
	}
	return batches(h.ReadAll(ctx, after, w.Filter), through, take)
}

// readParts reads a part while the one before it is being sent. One reader alone waits for its server as often as that
// waits for it: a third of two cores had nothing to do.
func readParts(ctx context.Context, h eventstore.Ranged, after, end uint64, take func(*Batch) error) error {
	type part struct {
		batches chan *Batch
		err     error // may be looked at when there are no more batches
	}
	parts := make(chan *part, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(parts)
		for ; after < end; after += partEvents {
			p, from, through := &part{batches: make(chan *Batch, partEvents/batchEvents)}, after, min(after+partEvents, end)
			group.Go(func() error {
				defer close(p.batches)
				p.err = batches(h.ReadRange(ctx, from, through), through, func(b *Batch) error { return send(ctx, p.batches, b) })
				return p.err
			})
			if err := send(ctx, parts, p); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for p := range parts {
			for b := range p.batches {
				if err := take(b); err != nil {
					return err
				}
			}
			if p.err != nil { // what follows would seem to be all that there is
				return p.err
			}
		}
		return nil
	})
	return group.Wait()
}

// batches cuts events into batches, through a position.
func batches(events iter.Seq2[eventstore.Recorded, error], through uint64, take func(*Batch) error) error {
	b, size := &Batch{prepared: make(chan struct{})}, 0
	for r, err := range events {
		if err != nil {
			return err
		}
		if r.Position > through {
			break
		}
		if b.Events == nil {
			b.Events, b.Of = make([]eventstore.Recorded, 0, batchEvents), make([]uuid.UUID, 0, batchEvents)
		}
		b.Events, b.Of = append(b.Events, r), append(b.Of, CommandOf(r))
		if size += len(r.Data) + len(r.Metadata); len(b.Events) == batchEvents || size >= batchBytes {
			if err := take(b); err != nil {
				return err
			}
			b, size = &Batch{prepared: make(chan struct{})}, 0
		}
	}
	if b.Events == nil {
		return nil
	}
	return take(b)
}

func (b *Batch) lookUp(ctx context.Context, from *commandReader, through uint64) error {
	var ids []uuid.UUID
	var runs Runs
	for i, r := range b.Events {
		if r.Position > through {
			break
		}
		if runs.Next(b.Of[i]) {
			ids = append(ids, b.Of[i])
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var err error
	b.Commands, err = from.of(ctx, ids, b.Events[len(b.Events)-1].Position)
	return err
}
