package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// maxRequests is how many open requests a customer has with one groomer.
const maxRequests = 3

// Request books a slot: confirmed at once, or open until the groomer answers, as the groomer takes bookings.
func (g Groomer) Request(id string, by domain.Actor, w Wish, note domain.Sealed, now time.Time) ([]domain.Event, error) {
	v, err := g.visit(w, by)
	if err != nil {
		return nil, err
	}
	if err := g.allows(v, now); err != nil {
		return nil, err
	}
	return g.book(id, "", v, note, now)
}

// RequestHeld books what a hold of the same customer keeps, by the menu and buffer of then. Hours, notice and time off
// were judged when it was placed; only a start that has passed meanwhile is refused.
func (g Groomer) RequestHeld(id string, by domain.Actor, holdID string, note domain.Sealed, now time.Time) ([]domain.Event, error) {
	h, err := g.hold(holdID, by)
	switch {
	case err != nil:
		return nil, err
	case h.ReservationID != "":
		return nil, ErrHoldUsed
	case !h.live(now):
		return nil, ErrHoldExpired
	case h.Start.Before(now):
		return nil, ErrTooSoon
	}
	return g.book(id, holdID, h.Visit, note, now)
}

func (g Groomer) book(id, holdID string, v Visit, note domain.Sealed, now time.Time) ([]domain.Event, error) {
	out, err := g.claim(v, now, "", holdID)
	if err != nil {
		return nil, err
	}
	day, err := g.day(v.Start)
	if err != nil {
		return nil, err
	}
	e := Requested{ReservationID: id, HoldID: holdID, Visit: v, Day: day, Note: note, Cancellation: g.Policies.Cancellation}
	if g.Policies.Booking == Instant {
		return append(out, e, Confirmed{ReservationID: id, Day: day}), nil
	}
	waiting := 0
	for r := range g.Reservations.All() {
		if r.Status == StatusRequested && r.CustomerID == v.CustomerID {
			waiting++
		}
	}
	if waiting >= maxRequests {
		return nil, ErrRequestTooMany
	}
	e.ExpiresAt = g.requestExpires(v.Start, now)
	return append(out, e), nil
}

// requestExpires is min(start, now + the groomer's minutes).
func (g Groomer) requestExpires(start, now time.Time) time.Time {
	at := now.Add(time.Duration(g.Policies.RequestExpiresMinutes) * time.Minute).UTC()
	if start.Before(at) {
		return start
	}
	return at
}
