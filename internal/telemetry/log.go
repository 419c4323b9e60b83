package telemetry

import (
	"context"
	"log/slog"

	"github.com/dangdangsalon/salon/internal/problem"
)

// counting is the log's handler: each line names the request that it is about, and is counted.
type counting struct {
	slog.Handler
	metrics *Metrics
}

const traceKey = "trace_id"

func (h counting) Handle(ctx context.Context, r slog.Record) error {
	h.metrics.logged.WithLabelValues(r.Level.String()).Inc()
	if id, known := problem.TraceOf(ctx); known && !has(r, traceKey) {
		r = r.Clone()
		r.AddAttrs(slog.String(traceKey, id))
	}
	return h.Handler.Handle(ctx, r)
}

func has(r slog.Record, key string) (found bool) {
	r.Attrs(func(a slog.Attr) bool {
		found = found || a.Key == key
		return !found
	})
	return found
}

func (h counting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return counting{h.Handler.WithAttrs(attrs), h.metrics}
}

func (h counting) WithGroup(name string) slog.Handler {
	return counting{h.Handler.WithGroup(name), h.metrics}
}
