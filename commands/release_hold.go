package commands

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/httpserver"
)

// ReleaseHold gives a slot back. One that is gone already is a success.
func (x *Executor) ReleaseHold(ctx context.Context, m Meta, holdID string) (Result[Book], error) {
	target, err := x.bookOfHold(holdID)
	if err != nil {
		return Result[Book]{}, err
	}
	return Execute(ctx, x, target, m, func(b Book, now time.Time) ([]domain.Event, error) {
		return b.ReleaseHold(holdID, m.Actor, now)
	})
}

func (x *Executor) serveReleaseHold(api huma.API) {
	type input struct {
		WriteHeaders
		HoldID string `path:"hold_id" maxLength:"70"`
	}
	op := httpserver.Operation("release-hold", http.MethodDelete, "/v1/holds/{hold_id}", "Give a held slot back", "customer")
	op.DefaultStatus = http.StatusNoContent
	huma.Register(api, op, func(ctx context.Context, in *input) (*noBody, error) {
		m, err := x.meta(ctx, "release_hold", in.WriteHeaders, struct{}{})
		if err != nil {
			return nil, err
		}
		r, err := x.ReleaseHold(ctx, m, in.HoldID)
		if err != nil {
			return nil, err
		}
		return &noBody{answer(x, in.WriteHeaders, r, uint64(r.Revision))}, nil //nolint:gosec // the stream has events
	})
}
