package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

func TestEveryErrorHasItsStatusAndCode(t *testing.T) {
	t.Parallel()
	refusal := func(code string) error { return fmt.Errorf("wrapped: %w", domain.Refuse(code, "because")) }
	for _, c := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{refusal("request.invalid"), 400, "request.invalid", ""},
		{refusal("auth.forbidden"), 403, "auth.forbidden", ""},
		{refusal("hold.unknown"), 404, "hold.unknown", ""},
		{refusal("reservation.unknown"), 404, "reservation.unknown", ""},
		{refusal("groomer.unknown"), 404, "groomer.unknown", ""},
		{refusal("room.unknown"), 404, "room.unknown", ""},
		{refusal("slot.taken"), 409, "slot.taken", ""},
		{refusal("hold.used"), 409, "hold.used", ""},
		{refusal("calendar.booked"), 409, "calendar.booked", ""},
		{refusal("reservation.wrong_state"), 409, "reservation.wrong_state", ""},
		{refusal("revision.stale"), 412, "revision.stale", ""},
		{refusal("slot.off_grid"), 422, "slot.off_grid", ""},
		{refusal("idempotency_key.reused"), 422, "idempotency_key.reused", ""},
		{refusal("anything.new"), 422, "anything.new", ""},
		{fmt.Errorf("append: %w", eventstore.ErrUnavailable), 503, "store.unavailable", "1"},
		{fmt.Errorf("append: %w", eventstore.ErrOutcomeUnknown), 503, "outcome.unknown", "1"},
		{fmt.Errorf("%w: %w", eventstore.ErrOutcomeUnknown, eventstore.ErrUnavailable), 503, "outcome.unknown", "1"},
		{eventstore.ErrDecisionTooOld, 503, "decision.too_old", "1"},
		{eventstore.ErrTooLarge, 400, "request.invalid", ""},
		{&eventstore.ConflictError{Stream: "groomer-secret"}, 409, "conflict.retry", "1"},
		{context.DeadlineExceeded, 503, "request.timeout", "1"},
		{errors.New("dial postgres://user:secret@host"), 500, "internal.error", ""},
		{fmt.Errorf("x: %w", New(418, "tea.pot", "own")), 418, "tea.pot", ""},
	} {
		p := From(c.err)
		if p.Status != c.status || p.Code != c.code || p.GetHeaders().Get("Retry-After") != c.retry {
			t.Errorf("%v: got %d %s retry %q, want %d %s retry %q", c.err, p.Status, p.Code, p.GetHeaders().Get("Retry-After"), c.status, c.code, c.retry)
		}
		body, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), "secret") {
			t.Errorf("%v: the body tells what is internal: %s", c.err, body)
		}
	}
}

func TestTheTraceIDIsTheRequests(t *testing.T) {
	t.Parallel()
	if a, b := TraceID(t.Context()), TraceID(t.Context()); a == b || len(a) != 32 {
		t.Errorf("got %q and %q, want two of 32 digits", a, b)
	}
	ctx := WithTrace(t.Context(), "abc")
	if got := New(400, "x", "y").In(ctx).TraceID; got != "abc" {
		t.Errorf("got %q", got)
	}
	id := trace.TraceID{1, 2}
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}}))
	if got := TraceID(ctx); got != id.String() {
		t.Errorf("got %q, want OpenTelemetry's", got)
	}
}

func TestASharedProblemKeepsNoRequestsTrace(t *testing.T) {
	t.Parallel()
	shared := New(400, "x", "y")
	a, b := shared.In(WithTrace(t.Context(), "a")), shared.In(WithTrace(t.Context(), "b"))
	if a.TraceID != "a" || b.TraceID != "b" || shared.TraceID != "" {
		t.Errorf("got %q %q %q", a.TraceID, b.TraceID, shared.TraceID)
	}
}
