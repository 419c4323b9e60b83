// Package httpserver is the HTTP edge that every role shares: echo with huma on it.
//
// It promises that every failure is problem+json with a stable code (also unknown routes, panics and bodies that are
// not JSON), that a body is read strictly (unknown fields, other letter case and repeated keys are refused, at most
// 64 KiB), that an operation runs only for the roles it names, and that neither logs nor metrics hold anything
// personal: routes are patterns, callers are not named.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"go.opentelemetry.io/otel/trace"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/internal/ratelimit"
)

// Verifier turns a bearer token into the caller. An error is 401 auth.invalid, unless it is a problem of its own.
type Verifier interface {
	Verify(ctx context.Context, bearer string) (auth.Identity, error)
}

// Config is what a server is made of. The zero value serves, but lets nobody sign in.
type Config struct {
	Version  string       // Shown in the OpenAPI document. Defaults to "dev".
	Log      *slog.Logger // Access and failures. Defaults to discarding.
	Verifier Verifier     // Defaults to refusing every token.
	// CORSOrigins may call from a browser: "https://app.example". Defaults to none.
	CORSOrigins []string
	// RateLimit is requests a second for each subject, or address without a token, with bursts of twice as many;
	// 0 is no limit. Counted per process: behind n processes a caller has n times as much. Defaults to no limit.
	RateLimit float64
	// TrustProxy are the peers whose X-Forwarded-For names the caller. They have to set it: what they pass on, a caller
	// chooses, who is counted by it then. Defaults to none: the peer is the caller.
	TrustProxy []netip.Prefix
	// Observe is told of every answer: the route's pattern, never the path. Defaults to nothing.
	Observe func(method, route string, status int, took time.Duration)
	// Refused is told who was refused an operation that is neither for customers nor for groomers. Defaults to nothing.
	Refused func(by auth.Identity, operation string)
	// Tracer makes a span of each request. Defaults to none; a caller's traceparent is carried on all the same.
	Tracer trace.Tracer
}

// Server is the HTTP edge. Operations are registered on API before it serves.
type Server struct {
	cfg     Config
	echo    *echo.Echo
	api     huma.API
	limiter *ratelimit.Limiter
}

// The hooks of huma are package variables: set once, before the first server exists.
var installOnce sync.Once

// New makes a server without operations.
func New(cfg Config) *Server {
	installOnce.Do(func() {
		problem.Install()
		huma.ValidateStrictCasing = true // {"price":1,"PRICE":9999} would pass maximum:10 and decode as 9999
	})
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	s := &Server{cfg: cfg, echo: echo.New(), limiter: ratelimit.New(cfg.RateLimit)}
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.HTTPErrorHandler = s.fail
	s.echo.IPExtractor = echo.ExtractIPDirect()
	if len(cfg.TrustProxy) > 0 {
		s.echo.IPExtractor = echo.ExtractIPFromXFFHeader(trusted(cfg.TrustProxy)...)
	}
	s.echo.Use(s.observe, s.recover, securityHeaders)
	if len(cfg.CORSOrigins) > 0 {
		s.echo.Use(middleware.CORSWithConfig(middleware.CORSConfig{
			AllowOrigins: cfg.CORSOrigins,
			AllowMethods: []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete},
			AllowHeaders: []string{
				"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Consistency-Token",
				"Last-Event-ID", "Prefer", "X-Correlation-Id", "X-Request-Id", "Traceparent",
			},
			ExposeHeaders: []string{
				"Consistency-Token", "ETag", "Idempotency-Key", "Idempotent-Replayed", "Preference-Applied", "Retry-After",
				"X-Parked", "X-Request-Id",
			},
			MaxAge: 600,
		}))
	}
	s.api = humaecho.New(s.echo, s.humaConfig())
	s.api.UseMiddleware(s.authorize)
	s.serveDocument()
	return s
}

// trusted are these peers and no other: by itself echo trusts everything that is private, which in a data centre everybody is.
func trusted(peers []netip.Prefix) []echo.TrustOption {
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range peers {
		options = append(options, echo.TrustIPRange(&net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}))
	}
	return options
}

// humaConfig leaves huma's own document, schema and docs routes out: the docs load scripts from another host, and the
// schema links accept "$schema" in bodies and echo the Host header.
func (s *Server) humaConfig() huma.Config {
	c := huma.DefaultConfig("DangDang Salon", s.cfg.Version)
	c.CreateHooks, c.OpenAPIPath, c.DocsPath, c.SchemasPath = nil, "", "", ""
	c.Formats = map[string]huma.Format{"application/json": strictJSON, "json": strictJSON}
	c.RejectUnknownQueryParameters = true
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
	}
	c.Transformers = []huma.Transformer{s.finish}
	return c
}

// finish sees every body that huma writes: a problem gets its trace ID, and its cause goes to the log here, once.
func (s *Server) finish(ctx huma.Context, _ string, body any) (any, error) {
	p, ok := body.(*problem.Problem)
	if !ok {
		return body, nil
	}
	p = p.In(ctx.Context())
	s.logCause(ctx.Context(), p)
	return p, nil
}

func (s *Server) logCause(ctx context.Context, p *problem.Problem) {
	if cause := p.Unwrap(); cause != nil && p.Status >= http.StatusInternalServerError {
		level := slog.LevelWarn
		if p.Status == http.StatusInternalServerError {
			level = slog.LevelError
		}
		s.cfg.Log.Log(ctx, level, "request failed", "code", p.Code, "trace_id", p.TraceID, "error", cause)
	}
}

// API is where operations are registered.
func (s *Server) API() huma.API { return s.api }

// Echo is for routes that are not operations: health, metrics, sockets.
func (s *Server) Echo() *echo.Echo { return s.echo }

// Handler serves everything.
func (s *Server) Handler() http.Handler { return s.echo }

type stoppingKey struct{}

// Stopping ends when the server that a request came to begins to stop: an answer without end ends then. Out of a request
// of [Server.Run]'s it never does.
func Stopping(ctx context.Context) context.Context {
	if stopping, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return stopping
	}
	return context.WithoutCancel(ctx)
}

// Run serves until ctx ends, then lets running requests finish for up to ten seconds. Hijacked connections (sockets)
// are not waited for: who made them closes them. An answer without end asks Stopping, and lifts the time-outs below by an
// http.ResponseController.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.echo,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second, // above the longest Prefer: wait
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, ctx) // requests outlive ctx
		},
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := server.Shutdown(stop)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stop http: %w", err)
	}
	return nil
}
