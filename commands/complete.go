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

// Complete ends a visit well.
func (x *Executor) Complete(ctx context.Context, m Meta, reservationID string) (Result[Book], error) {
	return x.complete(ctx, m, reservationID, nil)
}

func (x *Executor) complete(ctx context.Context, m Meta, id string, seen revisions) (Result[Book], error) {
	return x.transition(ctx, m, id, seen, func(g groomer.Groomer, _ time.Time) ([]domain.Event, error) {
		return g.Complete(id, m.Actor)
	})
}

func (x *Executor) serveComplete(api huma.API) {
	op := httpserver.Operation("complete", http.MethodPost, "/v1/reservations/{reservation_id}/complete", "The visit is done", "groomer", "admin")
	registerTransition(api, x, op, "complete", x.complete)
}
