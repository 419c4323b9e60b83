package commands

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
)

// part is one kind of thing in a book that folds by itself.
type part[T any] struct {
	about  func(domain.Event) string
	evolve func(T, domain.Fact) T
	over   func(one T, at time.Time) bool // no event recorded at that time or later is about it
}

// alone folds the one thing of a book that has this ID. It reads the few hundred events in which it began, where the
// book's IDs say so, and on to its end. Of an ID that the book never had it reads nothing: anybody may make those up,
// and a long book takes the better part of a second to read.
func alone[T any](ctx context.Context, x *Executor, stream string, ids groomer.IDs, id string, p part[T]) (one T, found bool, err error) {
	for from, to := range ids.Spans(id) {
		if one, found, err = p.fold(ctx, x, stream, id, from, to); err != nil || found {
			return one, found, err
		}
	}
	return one, false, nil
}

// fold folds the one that began within [from, to). It decodes only what names the ID.
func (p part[T]) fold(ctx context.Context, x *Executor, stream, id string, from, to uint64) (one T, found bool, err error) {
	named := []byte(id)
	for r, err := range x.store.ReadStream(ctx, stream, eventstore.Revision(from)) { //nolint:gosec // it was a revision
		switch {
		case err != nil:
			return one, false, fmt.Errorf("read %s: %w", stream, err)
		case !found && uint64(r.Revision) >= to: //nolint:gosec // never negative once stored
			return one, false, nil
		case found && p.over(one, r.RecordedAt):
			return one, true, nil
		case !bytes.Contains(r.Data, named):
			continue
		}
		f, err := x.codec.Fact(r)
		if err != nil {
			return one, false, err
		}
		if p.about(f.Event) == id {
			one, found = p.evolve(one, f), true
		}
	}
	return one, found, nil
}
