package httpserver

import (
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// MaxBodyBytes is the longest body that is read; a longer one is 413.
const MaxBodyBytes = 64 << 10

// whoKey is where an operation's roles stand in its metadata.
const whoKey = "who"

// Operation describes an HTTP operation. who lists the roles that may call it: none is anyone, also without a token
// (a token that is given must be valid all the same); "*" is anyone signed in.
func Operation(id, method, path, summary string, who ...string) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary,
		MaxBodyBytes: MaxBodyBytes + 1, // huma refuses a body of exactly its limit
		Metadata:     map[string]any{whoKey: who},
	}
	if len(who) > 0 {
		op.Security = []map[string][]string{{"bearer": {}}}
	}
	if method != http.MethodGet {
		op.Tags = []string{"writes"}
	} else {
		op.Tags = []string{"reads"}
	}
	return op
}

// who lists the roles of an operation.
func who(op *huma.Operation) []string {
	roles, _ := op.Metadata[whoKey].([]string)
	return roles
}

// allowed reports whether a role is among those that may call; "" is a caller without a token.
func allowed(who []string, role string) bool {
	switch {
	case len(who) == 0:
		return true
	case role == "":
		return false
	}
	return slices.Contains(who, "*") || slices.Contains(who, role)
}
