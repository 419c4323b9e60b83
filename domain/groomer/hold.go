package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// maxHolds is how many live holds a customer has with one groomer.
const maxHolds = 2

// PlaceHold keeps a slot for a customer until now + ttl, instead of their own live holds that overlap it.
func (g Groomer) PlaceHold(id string, by domain.Actor, w Wish, ttl time.Duration, now time.Time) ([]domain.Event, error) {
	v, err := g.visit(w, by)
	if err != nil {
		return nil, err
	}
	if err := g.allows(v, now); err != nil {
		return nil, err
	}
	out, err := g.claim(v, now, "", "")
	if err != nil {
		return nil, err
	}
	own := 0
	for h := range g.Holds.All() {
		if h.CustomerID == by.ID && h.live(now) {
			own++
		}
	}
	if own-len(out) >= maxHolds {
		return nil, ErrHoldTooMany
	}
	return append(out, SlotHeld{HoldID: id, Visit: v, ExpiresAt: now.Add(ttl).UTC()}), nil
}
