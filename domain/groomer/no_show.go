package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// NoShow ends a confirmed reservation whose customer did not come by its start. Its slot stays taken.
func (g Groomer) NoShow(id string, by domain.Actor, now time.Time) ([]domain.Event, error) {
	r, err := g.managed(id, by)
	if err != nil || r.did(StatusNoShow, by) {
		return nil, err
	}
	if r.Status != StatusConfirmed {
		return nil, ErrWrongState
	}
	if now.Before(r.Start) {
		return nil, ErrVisitTooEarly
	}
	day, err := g.day(r.Start)
	if err != nil {
		return nil, err
	}
	return []domain.Event{NoShow{ReservationID: id, Day: day}}, nil
}
