package audit

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/projections/admin"
)

// Register adds the operations on the past to the API. Refusals have their status from internal/problem.
func Register(api huma.API, p *Past, recorder admin.Recorder) {
	h := handlers{p, recorder}
	get := func(id, path, summary string) huma.Operation {
		return httpserver.Operation(id, http.MethodGet, "/v1/admin"+path, summary, "admin")
	}
	huma.Register(api, get("state-of-stream", "/streams/{stream}/state", "What a stream had come to at a moment"), h.state)
	huma.Register(api, get("diff-of-stream", "/streams/{stream}/diff", "What changed of a stream's state between two moments, and by whom"), h.diff)
	huma.Register(api, get("state-of-rows", "/rows/{projection}/{key}", "What a read model's rows were at a moment, and what made them so"), h.rows)
	huma.Register(api, get("diff-of-rows", "/rows/{projection}/{key}/diff", "What changed of a read model's rows between two moments, and by whom"), h.rowsDiff)
	huma.Register(api, get("list-events", "/events", "Events of the store, oldest first"), h.events)
	huma.Register(api, get("show-event", "/events/{event}", "One event, as it is stored"), h.event)
	huma.Register(api, get("tree-of-command", "/commands/{command_id}/tree", "What a command came of, and what came of it"), h.tree)
}

type handlers struct {
	of       *Past
	recorder admin.Recorder
}

func (h handlers) desk(ctx context.Context) Desk {
	id, _ := auth.From(ctx) // the operation's role was checked
	return NewDesk(h.of, h.recorder(id))
}

type answer[T any] struct{ Body T }

func answered[T any](body T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{body}, nil
}

// OfStream names the stream that is asked about.
type OfStream struct {
	Stream string `path:"stream" minLength:"1" maxLength:"512" example:"groomer-kim"`
}

// Resolve is for a name that holds a slash.
func (in *OfStream) Resolve(ctx huma.Context) []error { return httpserver.Unescape(ctx, &in.Stream) }

// OfRows names the rows that are asked about.
type OfRows struct {
	Projection string `path:"projection" maxLength:"120" doc:"reservations; another version than the one that serves: reservations@1" example:"reservations"`
	Key        string `path:"key" minLength:"1" maxLength:"600" doc:"The ordering key, for all its rows (kim), or the primary key, parts joined by slashes, or its first parts" example:"kim"`
}

// Resolve is for a key that holds a slash.
func (in *OfRows) Resolve(ctx huma.Context) []error {
	return httpserver.Unescape(ctx, &in.Projection, &in.Key)
}

// Then is the moment that is asked about.
type Then struct {
	At string `query:"at" maxLength:"64" doc:"RFC 3339 time: as of the last event recorded by then. Or a number: of a stream its revision, of rows the store's position. Or position:N. Without it: now" example:"2026-11-24T14:03:00+09:00"`
}

// Between are the moments that are compared.
type Between struct {
	From  string `query:"from" required:"true" minLength:"1" maxLength:"64" doc:"A moment, as at"`
	To    string `query:"to" maxLength:"64" doc:"A moment, as at, not before from. Without it: now"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many changes are listed at most"`
}

type stateInput struct {
	OfStream
	Then
}

func (h handlers) state(ctx context.Context, in *stateInput) (*answer[State], error) {
	return answered(h.desk(ctx).State(ctx, in.Stream, in.At))
}

type diffInput struct {
	OfStream
	Between
}

func (h handlers) diff(ctx context.Context, in *diffInput) (*answer[Diff], error) {
	return answered(h.desk(ctx).Diff(ctx, in.Stream, in.From, in.To, in.Limit))
}

type rowsInput struct {
	OfRows
	Then

	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many rows are listed at most"`
}

func (h handlers) rows(ctx context.Context, in *rowsInput) (*answer[Rows], error) {
	return answered(h.desk(ctx).Rows(ctx, in.Projection, in.Key, in.At, in.Limit))
}

type rowsDiffInput struct {
	OfRows
	Between
}

func (h handlers) rowsDiff(ctx context.Context, in *rowsDiffInput) (*answer[Diff], error) {
	return answered(h.desk(ctx).RowsDiff(ctx, in.Projection, in.Key, in.From, in.To, in.Limit))
}

type eventsInput struct {
	Stream      string `query:"stream" maxLength:"512" example:"groomer-kim"`
	Key         string `query:"key" maxLength:"512" doc:"Ordering key"`
	Type        string `query:"type" maxLength:"512" example:"reservation.cancelled.v1"`
	Actor       string `query:"actor" maxLength:"512" doc:"role:sub" example:"customer:ana"`
	Correlation string `query:"correlation_id" maxLength:"128"`
	Command     string `query:"command_id" maxLength:"64"`
	From        string `query:"from" maxLength:"64" doc:"RFC 3339 time, or a date (of Asia/Seoul): from its first moment; or position:N"`
	To          string `query:"to" maxLength:"64" doc:"RFC 3339 time, or a date: through its last moment; or position:N. All count"`
	Limit       int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"How many items at most"`
	Cursor      string `query:"cursor" maxLength:"1024" doc:"next_cursor of the page before"`
}

func (h handlers) events(ctx context.Context, in *eventsInput) (*answer[EventPage], error) {
	return answered(h.desk(ctx).Events(ctx, Query(*in)))
}

type eventInput struct {
	Event string `path:"event" maxLength:"64" doc:"Its position or its ID"`
}

func (h handlers) event(ctx context.Context, in *eventInput) (*answer[StoredEvent], error) {
	return answered(h.desk(ctx).Event(ctx, in.Event))
}

type treeInput struct {
	CommandID string `path:"command_id" maxLength:"64"`
}

func (h handlers) tree(ctx context.Context, in *treeInput) (*answer[Tree], error) {
	return answered(h.desk(ctx).Tree(ctx, in.CommandID))
}
