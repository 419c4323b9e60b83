package groomer

import "github.com/dangdangsalon/salon/domain"

// Decline refuses a request and frees its slot; everything is refunded.
func (g Groomer) Decline(id string, by domain.Actor, reason domain.Sealed) ([]domain.Event, error) {
	r, err := g.managed(id, by)
	if err != nil || r.did(StatusDeclined, by) {
		return nil, err
	}
	if r.Status != StatusRequested {
		return nil, ErrWrongState
	}
	day, err := g.day(r.Start)
	if err != nil {
		return nil, err
	}
	return []domain.Event{Declined{ReservationID: id, Day: day, Reason: reason, RefundPercent: 100}}, nil
}
