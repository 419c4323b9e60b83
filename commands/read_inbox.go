package commands

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/problem"
)

// ReadInbox moves the caller's read mark forward.
type ReadInbox struct {
	Through string `json:"through" pattern:"^(0|[1-9][0-9]{0,18})$" doc:"id of the newest notification that was seen: it and all older ones are read"`
}

var inboxKind = Kind[inbox.Mark]{Evolve: inbox.Evolve, FoldVersion: inbox.FoldVersion}

// ReadInbox decides and records. A mark never goes back: an earlier one is a success that changes nothing.
func (x *Executor) ReadInbox(ctx context.Context, m Meta, r ReadInbox) (Result[inbox.Mark], error) {
	through, err := strconv.ParseUint(r.Through, 10, 63)
	if err != nil {
		return Result[inbox.Mark]{}, problem.Invalid("body.through", "is not the id of a notification")
	}
	head, err := x.store.Head(ctx)
	if err != nil {
		return Result[inbox.Mark]{}, fmt.Errorf("read the store's head: %w", err)
	}
	target := Target[inbox.Mark]{Kind: inboxKind, Stream: eventstore.InboxStream(m.Actor), Key: m.Actor.Subject()}
	return Execute(ctx, x, target, m, func(mark inbox.Mark, _ time.Time) ([]domain.Event, error) {
		return mark.Read(m.Actor, through, head.Position)
	})
}

// ReadThrough is how far the inbox is read now.
type ReadThrough struct {
	Through string `json:"through" doc:"Where the mark stands now"`
}

func (x *Executor) serveReadInbox(api huma.API) {
	type input struct {
		WriteHeaders
		Body ReadInbox
	}
	type output struct {
		Answer
		Body ReadThrough
	}
	op := httpserver.Operation("read-notifications", http.MethodPost, "/v1/notifications/read", "Note which notifications you have seen", "*")
	huma.Register(api, op, func(ctx context.Context, in *input) (*output, error) {
		m, err := x.meta(ctx, "read_inbox", in.WriteHeaders, in.Body)
		if err != nil {
			return nil, err
		}
		r, err := x.ReadInbox(ctx, m, in.Body)
		if err != nil {
			return nil, err
		}
		out := &output{Body: ReadThrough{strconv.FormatUint(r.State.Through, 10)}}
		out.Answer = answer(x, in.WriteHeaders, r, uint64(max(0, r.Revision))) //nolint:gosec // not negative
		return out, nil
	})
}
