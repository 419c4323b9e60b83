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

// healthRoutes are what load balancers and operators ask: alive, able to serve (else why), and the numbers.
func (n *node) healthRoutes(s *httpserver.Server) {
	s.Echo().GET("/healthz", func(c echo.Context) error {
		return c.JSON(http.StatusOK, map[string]string{"status": "alive", "version": version, "commit": commit})
	})
	s.Echo().GET("/readyz", func(c echo.Context) error {
		if err := n.ready(c.Request().Context()); err != nil {
			return c.JSON(http.StatusServiceUnavailable, map[string]string{"status": "not ready", "why": err.Error()})
		}
		answer := map[string]any{"status": "ready"}
		if stuck := n.movement.stuck("", time.Now()); len(stuck) > 0 {
			answer["stuck"] = stuck // still ready: reads say themselves how old they are
		}
		return c.JSON(http.StatusOK, answer)
	})
	s.Echo().GET("/", func(c echo.Context) error { return c.Redirect(http.StatusFound, "/docs") })
	if n.http.MetricsListen == "" && n.alone {
		s.Echo().GET("/metrics", echo.WrapHandler(n.metrics()))
	}
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

// notPlaced says why a live gateway serves nobody yet.
func notPlaced(s live.Status) string {
	if s.Trouble == "" {
		return "live: this node does not hear the log yet"
	}
	return "live: this node does not hear the log yet: " + s.Trouble
}

// serveMetrics serves /metrics on an address of its own.
func (n *node) serveMetrics(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", n.http.MetricsListen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --metrics-listen", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metrics())
	return serveUntil(ctx, l, mux)
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
