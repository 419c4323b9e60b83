package commands

import (
	"context"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
)

// Remind notes that a confirmed visit is near. The system issues it, no person: it has no HTTP operation.
func (x *Executor) Remind(ctx context.Context, m Meta, reservationID string) (Result[Book], error) {
	return x.transition(ctx, m, reservationID, nil, func(g groomer.Groomer, now time.Time) ([]domain.Event, error) {
		return g.Remind(reservationID, m.Actor, now)
	})
}
