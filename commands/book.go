package commands

import (
	"bytes"
	"context"
	"fmt"
	"regexp"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
)

// Book is one groomer's book, and the revision at which its profile last changed: the profile's ETag.
type Book struct {
	groomer.Groomer
	Profiled uint64
}

func evolveBook(b Book, f domain.Fact) Book {
	b.Groomer = groomer.Evolve(b.Groomer, f)
	switch f.Event.(type) {
	case groomer.Registered, groomer.ProfileChanged, groomer.MenuChanged, groomer.HoursChanged, groomer.PoliciesChanged:
		b.Profiled = f.Revision
	}
	return b
}

// book is the target of commands on a groomer's book.
func book(groomerID string) Target[Book] {
	return Target[Book]{Kind: Kind[Book]{Evolve: evolveBook}, Stream: eventstore.GroomerStream(groomerID), Key: groomerID}
}

// bookID is the form of a hold's, a reservation's and a time off's ID. A string that no book could have made is as
// unknown as one that none has made, and no database ever sees it.
var bookID = regexp.MustCompile(`^[a-z0-9-]{1,40}\.[0-9a-v]{26}$`)

func bookOf(id string) (Target[Book], bool) {
	groomerID, ok := eventstore.GroomerOf(id)
	if !ok || !bookID.MatchString(id) {
		return Target[Book]{}, false
	}
	return book(groomerID), true
}

// newID is the ID of what a command makes in a groomer's book. A repeated command makes the same one.
func newID(groomerID string, command uuid.UUID, kind string) string {
	return groomerID + "." + eventstore.Suffix(command, kind)
}

// bookOfReservation is the target of a command on a reservation, which may have ended long ago.
func (x *Executor) bookOfReservation(id string) (Target[Book], error) {
	t, ok := bookOf(id)
	if !ok {
		return t, groomer.ErrReservationUnknown
	}
	t.Recall = func(ctx context.Context, b Book) (Book, bool, error) {
		if _, there := b.FindReservation(id); there {
			return b, false, nil
		}
		r, found, err := x.pastReservation(ctx, id)
		b.Groomer = b.WithReservation(r)
		return b, found, err
	}
	return t, nil
}

// bookOfHold is the target of a command on a hold, which may be gone.
func (x *Executor) bookOfHold(id string) (Target[Book], error) {
	t, ok := bookOf(id)
	if !ok {
		return t, groomer.ErrHoldUnknown
	}
	t.Recall = func(ctx context.Context, b Book) (Book, bool, error) {
		if _, there := b.FindHold(id); there {
			return b, false, nil
		}
		h, found, err := alone(ctx, x, t.Stream, id, groomer.AboutHold, groomer.EvolveHold)
		b.Groomer = b.WithHold(h)
		return b, found, err
	}
	return t, nil
}

// bookOfTimeOff is the target of a command on time off, which may be over.
func (x *Executor) bookOfTimeOff(id string) (Target[Book], error) {
	t, ok := bookOf(id)
	if !ok {
		return t, groomer.ErrTimeOffUnknown
	}
	t.Recall = func(ctx context.Context, b Book) (Book, bool, error) {
		if _, there := b.FindTimeOff(id); there {
			return b, false, nil
		}
		o, found, err := alone(ctx, x, t.Stream, id, groomer.AboutTimeOff, groomer.EvolveTimeOff)
		b.Groomer = b.WithTimeOff(o)
		return b, found, err
	}
	return t, nil
}

// pastReservation folds one reservation from its stream.
func (x *Executor) pastReservation(ctx context.Context, id string) (groomer.Reservation, bool, error) {
	t, ok := bookOf(id)
	if !ok {
		return groomer.Reservation{}, false, nil
	}
	return alone(ctx, x, t.Stream, id, groomer.About, groomer.EvolveReservation)
}

// alone folds the one thing of a stream that has this ID. It reads the whole stream, but decodes only what names the
// ID.
func alone[T any](ctx context.Context, x *Executor, stream, id string, about func(domain.Event) string, evolve func(T, domain.Fact) T) (one T, found bool, err error) {
	named := []byte(id)
	for r, err := range x.store.ReadStream(ctx, stream, 0) {
		if err != nil {
			return one, false, fmt.Errorf("read %s: %w", stream, err)
		}
		if !bytes.Contains(r.Data, named) {
			continue
		}
		f, err := x.codec.Fact(r)
		if err != nil {
			return one, false, err
		}
		if about(f.Event) == id {
			one, found = evolve(one, f), true
		}
	}
	return one, found, nil
}
