package httpserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/problem"
)

// observe names the request, traces, measures and logs it.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		r := c.Request()
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		route := c.Path()
		if route == "" {
			route = "unmatched"
		}
		var span trace.Span
		if s.cfg.Tracer != nil {
			ctx, span = s.cfg.Tracer.Start(ctx, r.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer))
			defer span.End()
		}
		ctx = problem.WithTrace(ctx, newID())
		traceID := problem.TraceID(ctx)
		requestID := r.Header.Get("X-Request-Id")
		if !printable(requestID, 128) {
			requestID = traceID
		}
		c.Response().Header().Set("X-Request-Id", requestID)
		c.SetRequest(r.WithContext(ctx))

		if err := next(c); err != nil {
			s.fail(err, c)
		}

		took, status := time.Since(start), c.Response().Status
		if span != nil {
			span.SetAttributes(attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
			if status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
		}
		if s.cfg.Observe != nil && !isStream(c) {
			s.cfg.Observe(knownMethod(r.Method), route, status, took)
		}
		s.cfg.Log.InfoContext(ctx, "request", "method", knownMethod(r.Method), "route", route, "status", status,
			"duration_ms", float64(took.Microseconds())/1000, "trace_id", traceID, "request_id", requestID)
		return nil
	}
}

// isStream tells an answer without end, and a connection that became a socket: how long it lasted is no latency.
func isStream(c echo.Context) bool {
	return c.Response().Status == http.StatusSwitchingProtocols || strings.HasPrefix(c.Response().Header().Get("Content-Type"), "text/event-stream")
}

// recover turns a panic into a 500 and a log entry; the process lives on.
func (s *Server) recover(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if e, ok := v.(error); ok && errors.Is(e, http.ErrAbortHandler) {
				panic(v) // net/http's own way to drop a connection
			}
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}()
		return next(c)
	}
}

// fail is echo's way out: unknown routes and methods, panics, errors of plain routes.
func (s *Server) fail(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	ctx := c.Request().Context()
	var he *echo.HTTPError
	var p *problem.Problem
	switch {
	case errors.As(err, &he) && he.Code == http.StatusNotFound:
		p = problem.New(he.Code, "route.unknown", "there is nothing here")
	case errors.As(err, &he) && he.Code == http.StatusMethodNotAllowed:
		p = problem.New(he.Code, "method.not_allowed", "this path has other methods")
	case errors.As(err, &he) && he.Code < http.StatusInternalServerError:
		p = problem.New(he.Code, "request.invalid", http.StatusText(he.Code))
	default:
		p = problem.From(err)
	}
	p = p.In(ctx)
	s.logCause(ctx, p)
	header := c.Response().Header()
	for name, values := range p.GetHeaders() {
		header[name] = values
	}
	header.Set("Content-Type", p.ContentType(""))
	c.Response().WriteHeader(p.Status)
	if c.Request().Method != http.MethodHead {
		// A caller that went away is nobody's failure; net/http notices by itself.
		_ = json.NewEncoder(c.Response()).Encode(p)
	}
}

func securityHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if c.Request().Header.Get("Authorization") != "" {
			h.Set("Cache-Control", "no-store")
		}
		return next(c)
	}
}

// authorize lets a request through to an operation that its caller may call, at the rate it may.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	roles := who(ctx.Operation())
	id, p := s.admit(ctx.Context(), ctx.Header("Authorization"), humaecho.Unwrap(ctx).RealIP(), roles)
	if p != nil {
		if p.Status == http.StatusForbidden && s.cfg.Refused != nil && !allowed(roles, "customer") && !allowed(roles, "groomer") {
			s.cfg.Refused(id, ctx.Operation().OperationID)
		}
		s.fail(p, humaecho.Unwrap(ctx))
		return
	}
	if id.Sub != "" {
		ctx = huma.WithContext(ctx, auth.With(ctx.Context(), id))
	}
	next(ctx)
}

// admit is the caller, if they may call what is for these roles, at this rate. An anonymous one has no Sub.
func (s *Server) admit(ctx context.Context, header, address string, who []string) (auth.Identity, *problem.Problem) {
	id, signedIn, p := s.identify(ctx, header)
	subject := id.Role + ":" + id.Sub
	if !signedIn {
		subject = "address:" + address
	}
	if wait, ok := s.limiter.Take(subject); !ok {
		return id, problem.RateLimited("too many requests; slow down", wait)
	}
	switch {
	case p != nil || allowed(who, id.Role):
		return id, p
	case signedIn:
		return id, problem.New(http.StatusForbidden, "auth.forbidden", "this is not for your role")
	}
	return id, problem.New(http.StatusUnauthorized, "auth.missing", "sign in first").Header("WWW-Authenticate", "Bearer")
}

func (s *Server) identify(ctx context.Context, header string) (auth.Identity, bool, *problem.Problem) {
	if header == "" {
		return auth.Identity{}, false, nil
	}
	scheme, bearer, _ := strings.Cut(header, " ")
	err := errors.New("no token")
	if strings.EqualFold(scheme, "bearer") && s.cfg.Verifier != nil {
		var id auth.Identity
		if id, err = s.cfg.Verifier.Verify(ctx, strings.TrimSpace(bearer)); err == nil {
			return id, true, nil
		}
	}
	var p *problem.Problem
	if !errors.As(err, &p) {
		p = problem.New(http.StatusUnauthorized, "auth.invalid", "this token is not valid here").
			Header("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	return auth.Identity{}, false, p
}

// Socket adds a route for connections that leave HTTP. It lets through whom an operation would let through; a caller
// without an Authorization header may have put the token where bearer finds it. What serve answers instead of a socket is
// a problem.
func (s *Server) Socket(path string, bearer func(*http.Request) string, who []string, serve func(http.ResponseWriter, *http.Request, auth.Identity) error) {
	s.echo.GET(path, func(c echo.Context) error {
		r := c.Request()
		header := r.Header.Get("Authorization")
		if token := bearer(r); header == "" && token != "" {
			header = "Bearer " + token
		}
		id, p := s.admit(r.Context(), header, c.RealIP(), who)
		if p != nil {
			return p
		}
		return serve(c.Response(), r, id)
	})
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// printable says whether s has 1 to n characters of printable ASCII.
func printable(s string, n int) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != "" && len(s) <= n
}

// knownMethod keeps labels few: a method is the caller's free text.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return m
	}
	return "OTHER"
}
