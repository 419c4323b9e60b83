package httpserver

import (
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestEachRequestIsASpanOfItsCallersTrace(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	h := newTestServer(t, Config{Tracer: provider.Tracer("test")}).Handler()
	got := call(t, h, "GET", "/v1/fails/bug", "", "", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	call(t, h, "GET", "/v1/open", "", "")
	all := spans.GetSpans()
	if len(all) != 2 {
		t.Fatalf("%d spans", len(all))
	}
	failed, fine := all[0], all[1]
	if failed.Name != "GET /v1/fails/:how" || failed.Parent.SpanID().String() != "b7ad6b7169203331" || failed.Status.Code != codes.Error {
		t.Errorf("got %q, parent %s, status %v", failed.Name, failed.Parent.SpanID(), failed.Status)
	}
	if got.p.TraceID != failed.SpanContext.TraceID().String() {
		t.Errorf("the problem names %s", got.p.TraceID)
	}
	if fine.Status.Code == codes.Error || fine.SpanContext.TraceID() == failed.SpanContext.TraceID() {
		t.Errorf("got %v in the trace of another", fine.Status)
	}
}
