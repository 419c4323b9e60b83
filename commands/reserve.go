package commands

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/httpserver"
)

// Reserve books a slot: the one of a hold, or one that is named here.
type Reserve struct {
	HoldID       string       `json:"hold_id,omitempty" maxLength:"70" doc:"Either this, or groomer_id, start, mode and dogs"`
	GroomerID    string       `json:"groomer_id,omitempty" pattern:"^[a-z0-9-]{1,40}$"`
	Start        time.Time    `json:"start,omitzero" required:"false"`
	Mode         string       `json:"mode,omitempty" enum:"shop,visit"`
	Dogs         []DogRequest `json:"dogs,omitempty" minItems:"1" maxItems:"5" nullable:"false"`
	VisitAddress string       `json:"visit_address,omitempty" maxLength:"200" doc:"Required for a visit; shown to the parties only"`
	Phone        string       `json:"phone,omitempty" maxLength:"30"`
	Note         string       `json:"note,omitempty" maxLength:"1000"`
}

// Resolve refuses a mixture of both forms. huma calls it.
func (r *Reserve) Resolve(huma.Context) []error {
	var errs []error
	complain := func(wrong bool, field, message string) {
		if wrong {
			errs = append(errs, &huma.ErrorDetail{Location: "body." + field, Message: message})
		}
	}
	if r.HoldID != "" {
		const held = "stands in the hold already"
		complain(r.GroomerID != "", "groomer_id", held)
		complain(!r.Start.IsZero(), "start", held)
		complain(r.Mode != "", "mode", held)
		complain(len(r.Dogs) > 0, "dogs", held)
		complain(r.VisitAddress != "", "visit_address", held)
		complain(r.Phone != "", "phone", held)
		return errs
	}
	const missing = "is required without a hold_id"
	complain(r.GroomerID == "", "groomer_id", missing)
	complain(r.Start.IsZero(), "start", missing)
	complain(r.Mode == "", "mode", missing)
	complain(len(r.Dogs) == 0, "dogs", missing)
	return errs
}

// groomerID is whose book it is about.
func (r Reserve) groomerID() string {
	if target, ok := bookOf(r.HoldID); ok {
		return target.Key
	}
	return r.GroomerID
}

// Reserve decides and records. The ID is ReservationID of the command's.
func (x *Executor) Reserve(ctx context.Context, m Meta, r Reserve) (Result[Book], error) {
	s := x.sealing(ctx, m.Actor)
	note := s.text(r.Note)
	if s.err != nil {
		return Result[Book]{}, s.err
	}
	id := ReservationID(r, m)
	if r.HoldID != "" {
		target, err := x.bookOfHold(r.HoldID)
		if err != nil {
			return Result[Book]{}, err
		}
		return Execute(ctx, x, target, m, func(b Book, now time.Time) ([]domain.Event, error) {
			return b.RequestHeld(id, m.Actor, r.HoldID, note, now)
		})
	}
	wish, err := x.wish(ctx, m.Actor, HoldSlot{r.GroomerID, r.Start, r.Mode, r.Dogs, r.VisitAddress, r.Phone})
	if err != nil {
		return Result[Book]{}, err
	}
	return Execute(ctx, x, book(r.GroomerID), m, func(b Book, now time.Time) ([]domain.Event, error) {
		return b.Request(id, m.Actor, wish, note, now)
	})
}

// ReservationID is the ID of the reservation that a command makes.
func ReservationID(r Reserve, m Meta) string { return newID(r.groomerID(), m.CommandID, "reservation") }

func (x *Executor) serveReserve(api huma.API) {
	type input struct {
		WriteHeaders
		Body Reserve
	}
	op := httpserver.Operation("reserve", http.MethodPost, "/v1/reservations", "Book a slot", "customer")
	op.DefaultStatus = http.StatusCreated
	huma.Register(api, op, func(ctx context.Context, in *input) (*reservationOutput, error) {
		m, err := x.meta(ctx, "reserve", in.WriteHeaders, in.Body)
		if err != nil {
			return nil, err
		}
		r, err := x.Reserve(ctx, m, in.Body)
		if err != nil {
			return nil, err
		}
		return x.reservationAnswer(ctx, in.WriteHeaders, ReservationID(in.Body, m), r)
	})
}
