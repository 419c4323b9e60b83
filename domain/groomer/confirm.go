package groomer

import "github.com/dangdangsalon/salon/domain"

// Confirm accepts a request. It may come late: a request expires by an event only.
func (g Groomer) Confirm(id string, by domain.Actor) ([]domain.Event, error) {
	r, err := g.managed(id, by)
	if err != nil || r.did(StatusConfirmed, by) {
		return nil, err
	}
	if r.Status != StatusRequested {
		return nil, ErrWrongState
	}
	day, err := g.day(r.Start)
	if err != nil {
		return nil, err
	}
	return []domain.Event{Confirmed{ReservationID: id, Day: day}}, nil
}
