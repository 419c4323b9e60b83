// Package telemetry makes what an operator watches: JSON logs, Prometheus metrics and, when an endpoint is given,
// OpenTelemetry traces. It is built in main and passed down; nothing here is global.
//
// It promises that nothing personal is in it: no event bodies, tokens or URLs with passwords; streams and subjects
// never become metric labels.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.26.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config chooses what is sent where.
type Config struct {
	LogLevel     slog.Level // Defaults to info.
	LogTo        io.Writer
	OTLPEndpoint string // URL of an OTLP/HTTP collector; none: no traces
	Version      string
}

// Telemetry is the three of them.
type Telemetry struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	Metrics  *Metrics
	Tracer   trace.Tracer
	shutdown func(context.Context) error
}

// New makes them. Close flushes the traces.
func New(ctx context.Context, c Config) (*Telemetry, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := newMetrics(reg, c.Version)
	t := &Telemetry{
		Log:      slog.New(counting{slog.NewJSONHandler(c.LogTo, &slog.HandlerOptions{Level: c.LogLevel}), metrics}),
		Registry: reg,
		Metrics:  metrics,
		Tracer:   noop.NewTracerProvider().Tracer("salon"),
		shutdown: func(context.Context) error { return nil },
	}
	if c.OTLPEndpoint != "" {
		exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.OTLPEndpoint))
		if err != nil {
			return nil, fmt.Errorf("trace exporter: %w", err)
		}
		provider := sdktrace.NewTracerProvider(
			sdktrace.WithBatcher(exporter),
			sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName("salon"), semconv.ServiceVersion(c.Version))),
		)
		t.Tracer, t.shutdown = provider.Tracer("salon"), provider.Shutdown
	}
	return t, nil
}

// Close flushes what is not sent yet, for at most five seconds.
func (t *Telemetry) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return t.shutdown(ctx)
}
