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

// AddTimeOff blocks a time for visits.
type AddTimeOff struct {
	From   Moment `json:"from"`
	To     Moment `json:"to" doc:"A date is that whole day"`
	Reason string `json:"reason,omitempty" maxLength:"500"`
}

// AddTimeOff decides and records. The ID is TimeOffID of the command's.
func (x *Executor) AddTimeOff(ctx context.Context, m Meta, groomerID string, r AddTimeOff) (Result[Book], error) {
	s := x.sealing(ctx, m.Actor)
	reason := s.text(r.Reason)
	if s.err != nil {
		return Result[Book]{}, s.err
	}
	return Execute(ctx, x, book(groomerID), m, func(b Book, now time.Time) ([]domain.Event, error) {
		if !b.Registered() {
			return nil, groomer.ErrGroomerUnknown
		}
		zone, err := b.Location()
		if err != nil {
			return nil, err
		}
		return b.AddTimeOff(TimeOffID(groomerID, m), m.Actor, r.From.from(zone), r.To.to(zone), reason, now)
	})
}

// TimeOffID is the ID of the time off that a command makes.
func TimeOffID(groomerID string, m Meta) string { return newID(groomerID, m.CommandID, "time_off") }

// TimeOffAdded names the time off that was added.
type TimeOffAdded struct {
	TimeOffID string `json:"time_off_id"`
}

func (x *Executor) serveAddTimeOff(api huma.API) {
	type input struct {
		WriteHeaders
		GroomerID string `path:"groomer_id" pattern:"^[a-z0-9-]{1,40}$"`
		Body      AddTimeOff
	}
	type output struct {
		Answer
		Body TimeOffAdded
	}
	op := httpserver.Operation("add-time-off", http.MethodPost, "/v1/groomers/{groomer_id}/time-off", "Take time off", "groomer", "admin")
	op.DefaultStatus = http.StatusCreated
	huma.Register(api, op, func(ctx context.Context, in *input) (*output, error) {
		m, err := x.meta(ctx, "add_time_off", in.WriteHeaders, in.Body)
		if err != nil {
			return nil, err
		}
		r, err := x.AddTimeOff(ctx, m, in.GroomerID, in.Body)
		if err != nil {
			return nil, err
		}
		out := &output{}
		out.Body.TimeOffID = TimeOffID(in.GroomerID, m)
		out.Answer = answer(x, in.WriteHeaders, r, uint64(r.Revision)) //nolint:gosec // the stream has events
		return out, nil
	})
}
