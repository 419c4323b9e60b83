package engine

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceBatch shows a committed batch in the traces of the requests that caused its events: one span an event, under
// the span that its command's traceparent names, as long as the batch took.
func (r *Runner) traceBatch(b *batch, began, ended time.Time) {
	for _, e := range b.events {
		if e.Meta.Traceparent == "" {
			continue
		}
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": e.Meta.Traceparent})
		if !trace.SpanContextFromContext(ctx).IsSampled() {
			continue
		}
		_, span := r.Tracer.Start(ctx, "project "+r.Projection.ID(), trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithAttributes(
				attribute.String("salon.event.type", e.Event.EventType()), attribute.Int64("salon.event.position", int64(e.Position)), //nolint:gosec // positions stay below 2^63
				attribute.String("messaging.destination.name", b.topic), attribute.Int("messaging.batch.message_count", len(b.records)),
			))
		span.End(trace.WithTimestamp(ended))
	}
}
