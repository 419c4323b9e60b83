package commands

import (
	"context"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
)

// BookedReservation is a reservation as its parties and admins see it. The read side answers the same shape.
type BookedReservation struct {
	ReservationID string       `json:"reservation_id"`
	Status        string       `json:"status" enum:"requested,confirmed,checked_in,completed,declined,expired,cancelled,no_show"`
	GroomerID     string       `json:"groomer_id"`
	CustomerID    string       `json:"customer_id"`
	Start         time.Time    `json:"start"`
	End           time.Time    `json:"end"`
	Minutes       int          `json:"minutes"`
	Mode          string       `json:"mode" enum:"shop,visit"`
	Dogs          []BookedDog  `json:"dogs" nullable:"false"`
	VisitAddress  *string      `json:"visit_address"`
	Phone         *string      `json:"phone"`
	Note          *string      `json:"note"`
	PriceKRW      int64        `json:"price_krw"`
	RefundPercent *int         `json:"refund_percent" doc:"null until it is declined, expired or cancelled"`
	RoomID        string       `json:"room_id"`
	Cancellation  []CancelTier `json:"cancellation" nullable:"false"`
	CreatedAt     time.Time    `json:"created_at"`
	UpdatedAt     time.Time    `json:"updated_at"`
	Revision      uint64       `json:"revision"`
	Erased        []string     `json:"erased,omitempty" doc:"Fields that are null because their person had them erased: phone, dogs[0].name"`
}

type reservationOutput struct {
	Answer
	Body BookedReservation
}

// reservationAnswer shows a reservation as a command left it, its personal texts opened.
func (x *Executor) reservationAnswer(ctx context.Context, h WriteHeaders, id string, r Result[Book]) (*reservationOutput, error) {
	res, ok := r.State.FindReservation(id)
	if !ok {
		var err error
		// What the state let go of has ended, and does not change any more.
		if res, ok, err = x.pastReservation(ctx, r.State, id); err != nil {
			return nil, happened(err)
		}
	}
	if !ok {
		return nil, fmt.Errorf("reservation %s is not in %s at revision %d", id, r.Stream, r.Revision)
	}
	o := opening{ctx: ctx, keys: x.keys}
	out := &reservationOutput{Answer: answer(x, h, r, res.Revision), Body: BookedReservation{
		ReservationID: res.ReservationID, Status: string(res.Status), GroomerID: r.State.GroomerID, CustomerID: res.CustomerID,
		Start: res.Start, End: res.End(), Minutes: res.Minutes, Mode: string(res.Mode), Dogs: o.dogs(res.Dogs),
		VisitAddress: o.text(res.VisitAddress, "visit_address"), Phone: o.text(res.Phone, "phone"), Note: o.text(res.Note, "note"),
		PriceKRW: res.PriceKRW, RefundPercent: res.RefundPercent, RoomID: res.ReservationID, Cancellation: make([]CancelTier, len(res.Cancellation)),
		CreatedAt: res.CreatedAt, UpdatedAt: res.UpdatedAt, Revision: res.Revision,
	}}
	for i, tier := range res.Cancellation {
		out.Body.Cancellation[i] = CancelTier(tier)
	}
	out.Body.Erased = o.erased
	return out, happened(o.err)
}

// OnReservation is the input of a transition without a body.
type OnReservation struct {
	Conditional
	ReservationID string `path:"reservation_id" maxLength:"70"`
}

// Reason is the body of a transition that may be explained.
type Reason struct {
	Reason string `json:"reason,omitempty" maxLength:"500"`
}

// transition decides on one reservation, if its revision is one that the caller has seen.
func (x *Executor) transition(ctx context.Context, m Meta, id string, seen revisions, decide func(b groomer.Groomer, now time.Time) ([]domain.Event, error)) (Result[Book], error) {
	target, err := x.bookOfReservation(id)
	if err != nil {
		return Result[Book]{}, err
	}
	return Execute(ctx, x, target, m, func(b Book, now time.Time) ([]domain.Event, error) {
		events, err := decide(b.Groomer, now)
		if err != nil {
			return nil, err
		}
		// After the decision, which knows whether the caller may know this reservation at all.
		if r, ok := b.FindReservation(id); ok {
			err = seen.check(r.Revision)
		}
		return events, err
	})
}

// registerTransition adds an operation that moves a reservation on and has no body.
func registerTransition(api huma.API, x *Executor, op huma.Operation, command string, do func(ctx context.Context, m Meta, id string, seen revisions) (Result[Book], error)) {
	huma.Register(api, op, func(ctx context.Context, in *OnReservation) (*reservationOutput, error) {
		m, err := x.meta(ctx, command, in.WriteHeaders, struct{}{})
		if err != nil {
			return nil, err
		}
		r, err := do(ctx, m, in.ReservationID, in.matches)
		if err != nil {
			return nil, err
		}
		return x.reservationAnswer(ctx, in.WriteHeaders, in.ReservationID, r)
	})
}

// registerReasoned adds an operation that moves a reservation on and may be explained.
func registerReasoned(api huma.API, x *Executor, op huma.Operation, command string, do func(ctx context.Context, m Meta, id string, r Reason, seen revisions) (Result[Book], error)) {
	type input struct {
		OnReservation
		Body *Reason
	}
	huma.Register(api, op, func(ctx context.Context, in *input) (*reservationOutput, error) {
		var reason Reason
		if in.Body != nil {
			reason = *in.Body
		}
		m, err := x.meta(ctx, command, in.WriteHeaders, reason)
		if err != nil {
			return nil, err
		}
		r, err := do(ctx, m, in.ReservationID, reason, in.matches)
		if err != nil {
			return nil, err
		}
		return x.reservationAnswer(ctx, in.WriteHeaders, in.ReservationID, r)
	})
}
