package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// ReleaseHold gives a slot back. A hold that is gone already is a success; another's is unknown.
func (g Groomer) ReleaseHold(id string, by domain.Actor, now time.Time) ([]domain.Event, error) {
	h, err := g.hold(id, by)
	if err != nil {
		return nil, err
	}
	if !h.live(now) {
		return nil, nil
	}
	return []domain.Event{HoldReleased{HoldID: id, CustomerID: h.CustomerID}}, nil
}

// hold finds one for its customer.
func (g Groomer) hold(id string, by domain.Actor) (Hold, error) {
	h, ok := g.FindHold(id)
	if !ok || by.Role != domain.Customer || by.ID != h.CustomerID {
		return Hold{}, ErrHoldUnknown
	}
	return h, nil
}
