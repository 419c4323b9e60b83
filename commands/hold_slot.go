package commands

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/internal/httpserver"
)

// HoldSlot keeps a slot for a customer for a few minutes.
type HoldSlot struct {
	GroomerID    string       `json:"groomer_id" pattern:"^[a-z0-9-]{1,40}$"`
	Start        time.Time    `json:"start"`
	Mode         string       `json:"mode" enum:"shop,visit"`
	Dogs         []DogRequest `json:"dogs" minItems:"1" maxItems:"5" nullable:"false"`
	VisitAddress string       `json:"visit_address,omitempty" maxLength:"200" doc:"Required for a visit; shown to the parties only"`
	Phone        string       `json:"phone,omitempty" maxLength:"30"`
}

// HoldSlot decides and records. The ID is HoldID of the command's.
func (x *Executor) HoldSlot(ctx context.Context, m Meta, r HoldSlot) (Result[Book], error) {
	wish, err := x.wish(ctx, m.Actor, r)
	if err != nil {
		return Result[Book]{}, err
	}
	return Execute(ctx, x, book(r.GroomerID), m, func(b Book, now time.Time) ([]domain.Event, error) {
		return b.PlaceHold(HoldID(r.GroomerID, m), m.Actor, wish, x.holdTTL, now)
	})
}

// HoldID is the ID of the hold that a command makes.
func HoldID(groomerID string, m Meta) string { return newID(groomerID, m.CommandID, "hold") }

// wish is what a customer asks for, its personal texts sealed.
func (x *Executor) wish(ctx context.Context, by domain.Actor, r HoldSlot) (groomer.Wish, error) {
	s := x.sealing(ctx, by)
	w := groomer.Wish{
		Start: r.Start, Mode: groomer.Mode(r.Mode), Dogs: s.dogs(r.Dogs), VisitAddress: s.text(r.VisitAddress), Phone: s.text(r.Phone),
	}
	return w, s.err
}

// HeldSlot is a hold as it is answered.
type HeldSlot struct {
	HoldID    string    `json:"hold_id"`
	GroomerID string    `json:"groomer_id"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	Minutes   int       `json:"minutes"`
	PriceKRW  int64     `json:"price_krw"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (x *Executor) serveHoldSlot(api huma.API) {
	type input struct {
		WriteHeaders
		Body HoldSlot
	}
	type output struct {
		Answer
		Body HeldSlot
	}
	op := httpserver.Operation("hold-slot", http.MethodPost, "/v1/holds", "Keep a slot for a few minutes", "customer")
	op.DefaultStatus = http.StatusCreated
	huma.Register(api, op, func(ctx context.Context, in *input) (*output, error) {
		m, err := x.meta(ctx, "hold_slot", in.WriteHeaders, in.Body)
		if err != nil {
			return nil, err
		}
		r, err := x.HoldSlot(ctx, m, in.Body)
		if err != nil {
			return nil, err
		}
		h, ok := r.State.FindHold(HoldID(in.Body.GroomerID, m))
		if !ok {
			return nil, fmt.Errorf("hold of command %s is not in %s at revision %d", m.CommandID, r.Stream, r.Revision)
		}
		return &output{answer(x, in.WriteHeaders, r, uint64(r.Revision)), HeldSlot{h.HoldID, in.Body.GroomerID, h.Start, h.End(), h.Minutes, h.PriceKRW, h.ExpiresAt}}, nil //nolint:gosec // the stream has events
	})
}
