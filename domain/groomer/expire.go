package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// Expire ends a request that nobody answered in time, and frees its slot; everything is refunded. One that was answered
// meanwhile is no request any more: no events. One that is not due is refused, not accepted without events: its timer's
// command would be remembered and could never expire it.
func (g Groomer) Expire(id string, by domain.Actor, now time.Time) ([]domain.Event, error) {
	if by.Role != domain.System && by.Role != domain.Admin {
		return nil, ErrReservationUnknown
	}
	r, ok := g.FindReservation(id)
	if !ok {
		return nil, ErrReservationUnknown
	}
	if r.Status != StatusRequested {
		return nil, nil
	}
	if now.Before(r.ExpiresAt) {
		return nil, ErrRequestNotDue
	}
	day, err := g.day(r.Start)
	if err != nil {
		return nil, err
	}
	return []domain.Event{Expired{ReservationID: id, Day: day, RefundPercent: 100}}, nil
}
