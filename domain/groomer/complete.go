package groomer

import "github.com/dangdangsalon/salon/domain"

// Complete ends a visit well, after check-in. Its slot stays taken until it has passed.
func (g Groomer) Complete(id string, by domain.Actor) ([]domain.Event, error) {
	r, err := g.managed(id, by)
	if err != nil || r.did(StatusCompleted, by) {
		return nil, err
	}
	if r.Status != StatusCheckedIn {
		return nil, ErrWrongState
	}
	day, err := g.day(r.Start)
	if err != nil {
		return nil, err
	}
	return []domain.Event{Completed{ReservationID: id, Day: day, PriceKRW: r.PriceKRW}}, nil
}
