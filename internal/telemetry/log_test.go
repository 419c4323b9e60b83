package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/dangdangsalon/salon/internal/problem"
)

func TestALineNamesTheRequestThatItIsAbout(t *testing.T) {
	t.Parallel()
	span := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{1}}))
	for _, c := range []struct {
		name string
		ctx  context.Context //nolint:containedctx // it is what is tested
		also []any
		want any
	}{
		{"of a span", span, nil, "ab000000000000000000000000000000"},
		{"of a request without a span", problem.WithTrace(t.Context(), "abc"), nil, "abc"},
		{"once, when whoever logs says it", span, []any{"trace_id", "mine"}, "mine"},
		{"of no request", t.Context(), nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			tel, err := New(t.Context(), Config{LogTo: &out})
			if err != nil {
				t.Fatal(err)
			}
			tel.Log.With("part", "relay").ErrorContext(c.ctx, "it failed", append([]any{"error", errors.New("away")}, c.also...)...)
			var line map[string]any
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			if line["trace_id"] != c.want || line["part"] != "relay" || line["error"] != "away" {
				t.Errorf("logged %s", out.String())
			}
			if n := bytes.Count(out.Bytes(), []byte("trace_id")); n > 1 {
				t.Errorf("trace_id %d times: %s", n, out.String())
			}
		})
	}
}
