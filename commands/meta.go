package commands

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/problem"
)

// Meta is everything about a command that is not what it asks for: who, by which right to be answered again, and
// because of what.
type Meta struct {
	Actor     domain.Actor
	Command   string // "hold_slot"
	CommandID uuid.UUID
	// RequestHash tells another request under the same command ID from a repeated one: [sealed.Keys.MAC] of the request.
	RequestHash []byte
	// CorrelationID follows one intention through commands and events: the caller's X-Correlation-Id, else the command ID.
	CorrelationID string
	// CausationID is the event that made a reactor issue the command; of a person's command, the command itself.
	CausationID string
	Traceparent string
}

// NewMeta completes a command's metadata. request is what it asks for, decoded; its personal texts enter only the MAC.
func (x *Executor) NewMeta(ctx context.Context, by domain.Actor, command string, id uuid.UUID, request any) (Meta, error) {
	hash, err := x.keys.MAC(ctx, by.Subject(), append(append([]byte(command), 0), canonical(request)...))
	if err != nil {
		return Meta{}, err
	}
	return Meta{
		Actor: by, Command: command, CommandID: id, RequestHash: hash,
		CorrelationID: id.String(), CausationID: id.String(), Traceparent: traceparent(ctx),
	}, nil
}

// traceparent is the W3C header of the span that ctx is in, "" outside of any.
func traceparent(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	return fmt.Sprintf("00-%s-%s-%s", sc.TraceID(), sc.SpanID(), sc.TraceFlags())
}

// WriteHeaders are the request headers that every write understands. Operations embed it.
type WriteHeaders struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" doc:"The same key with the same body gets the same answer and has one effect. Made and answered when absent."`
	CorrelationID  string `header:"X-Correlation-Id" maxLength:"128" pattern:"^[!-~]*$" doc:"Follows one intention through all that comes of it. Defaults to the command's ID."`

	method, path string
	matches      revisions
}

// Conditional is WriteHeaders and If-Match, for what has an ETag.
type Conditional struct {
	WriteHeaders
	IfMatch string `header:"If-Match" maxLength:"500" doc:"Do it only at this ETag, else 412 revision.stale."`
}

// Resolve notes the path that the key belongs to. huma calls it.
func (h *WriteHeaders) Resolve(ctx huma.Context) []error {
	if h.path != "" {
		return nil // huma calls it once for each struct that embeds it, too
	}
	u := ctx.URL()
	h.method, h.path = ctx.Method(), u.Path
	if h.IdempotencyKey == "" {
		var b [16]byte
		rand.Read(b[:])
		h.IdempotencyKey = hex.EncodeToString(b[:])
		ctx.SetHeader("Idempotency-Key", h.IdempotencyKey) // also on a failure: without it, outcome.unknown could not be settled
	}
	var err error
	if h.matches, err = parseIfMatch(ctx.Header("If-Match")); err != nil {
		return []error{&huma.ErrorDetail{Location: "header.If-Match", Message: err.Error()}}
	}
	return nil
}

// meta is the metadata of an HTTP call. The command's ID is the caller, the operation's path and the caller's key.
func (x *Executor) meta(ctx context.Context, command string, h WriteHeaders, body any) (Meta, error) {
	by, err := actor(ctx)
	if err != nil {
		return Meta{}, err
	}
	return x.metaWithID(ctx, by, command, eventstore.CommandID(string(by.Role), by.ID, h.method, h.path, h.IdempotencyKey), h, body)
}

func (x *Executor) metaWithID(ctx context.Context, by domain.Actor, command string, id uuid.UUID, h WriteHeaders, body any) (Meta, error) {
	m, err := x.NewMeta(ctx, by, command, id, body)
	if err == nil && h.CorrelationID != "" {
		m.CorrelationID = h.CorrelationID
	}
	return m, err
}

// actor is the signed-in caller. The operation's roles were checked before.
func actor(ctx context.Context) (domain.Actor, error) {
	id, ok := auth.From(ctx)
	if !ok {
		return domain.Actor{}, problem.New(401, "auth.missing", "sign in first")
	}
	return domain.Actor{ID: id.Sub, Role: domain.Role(id.Role)}, nil
}
