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

// CheckIn notes that the dogs arrived.
func (x *Executor) CheckIn(ctx context.Context, m Meta, reservationID string) (Result[Book], error) {
	return x.checkIn(ctx, m, reservationID, nil)
}

func (x *Executor) checkIn(ctx context.Context, m Meta, id string, seen revisions) (Result[Book], error) {
	return x.transition(ctx, m, id, seen, func(g groomer.Groomer, now time.Time) ([]domain.Event, error) {
		return g.CheckIn(id, m.Actor, now)
	})
}

func (x *Executor) serveCheckIn(api huma.API) {
	op := httpserver.Operation("check-in", http.MethodPost, "/v1/reservations/{reservation_id}/check-in", "The dogs are here", "groomer", "admin")
	registerTransition(api, x, op, "check_in", x.checkIn)
}
