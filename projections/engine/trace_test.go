package engine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

func TestABatchStandsInTheTracesOfItsCommands(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	p, _ := counters()
	r := &Runner{Projection: p, Tracer: provider.Tracer("test")}
	event := func(traceparent string) Event {
		return Event{Fact: domain.Fact{Event: added{1}}, Position: 7, Meta: eventstore.Metadata{Traceparent: traceparent}}
	}
	r.traceBatch(&batch{topic: "salon.booking.v1", events: []Event{
		event("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
		event("00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-00"), // not sampled
		event(""), event("nonsense"),
	}}, time.Now().Add(-time.Millisecond), time.Now())

	var got []string
	for _, s := range spans.GetSpans() {
		got = append(got, s.Name+" in "+s.SpanContext.TraceID().String()+" under "+s.Parent.SpanID().String())
	}
	want := []string{"project " + p.ID() + " in 0af7651916cd43dd8448eb211c80319c under b7ad6b7169203331"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}
