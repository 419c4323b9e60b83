package commands

import (
	"context"
	"regexp"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
)

// Book is one groomer's book, and the revision at which its profile last changed: the profile's ETag.
type Book struct {
	groomer.Groomer
	Profiled uint64 `json:"profiled"`
}

// bookFold is evolveBook's own part of the fold version: raise it when that changes, and the golden test asks for it.
const bookFold = 1

var bookKind = Kind[Book]{
	Evolve:      evolveBook,
	FoldVersion: 1000*groomer.FoldVersion + bookFold,
	Restore:     func(b Book) Book { b.Groomer = b.Restored(); return b },
	Size:        func(b Book) int { return b.Size() },
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
	return Target[Book]{Kind: bookKind, Stream: eventstore.GroomerStream(groomerID), Key: groomerID}
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
		r, found, err := x.pastReservation(ctx, b, id)
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
		h, found, err := alone(ctx, x, t.Stream, b.IDs, id, part[groomer.Hold]{groomer.AboutHold, groomer.EvolveHold, groomer.HoldOver})
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
		o, found, err := alone(ctx, x, t.Stream, b.IDs, id, part[groomer.TimeOff]{groomer.AboutTimeOff, groomer.EvolveTimeOff, groomer.TimeOffOver})
		b.Groomer = b.WithTimeOff(o)
		return b, found, err
	}
	return t, nil
}

// pastReservation folds one reservation from its stream.
func (x *Executor) pastReservation(ctx context.Context, b Book, id string) (groomer.Reservation, bool, error) {
	t, ok := bookOf(id)
	if !ok {
		return groomer.Reservation{}, false, nil
	}
	return alone(ctx, x, t.Stream, b.IDs, id, part[groomer.Reservation]{groomer.About, groomer.EvolveReservation, groomer.ReservationOver})
}
