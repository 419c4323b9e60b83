package commands

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/internal/httpserver"
)

// LeaveRoom ends a member's part in a room: they read what was there until then, and post no more.
func (x *Executor) LeaveRoom(ctx context.Context, m Meta, room string) (Result[chat.Room], error) {
	entry, err := x.enter(room)
	if err != nil {
		return Result[chat.Room]{}, err
	}
	return Execute(ctx, x, entry.Target, m, func(c chat.Room, _ time.Time) ([]domain.Event, error) {
		return c.Leave(room, entry.members, m.Actor)
	})
}

func (x *Executor) serveLeaveRoom(api huma.API) {
	type input struct {
		WriteHeaders
		RoomID string `path:"room_id" maxLength:"70"`
	}
	op := httpserver.Operation("leave-room", http.MethodPost, "/v1/chat/rooms/{room_id}/leave", "Leave a room for good", "customer", "groomer")
	op.DefaultStatus = http.StatusNoContent
	huma.Register(api, op, func(ctx context.Context, in *input) (*noBody, error) {
		m, err := x.meta(ctx, "leave_room", in.WriteHeaders, struct{}{})
		if err != nil {
			return nil, err
		}
		r, err := x.LeaveRoom(ctx, m, in.RoomID)
		if err != nil {
			return nil, err
		}
		return &noBody{answer(x, in.WriteHeaders, r, uint64(r.Revision))}, nil //nolint:gosec // the stream has events
	})
}
