package seal

import (
	"context"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

func (o Options) known() note.Verifiers {
	if o.Known == nil {
		return note.VerifierList()
	}
	return o.Known
}

// batch is some events on their way to the verifier: read, their commands looked up, their hashes computed, each by a
// goroutine of its own.
type batch struct {
	events   []eventstore.Recorded
	sound    []bool // whether an event has the hash that it says
	commands map[uuid.UUID]eventstore.Accepted
	hashed   chan struct{} // closed when sound is there
}

const (
	batchEvents = 1024
	batchBytes  = 8 << 20
	hashers     = 2
)

// batches reads the events behind a position and calls take with them in order. sealed is through which position commands
// are asked for.
func batches(ctx context.Context, h History, after, to, sealed uint64, take func(*batch) error) error {
	group, ctx := errgroup.WithContext(ctx)
	read, looked, work := make(chan *batch, 2), make(chan *batch, 2), make(chan *batch, 4)
	group.Go(func() error {
		defer close(read)
		return readBatches(ctx, h, after, to, read)
	})
	group.Go(func() error {
		defer close(looked)
		defer close(work)
		for b := range read {
			select {
			case work <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := b.lookUp(ctx, h, sealed); err != nil {
				return err
			}
			select {
			case looked <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range hashers {
		group.Go(func() error {
			for b := range work {
				for i, r := range b.events {
					b.sound[i] = eventstore.ContentHash(r) == r.Hash
				}
				close(b.hashed)
			}
			return nil
		})
	}
	group.Go(func() error {
		for b := range looked {
			<-b.hashed
			if err := take(b); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

func readBatches(ctx context.Context, h History, after, to uint64, out chan<- *batch) error {
	fresh := func() *batch { return &batch{hashed: make(chan struct{})} }
	b, size := fresh(), 0
	send := func() error {
		b.sound = make([]bool, len(b.events))
		select {
		case out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		b, size = fresh(), 0
		return nil
	}
	for r, err := range h.ReadAll(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		if to > 0 && r.Position > to {
			break
		}
		if b.events == nil {
			b.events = make([]eventstore.Recorded, 0, batchEvents)
		}
		b.events = append(b.events, r)
		if size += len(r.Data) + len(r.Metadata); len(b.events) == batchEvents || size >= batchBytes {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

func (b *batch) lookUp(ctx context.Context, h History, sealed uint64) error {
	var ids []uuid.UUID
	var runs runs
	for _, r := range b.events {
		if r.Position > sealed {
			break
		}
		if id, begins := runs.next(r); begins {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := h.CommandsOf(ctx, ids, b.events[len(b.events)-1].Position)
	if err != nil {
		return err
	}
	b.commands = make(map[uuid.UUID]eventstore.Accepted, len(found))
	for _, c := range found {
		b.commands[c.ID] = c
	}
	return nil
}
