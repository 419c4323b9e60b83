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

// NoShow ends a confirmed reservation whose customer did not come.
func (x *Executor) NoShow(ctx context.Context, m Meta, reservationID string) (Result[Book], error) {
	return x.noShow(ctx, m, reservationID, nil)
}

func (x *Executor) noShow(ctx context.Context, m Meta, id string, seen revisions) (Result[Book], error) {
	return x.transition(ctx, m, id, seen, func(g groomer.Groomer, now time.Time) ([]domain.Event, error) {
		return g.NoShow(id, m.Actor, now)
	})
}

func (x *Executor) serveNoShow(api huma.API) {
	op := httpserver.Operation("no-show", http.MethodPost, "/v1/reservations/{reservation_id}/no-show", "Nobody came", "groomer", "admin")
	registerTransition(api, x, op, "no_show", x.noShow)
}
