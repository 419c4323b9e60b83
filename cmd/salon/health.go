package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/telemetry"
	"github.com/dangdangsalon/salon/readapi/live"
)

func telemetryOf(ctx context.Context, c config.Observability, usual slog.Level, log io.Writer) (*telemetry.Telemetry, error) {
	level := usual
	if c.LogLevel != "" {
		if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
			return nil, fmt.Errorf("--log-level: %w", err)
		}
	}
	return telemetry.New(ctx, telemetry.Config{LogLevel: level, LogTo: log, OTLPEndpoint: c.OTLPEndpoint, Version: version})
}

const draining = "it was told to stop and takes nothing new"

// healthRoutes are what load balancers and operators ask: alive, able to serve (else why), and the numbers.
func (n *node) healthRoutes(s *httpserver.Server) {
	s.Echo().GET("/healthz", func(c echo.Context) error { return c.JSON(http.StatusOK, alive()) })
	s.Echo().GET("/readyz", func(c echo.Context) error {
		status, answer := n.readiness(n.ready(c.Request().Context()))
		return c.JSON(status, answer)
	})
	s.Echo().GET("/", func(c echo.Context) error { return c.Redirect(http.StatusFound, "/docs") })
	if n.http.MetricsListen == "" && n.alone {
		s.Echo().GET("/metrics", echo.WrapHandler(n.metrics()))
	}
}

func alive() map[string]string {
	return map[string]string{"status": "alive", "version": version, "commit": commit}
}

// readiness is the answer of /readyz; unready is why not.
func (n *node) readiness(unready error) (status int, answer map[string]any) {
	switch {
	case n.leaving.Load():
		return http.StatusServiceUnavailable, map[string]any{"status": "draining", "why": draining}
	case unready != nil:
		return http.StatusServiceUnavailable, map[string]any{"status": "not ready", "why": unready.Error()}
	}
	answer = map[string]any{"status": "ready"}
	if stuck := n.movement.stuck("", time.Now()); len(stuck) > 0 {
		answer["stuck"] = stuck // still ready: reads say themselves how old they are
	}
	return http.StatusOK, answer
}

func (n *node) metrics() http.Handler {
	return promhttp.HandlerFor(n.tel.Registry, promhttp.HandlerOpts{})
}

// ready says why this process cannot serve: what its HTTP roles need. A process whose projections are late is ready:
// its reads say so themselves. So is one that takes commands without its reads database: out of service, it would take
// the writes away too, which need the store alone.
func (n *node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := n.store.Head(ctx); err != nil {
		return errors.New("the event store does not answer")
	}
	if n.reads != nil && !n.writes {
		if err := n.reads.Ping(ctx); err != nil && !n.replica.Serves() {
			return errors.New("the reads database does not answer")
		}
	}
	if n.live != nil && !n.writes {
		if s := n.live.Status(); !s.Placed {
			return errors.New(notPlaced(s))
		}
	}
	return nil
}

// works says why this process does not do its part: what it serves, and what nobody calls, which has no other address.
func (n *node) works(ctx context.Context) error {
	if err := n.ready(ctx); err != nil {
		return err
	}
	for _, r := range n.runners {
		if err := r.Ready(); err != nil {
			return err
		}
	}
	if n.relay != nil && !n.relay.Ready() {
		return errors.New("the relay neither leads nor stands by")
	}
	if n.firer != nil {
		if s := n.firer.Status(); s.At.IsZero() || s.Error != "" {
			return errors.New(firstOf(s.Error, "the reactor has not looked for what is due yet"))
		}
	}
	return nil
}

// notPlaced says why a live gateway serves nobody yet.
func notPlaced(s live.Status) string {
	if s.Trouble == "" {
		return "live: this node does not hear the log yet"
	}
	return "live: this node does not hear the log yet: " + s.Trouble
}

// serveMetrics serves /metrics on an address of its own, and how the process is, which of some roles can be asked nowhere else.
func (n *node) serveMetrics(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", n.http.MetricsListen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --metrics-listen", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metrics())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { n.answer(w, http.StatusOK, alive()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status, answer := n.readiness(n.works(r.Context()))
		n.answer(w, status, answer)
	})
	return serveUntil(ctx, l, mux)
}

func (n *node) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = writeJSON(w, body) // a caller that went away is nobody's failure
}

// serveSocket answers the verbs that other processes run on this data folder.
func (n *node) serveSocket(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	n.socketRoutes(mux)
	return serveUntil(ctx, l, mux)
}

// serveUntil serves until ctx ends.
func serveUntil(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
