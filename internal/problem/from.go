package problem

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// refusals are the codes of API.md that are not 422, which is the status of every other rule of the salon.
var refusals = map[string]int{
	"request.invalid":         http.StatusBadRequest,
	"auth.forbidden":          http.StatusForbidden,
	"slot.taken":              http.StatusConflict,
	"hold.used":               http.StatusConflict,
	"calendar.booked":         http.StatusConflict,
	"reservation.wrong_state": http.StatusConflict,
	"conflict.retry":          http.StatusConflict,
	"revision.stale":          http.StatusPreconditionFailed,
	"store.restored":          http.StatusPreconditionFailed,
}

// From gives an error its status and code. A problem is answered as it is.
func From(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var refusal domain.Refusal
	if errors.As(err, &refusal) {
		status, listed := refusals[refusal.Code]
		if !listed {
			status = http.StatusUnprocessableEntity
			if strings.HasSuffix(refusal.Code, ".unknown") {
				status = http.StatusNotFound
			}
		}
		return New(status, refusal.Code, refusal.Detail)
	}
	p = fromStore(err)
	p.cause = err
	return p
}

func fromStore(err error) *Problem {
	var conflict *eventstore.ConflictError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		return New(http.StatusServiceUnavailable, "outcome.unknown",
			"the write may or may not have happened: send it again with the same Idempotency-Key").RetryAfter(1)
	case errors.Is(err, eventstore.ErrUnavailable):
		return New(http.StatusServiceUnavailable, "store.unavailable", "the event store is away; nothing was done").RetryAfter(1)
	case errors.Is(err, eventstore.ErrDecisionTooOld):
		return New(http.StatusServiceUnavailable, "decision.too_old",
			"this node was too slow or its clock is off; nothing was done").RetryAfter(1)
	case errors.Is(err, eventstore.ErrTooLarge):
		return New(http.StatusBadRequest, "request.invalid", "the request makes too much to record")
	case errors.As(err, &conflict):
		return New(http.StatusConflict, "conflict.retry", "many wrote here at once; nothing was done, try again").RetryAfter(1)
	case errors.As(err, &tooLarge):
		return New(http.StatusRequestEntityTooLarge, "request.too_large", "the body is too large")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return New(http.StatusServiceUnavailable, "request.timeout",
			"this took too long; a write may or may not have happened: send it again with the same Idempotency-Key").RetryAfter(1)
	}
	var status huma.StatusError
	if errors.As(err, &status) && status.GetStatus() < http.StatusInternalServerError {
		return New(status.GetStatus(), "request.invalid", status.Error())
	}
	return New(http.StatusInternalServerError, "internal.error", "something went wrong on our side")
}
