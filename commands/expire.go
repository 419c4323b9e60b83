package commands

import (
	"context"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
)

// Expire ends a request that nobody answered in time. The system issues it, no person: it has no HTTP operation.
func (x *Executor) Expire(ctx context.Context, m Meta, reservationID string) (Result[Book], error) {
	return x.transition(ctx, m, reservationID, nil, func(g groomer.Groomer, now time.Time) ([]domain.Event, error) {
		return g.Expire(reservationID, m.Actor, now)
	})
}
