package httpserver

import (
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/problem"
)

// Unescape is for a resolver of path parameters that may hold a slash: when an escape stands for one, the router saw the
// path as it was sent, and only then.
func Unescape(ctx huma.Context, params ...*string) []error {
	u := ctx.URL()
	if u.RawPath == "" {
		return nil
	}
	for _, s := range params {
		plain, err := url.PathUnescape(*s)
		if err != nil {
			return []error{problem.Invalid("path", "is not escaped well")}
		}
		*s = plain
	}
	return nil
}
