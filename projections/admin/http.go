package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

// Recorder gives what notes the calls of one caller.
type Recorder func(by auth.Identity) Record

// Register adds the operations on projections to the API.
func Register(api huma.API, a *Projections, recorder Recorder) {
	h := handlers{a, recorder}
	who := []string{"admin", "analyst"}
	huma.Register(api, httpserver.Operation("list-projections", http.MethodGet, "/v1/admin/projections", "How far every projection is", who...), h.list)
	huma.Register(api, httpserver.Operation("list-parked", http.MethodGet, "/v1/admin/projections/{name}/parked", "Keys that wait, the longest first", who...), h.parked)
	accepted := func(op huma.Operation) huma.Operation { op.DefaultStatus = http.StatusAccepted; return op }
	huma.Register(api, accepted(httpserver.Operation("retry-parked", http.MethodPost, "/v1/admin/projections/{name}/parked/{key}/retry",
		"Have a parked key tried again", who...)), h.retry)
	huma.Register(api, accepted(httpserver.Operation("retry-parked-by-cause", http.MethodPost, "/v1/admin/projections/{name}/parked/retry",
		"Have every key tried again that is parked for one cause", who...)), h.retryByCause)
	h.registerRuns(api, who)
}

type handlers struct {
	of       *Projections
	recorder Recorder
}

func (h handlers) desk(ctx context.Context) Desk {
	id, _ := auth.From(ctx) // the operation's roles were checked
	return NewDesk(h.of, h.recorder(id))
}

type answer[T any] struct{ Body T }

// answered turns an error into the problem that it is.
func answered[T any](ctx context.Context, body T, err error) (*answer[T], error) {
	switch {
	case errors.Is(err, ErrNotRecorded):
		return nil, err // the store's trouble, which the edge knows
	case errors.Is(err, ErrUnknown):
		return nil, problem.New(http.StatusNotFound, "projection.unknown", "there is no such projection, or nothing of it is parked under this key")
	}
	if errors.Is(err, rebuild.ErrUnknown) {
		return nil, problem.New(http.StatusNotFound, "projection.unknown", "there is no such projection, version or run")
	}
	var option *rebuild.OptionError
	if errors.As(err, &option) {
		return nil, problem.Invalid("body."+option.Option, option.Why)
	}
	var refused *rebuild.RefusedError
	if errors.As(err, &refused) {
		return nil, problem.New(http.StatusConflict, refused.Code, refused.Why)
	}
	var p *problem.Problem
	if err != nil && !errors.As(err, &p) && ctx.Err() == nil {
		err = problem.New(http.StatusServiceUnavailable, "read_model.unavailable", "a part that knows is away").RetryAfter(2).Because(err)
	}
	return &answer[T]{body}, err
}

func (h handlers) list(ctx context.Context, _ *struct{}) (*answer[Overview], error) {
	all, err := h.desk(ctx).List(ctx)
	return answered(ctx, all, err)
}

// Named is the projection that is asked about.
type Named struct {
	Name string `path:"name" maxLength:"120" doc:"reservations, or reservations_v1"`
}

type parkedInput struct {
	Named
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"How many items at most"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next_cursor of the page before"`
}

// Page is a page of parked keys.
type Page struct {
	Items      []engine.Parked `json:"items" nullable:"false"`
	NextCursor *string         `json:"next_cursor" doc:"null on the last page"`
}

// after is where a page begins: after this key, oldest first.
type after struct {
	At    int64  `json:"t"` // microseconds since 1970
	Topic string `json:"o"`
	Key   string `json:"k"`
}

func keyset(p engine.Parked) after { return after{p.ParkedAt.UnixMicro(), p.Topic, p.Key} }

func (a after) before(b after) bool {
	if a.At != b.At {
		return a.At < b.At
	}
	if a.Topic != b.Topic {
		return a.Topic < b.Topic
	}
	return a.Key < b.Key
}

func (h handlers) parked(ctx context.Context, in *parkedInput) (*answer[Page], error) {
	all, err := h.desk(ctx).Parked(ctx, in.Name)
	if err != nil {
		return answered(ctx, Page{}, err)
	}
	page, err := in.page(all)
	return answered(ctx, page, err)
}

// page cuts the list to what was asked for.
func (in *parkedInput) page(all []engine.Parked) (Page, error) {
	out := Page{Items: []engine.Parked{}}
	if in.Cursor != "" {
		var last after
		b, err := base64.RawURLEncoding.Strict().DecodeString(in.Cursor)
		if err != nil || json.Unmarshal(b, &last) != nil {
			return out, problem.Invalid("query.cursor", "is not a cursor of this list")
		}
		all = slices.DeleteFunc(all, func(p engine.Parked) bool { return !last.before(keyset(p)) })
	}
	if len(all) > in.Limit {
		all = all[:in.Limit]
		b, err := json.Marshal(keyset(all[in.Limit-1]))
		if err != nil {
			return out, err
		}
		next := base64.RawURLEncoding.EncodeToString(b)
		out.NextCursor = &next
	}
	out.Items = append(out.Items, all...)
	return out, nil
}

// Asked is how many keys are to be tried again. Their owners do it within seconds; what fails again stays parked, with
// one more attempt.
type Asked struct {
	Asked int `json:"asked"`
}

type retryInput struct {
	Named
	Key string `path:"key" maxLength:"512" doc:"The ordering key"`
}

// Resolve is for a key that holds a slash.
func (in *retryInput) Resolve(ctx huma.Context) []error {
	return httpserver.Unescape(ctx, &in.Name, &in.Key)
}

func (h handlers) retry(ctx context.Context, in *retryInput) (*answer[Asked], error) {
	return answered(ctx, Asked{1}, h.desk(ctx).Retry(ctx, in.Name, in.Key))
}

type causeInput struct {
	Named
	Body struct {
		Cause string `json:"cause" minLength:"1" maxLength:"191" doc:"As the list of parked keys has it"`
	}
}

func (h handlers) retryByCause(ctx context.Context, in *causeInput) (*answer[Asked], error) {
	n, err := h.desk(ctx).RetryByCause(ctx, in.Name, in.Body.Cause)
	return answered(ctx, Asked{n}, err)
}
