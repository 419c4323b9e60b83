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

// Confirm accepts a request.
func (x *Executor) Confirm(ctx context.Context, m Meta, reservationID string) (Result[Book], error) {
	return x.confirm(ctx, m, reservationID, nil)
}

func (x *Executor) confirm(ctx context.Context, m Meta, id string, seen revisions) (Result[Book], error) {
	return x.transition(ctx, m, id, seen, func(g groomer.Groomer, _ time.Time) ([]domain.Event, error) {
		return g.Confirm(id, m.Actor)
	})
}

func (x *Executor) serveConfirm(api huma.API) {
	op := httpserver.Operation("confirm", http.MethodPost, "/v1/reservations/{reservation_id}/confirm", "Accept a request", "groomer", "admin")
	registerTransition(api, x, op, "confirm", x.confirm)
}
