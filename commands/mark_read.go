package commands

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/httpserver"
)

// MarkRead moves a member's read mark forward.
type MarkRead struct {
	Seq uint64 `json:"seq" maximum:"9007199254740991"`
}

var markKind = Kind[chat.ReadMark]{Evolve: chat.EvolveRead, FoldVersion: chat.FoldVersion, Rewind: chat.RewindRead}

// MarkRead decides and records. A mark never goes back: an earlier one is a success that changes nothing.
func (x *Executor) MarkRead(ctx context.Context, m Meta, room string, r MarkRead) (Result[chat.ReadMark], error) {
	head, err := x.head(ctx, m.Actor, room)
	if err != nil {
		return Result[chat.ReadMark]{}, err
	}
	target := Target[chat.ReadMark]{
		Kind: markKind, Stream: eventstore.ChatReadStream(room, string(m.Actor.Role)), Key: room,
	}
	return Execute(ctx, x, target, m, func(mark chat.ReadMark, _ time.Time) ([]domain.Event, error) {
		return mark.Mark(room, m.Actor, r.Seq, head)
	})
}

// MarkReadLive notes a mark that came by a socket. The same mark is the same command.
func (x *Executor) MarkReadLive(ctx context.Context, by domain.Actor, room string, r MarkRead) error {
	id := eventstore.CommandID(string(by.Role), by.ID, "mark_read", room, strconv.FormatUint(r.Seq, 10))
	m, err := x.NewMeta(ctx, by, "mark_read", id, r)
	if err != nil {
		return err
	}
	_, err = x.MarkRead(ctx, m, room, r)
	return err
}

// head is the last message that a member may read. It is refused to everybody else.
func (x *Executor) head(ctx context.Context, by domain.Actor, room string) (uint64, error) {
	entry, err := x.enter(room)
	if err != nil {
		return 0, err
	}
	c, err := Load(ctx, x, entry.Target)
	if err != nil {
		return 0, err
	}
	head, err := c.State.Head(room, entry.members, by)
	if errors.Is(err, chat.ErrRoomUnknown) {
		if _, found, err := entry.Recall(ctx, c.State); err != nil || !found {
			return 0, errors.Join(err, chat.ErrRoomUnknown)
		}
		head, err = c.State.Head(room, entry.members, by)
	}
	return head, err
}

// ReadUpTo is how far a member has read now.
type ReadUpTo struct {
	RoomID string `json:"room_id"`
	Seq    uint64 `json:"seq" doc:"Where the mark stands now"`
}

func (x *Executor) serveMarkRead(api huma.API) {
	type input struct {
		WriteHeaders
		RoomID string `path:"room_id" maxLength:"70"`
		Body   MarkRead
	}
	type output struct {
		Answer
		Body ReadUpTo
	}
	op := httpserver.Operation("mark-read", http.MethodPost, "/v1/chat/rooms/{room_id}/read", "Note how far you have read", "customer", "groomer")
	huma.Register(api, op, func(ctx context.Context, in *input) (*output, error) {
		m, err := x.meta(ctx, "mark_read", in.WriteHeaders, in.Body)
		if err != nil {
			return nil, err
		}
		r, err := x.MarkRead(ctx, m, in.RoomID, in.Body)
		if err != nil {
			return nil, err
		}
		out := &output{}
		out.Body.RoomID, out.Body.Seq = in.RoomID, r.State.Seq
		out.Answer = answer(x, in.WriteHeaders, r, uint64(max(0, r.Revision))) //nolint:gosec // not negative
		return out, nil
	})
}
