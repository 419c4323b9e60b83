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

// Cancel ends a reservation before its start and frees its slot.
func (x *Executor) Cancel(ctx context.Context, m Meta, reservationID string, r Reason) (Result[Book], error) {
	return x.cancel(ctx, m, reservationID, r, nil)
}

func (x *Executor) cancel(ctx context.Context, m Meta, id string, r Reason, seen revisions) (Result[Book], error) {
	s := x.sealing(ctx, m.Actor)
	reason := s.text(r.Reason)
	if s.err != nil {
		return Result[Book]{}, s.err
	}
	return x.transition(ctx, m, id, seen, func(g groomer.Groomer, now time.Time) ([]domain.Event, error) {
		return g.Cancel(id, m.Actor, reason, now)
	})
}

func (x *Executor) serveCancel(api huma.API) {
	op := httpserver.Operation("cancel", http.MethodPost, "/v1/reservations/{reservation_id}/cancel", "Call a reservation off", "customer", "groomer", "admin")
	registerReasoned(api, x, op, "cancel", x.cancel)
}
