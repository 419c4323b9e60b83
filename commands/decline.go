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

// Decline refuses a request and frees its slot.
func (x *Executor) Decline(ctx context.Context, m Meta, reservationID string, r Reason) (Result[Book], error) {
	return x.decline(ctx, m, reservationID, r, nil)
}

func (x *Executor) decline(ctx context.Context, m Meta, id string, r Reason, seen revisions) (Result[Book], error) {
	s := x.sealing(ctx, m.Actor)
	reason := s.text(r.Reason)
	if s.err != nil {
		return Result[Book]{}, s.err
	}
	return x.transition(ctx, m, id, seen, func(g groomer.Groomer, _ time.Time) ([]domain.Event, error) {
		return g.Decline(id, m.Actor, reason)
	})
}

func (x *Executor) serveDecline(api huma.API) {
	op := httpserver.Operation("decline", http.MethodPost, "/v1/reservations/{reservation_id}/decline", "Refuse a request", "groomer", "admin")
	registerReasoned(api, x, op, "decline", x.decline)
}
