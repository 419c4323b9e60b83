package commands

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/internal/httpserver"
)

// Reschedule moves a reservation to another start.
type Reschedule struct {
	Start time.Time `json:"start"`
}

// Reschedule decides and records: the new slot taken, the old one freed, in one step.
func (x *Executor) Reschedule(ctx context.Context, m Meta, reservationID string, r Reschedule) (Result[Book], error) {
	return x.reschedule(ctx, m, reservationID, r, nil)
}

func (x *Executor) reschedule(ctx context.Context, m Meta, id string, r Reschedule, seen revisions) (Result[Book], error) {
	return x.transition(ctx, m, id, seen, func(g groomer.Groomer, now time.Time) ([]domain.Event, error) {
		return g.Reschedule(id, m.Actor, r.Start, now)
	})
}

func (x *Executor) serveReschedule(api huma.API) {
	type input struct {
		Conditional
		ReservationID string `path:"reservation_id" maxLength:"70"`
		Body          Reschedule
	}
	op := httpserver.Operation("reschedule", http.MethodPost, "/v1/reservations/{reservation_id}/reschedule", "Move a reservation", "customer", "groomer", "admin")
	huma.Register(api, op, func(ctx context.Context, in *input) (*reservationOutput, error) {
		m, err := x.meta(ctx, "reschedule", in.WriteHeaders, in.Body)
		if err != nil {
			return nil, err
		}
		r, err := x.reschedule(ctx, m, in.ReservationID, in.Body, in.matches)
		if err != nil {
			return nil, err
		}
		return x.reservationAnswer(ctx, in.WriteHeaders, in.ReservationID, r)
	})
}
