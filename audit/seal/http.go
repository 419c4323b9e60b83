package seal

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/admin"
)

// Made are the seals that one call made.
type Made struct {
	Items []Body `json:"items" nullable:"false" doc:"The seals that were made, in order; none when every event was sealed"`
}

// Register adds POST /v1/admin/events/seal to the API. Without a sealer, this node has no key to sign with.
func Register(api huma.API, s *Sealer, recorder admin.Recorder) {
	huma.Register(api, httpserver.Operation("seal-events", http.MethodPost, "/v1/admin/events/seal", "Seal every event that is there now", "admin"),
		func(ctx context.Context, _ *struct{}) (*struct{ Body Made }, error) {
			id, _ := auth.From(ctx) // the operation's roles were checked
			if err := recorder(id)(ctx, "seal-events", ""); err != nil {
				return nil, fmt.Errorf("%w: %w", admin.ErrNotRecorded, err)
			}
			if s == nil {
				return nil, problem.New(http.StatusConflict, "seal.no_key", "this node has no key to sign seals with")
			}
			made, err := s.Seal(ctx)
			if errors.Is(err, eventstore.ErrDamaged) || errors.Is(err, ErrElsewhere) {
				return nil, problem.New(http.StatusConflict, "seal.refused", "the history is not one that may be sealed: verify it").Because(err)
			}
			return &struct{ Body Made }{Made{append([]Body{}, made...)}}, err
		})
}
