package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// checkInFrom is how long before the start the dogs may arrive.
const checkInFrom = 2 * time.Hour

// CheckIn notes that the dogs of a confirmed reservation arrived.
func (g Groomer) CheckIn(id string, by domain.Actor, now time.Time) ([]domain.Event, error) {
	r, err := g.managed(id, by)
	if err != nil || r.did(StatusCheckedIn, by) {
		return nil, err
	}
	if r.Status != StatusConfirmed {
		return nil, ErrWrongState
	}
	if now.Before(r.Start.Add(-checkInFrom)) {
		return nil, ErrVisitTooEarly
	}
	day, err := g.day(r.Start)
	if err != nil {
		return nil, err
	}
	return []domain.Event{CheckedIn{ReservationID: id, Day: day}}, nil
}
