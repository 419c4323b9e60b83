package readapi

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/auth"
)

// Me is who the caller is, as their token says.
type Me struct {
	Sub       string    `json:"sub" doc:"A groomer's is its groomer_id, a customer's its customer_id"`
	Role      string    `json:"role" enum:"customer,groomer,admin,analyst"`
	ExpiresAt time.Time `json:"expires_at" doc:"When the token ends"`
}

func (s screens) registerMe(api huma.API) {
	huma.Register(api, operation("me", "/v1/me", "Who am I", "*"),
		func(ctx context.Context, _ *struct{ ReadHeaders }) (*answer[Me], error) {
			id := caller(ctx)
			return &answer[Me]{Body: Me{id.Sub, id.Role, id.Expires.UTC()}}, nil
		})
}

// caller is who calls; the zero value for somebody without a token.
func caller(ctx context.Context) auth.Identity {
	id, _ := auth.From(ctx)
	return id
}
