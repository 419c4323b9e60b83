package auth

import (
	"context"
	"time"
)

// Identity is who calls, as a verified token says. Role is customer, groomer, admin or analyst.
type Identity struct {
	Sub     string
	Role    string
	Expires time.Time
}

type contextKey struct{}

// From finds the caller of a request; ok is false for an anonymous one.
func From(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(contextKey{}).(Identity)
	return id, ok
}

// With notes the caller of a request.
func With(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}
