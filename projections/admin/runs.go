package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

const ofProjection = "/v1/admin/projections/{name}"

// registerRuns adds what is asked of versions. Each answers 202 with its run: of a switch, rollback, pause or resume one that has ended.
func (h handlers) registerRuns(api huma.API, who []string) {
	for kind, summary := range map[rebuild.Kind]string{
		rebuild.Rebuild:  "Build a version from the event store beside the one that serves, or make one key's rows again in a live one",
		rebuild.Verify:   "Compare a version with the one that serves, or hold a live one to the event store",
		rebuild.Switch:   "Answer reads from another version",
		rebuild.Rollback: "Answer reads from the version before the last switch again",
		rebuild.Drop:     "Remove a version that does not serve",
		rebuild.Pause:    "Let a version's projectors stand still",
		rebuild.Resume:   "Let a paused version's projectors go on",
	} {
		op := httpserver.Operation(string(kind)+"-projection", http.MethodPost, ofProjection+"/"+string(kind), summary, who...)
		op.DefaultStatus = http.StatusAccepted
		huma.Register(api, op, func(ctx context.Context, in *runInput) (*answer[rebuild.Run], error) { return h.ask(ctx, kind, in) })
	}
	huma.Register(api, httpserver.Operation("list-runs", http.MethodGet, ofProjection+"/runs", "What was asked of a projection's versions, newest first", who...), h.runs)
	huma.Register(api, httpserver.Operation("get-run", http.MethodGet, ofProjection+"/runs/{run_id}", "How a run is", who...), h.run)
	cancel := httpserver.Operation("cancel-run", http.MethodPost, ofProjection+"/runs/{run_id}/cancel", "Give a run up: what it made is removed", who...)
	cancel.DefaultStatus = http.StatusAccepted
	huma.Register(api, cancel, h.cancel)
}

type runInput struct {
	Name string `path:"name" maxLength:"120" doc:"reservations (its newest version), reservations@2 or reservations_v2"`
	Body rebuild.Options
}

func (h handlers) ask(ctx context.Context, kind rebuild.Kind, in *runInput) (*answer[rebuild.Run], error) {
	by, _ := auth.From(ctx)
	r, err := h.desk(ctx).Ask(ctx, rebuild.Request{Kind: kind, Projection: in.Name, By: by.Role + ":" + by.Sub, Options: in.Body})
	return answered(ctx, r, err)
}

// Runs is a list of runs.
type Runs struct {
	Items      []rebuild.Run `json:"items" nullable:"false"`
	NextCursor *string       `json:"next_cursor" doc:"Always null: the latest hundred are listed"`
}

func (h handlers) runs(ctx context.Context, in *Named) (*answer[Runs], error) {
	all, err := h.desk(ctx).Runs(ctx, in.Name)
	return answered(ctx, Runs{Items: append([]rebuild.Run{}, all...)}, err)
}

type oneRun struct {
	Named
	RunID string `path:"run_id" maxLength:"64"`
}

func (h handlers) run(ctx context.Context, in *oneRun) (*answer[rebuild.Run], error) {
	r, err := h.desk(ctx).Run(ctx, in.Name, in.RunID)
	return answered(ctx, r, err)
}

func (h handlers) cancel(ctx context.Context, in *oneRun) (*answer[rebuild.Run], error) {
	r, err := h.desk(ctx).Cancel(ctx, in.Name, in.RunID)
	return answered(ctx, r, err)
}
