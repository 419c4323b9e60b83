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

// RemoveTimeOff frees the time again. To remove it twice is a success.
func (x *Executor) RemoveTimeOff(ctx context.Context, m Meta, timeOffID string) (Result[Book], error) {
	target, err := x.bookOfTimeOff(timeOffID)
	if err != nil {
		return Result[Book]{}, err
	}
	return Execute(ctx, x, target, m, func(b Book, _ time.Time) ([]domain.Event, error) {
		return b.RemoveTimeOff(timeOffID, m.Actor)
	})
}

func (x *Executor) serveRemoveTimeOff(api huma.API) {
	type input struct {
		WriteHeaders
		GroomerID string `path:"groomer_id" pattern:"^[a-z0-9-]{1,40}$"`
		TimeOffID string `path:"time_off_id" maxLength:"70"`
	}
	op := httpserver.Operation("remove-time-off", http.MethodDelete, "/v1/groomers/{groomer_id}/time-off/{time_off_id}", "Be there after all", "groomer", "admin")
	op.DefaultStatus = http.StatusNoContent
	huma.Register(api, op, func(ctx context.Context, in *input) (*noBody, error) {
		if target, ok := bookOf(in.TimeOffID); !ok || target.Key != in.GroomerID {
			return nil, groomer.ErrTimeOffUnknown
		}
		m, err := x.meta(ctx, "remove_time_off", in.WriteHeaders, struct{}{})
		if err != nil {
			return nil, err
		}
		r, err := x.RemoveTimeOff(ctx, m, in.TimeOffID)
		if err != nil {
			return nil, err
		}
		return &noBody{answer(x, in.WriteHeaders, r, uint64(r.Revision))}, nil //nolint:gosec // the stream has events
	})
}
