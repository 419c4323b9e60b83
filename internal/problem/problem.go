// Package problem is how a failure looks over HTTP: RFC 9457 problem+json with a stable code.
//
// It is the only place that knows which status and code an error has (API.md has the table). Codes are API; wording
// is not. Nothing internal ever reaches a caller: an error that the table lacks is 500 internal.error, its text goes
// to the log alone.
package problem

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.opentelemetry.io/otel/trace"
)

// Detail is one complaint about one place of a request. It never repeats the value: that may be personal.
type Detail struct {
	Location string `json:"location,omitempty" doc:"Where: body.dogs[0].size"`
	Message  string `json:"message" doc:"What is wrong there"`
}

// Problem is the body of every answer that is not a success. It is an error, and huma writes it as it is.
type Problem struct {
	Type    string   `json:"type" doc:"Always about:blank; the code tells problems apart"`
	Title   string   `json:"title" doc:"The status in words"`
	Status  int      `json:"status" doc:"The HTTP status"`
	Code    string   `json:"code" doc:"Stable: programs decide by it" example:"slot.taken"`
	Detail  string   `json:"detail" doc:"For people; the wording may change"`
	Errors  []Detail `json:"errors,omitempty" doc:"What is wrong where in the request"`
	TraceID string   `json:"trace_id" doc:"Names this request in the logs"`

	cause   error
	headers http.Header
}

// New makes a problem.
func New(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// Invalid is 400 request.invalid about one place of the request: "body.from".
func Invalid(location, message string) *Problem {
	p := New(http.StatusBadRequest, "request.invalid", "the request is malformed or out of range")
	p.Errors = []Detail{{Location: location, Message: message}}
	return p
}

// RateLimited is 429 rate.limited: nothing was done, and after wait it may be.
func RateLimited(detail string, wait time.Duration) *Problem {
	return New(http.StatusTooManyRequests, "rate.limited", detail).RetryAfter(int(max(1, math.Ceil(wait.Seconds()))))
}

// RetryAfter tells the caller to come back in so many seconds.
func (p *Problem) RetryAfter(seconds int) *Problem {
	return p.Header("Retry-After", strconv.Itoa(seconds))
}

// Header adds a response header.
func (p *Problem) Header(name, value string) *Problem {
	if p.headers == nil {
		p.headers = http.Header{}
	}
	p.headers.Set(name, value)
	return p
}

// Because notes the error behind it. It goes to the log, never to the caller.
func (p *Problem) Because(err error) *Problem {
	p.cause = err
	return p
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// Unwrap is the error behind it, for the log.
func (p *Problem) Unwrap() error { return p.cause }

// GetStatus is for huma.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders is for huma.
func (p *Problem) GetHeaders() http.Header { return p.headers }

// ContentType is for huma.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

type traceKey struct{}

// WithTrace gives a request the ID by which problems and logs name it.
func WithTrace(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, traceKey{}, id)
}

// TraceID is the ID of the request: OpenTelemetry's when there is one, else the one of WithTrace, else a new one.
func TraceID(ctx context.Context) string {
	if id, known := TraceOf(ctx); known {
		return id
	}
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// TraceOf is the ID of the request that ctx belongs to; known is false outside of any.
func TraceOf(ctx context.Context) (id string, known bool) {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String(), true
	}
	id, known = ctx.Value(traceKey{}).(string)
	return id, known
}

// In gives the problem the ID of its request.
func (p *Problem) In(ctx context.Context) *Problem {
	if p.TraceID == "" {
		q := *p // a problem may be shared by several requests
		q.TraceID = TraceID(ctx)
		return &q
	}
	return p
}

// Install makes huma answer its own complaints, and the plain errors of handlers, as problems of ours. The two hooks
// are package variables of huma: install them once, before the first request.
func Install() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return fromHuma(status, msg, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		p := fromHuma(status, msg, errs)
		for name := range p.headers {
			ctx.SetHeader(name, p.headers.Get(name))
		}
		return p.In(ctx.Context())
	}
}

// fromHuma translates huma's statuses: 422 of a validation is 400 here, and 500 with an error is the error's own.
func fromHuma(status int, msg string, errs []error) *Problem {
	switch {
	case status == http.StatusInternalServerError && msg == "cannot read request body":
		// The caller went away or sent broken chunks: theirs, not ours.
		return New(http.StatusBadRequest, "request.invalid", "the body could not be read")
	case status == http.StatusInternalServerError:
		return From(errors.Join(errs...))
	case status == http.StatusUnprocessableEntity, status == http.StatusBadRequest:
		p := New(http.StatusBadRequest, "request.invalid", "the request is malformed or out of range")
		for _, err := range errs {
			var own *Problem
			if errors.As(err, &own) {
				p.Errors = append(p.Errors, own.Errors...)
				continue
			}
			if d, ok := err.(huma.ErrorDetailer); ok {
				e := d.ErrorDetail()
				p.Errors = append(p.Errors, Detail{Location: e.Location, Message: e.Message})
			} else if err != nil {
				p.Errors = append(p.Errors, Detail{Location: "body", Message: err.Error()})
			}
		}
		if len(p.Errors) == 0 { // a body that is not there
			p.Errors = []Detail{{Location: "body", Message: msg}}
		}
		return p
	case status == http.StatusRequestEntityTooLarge:
		return New(status, "request.too_large", "the body is too large")
	case status == http.StatusUnsupportedMediaType:
		return New(status, "request.media_type", "send application/json")
	case status == http.StatusRequestTimeout:
		return New(status, "request.timeout", "the body did not arrive in time")
	}
	return New(status, "request."+strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_"), msg)
}
