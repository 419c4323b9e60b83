package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// Reschedule moves a requested or confirmed reservation before its start: the new slot taken, the old one freed, the
// status kept. Minutes, price and policy stay as booked; the buffer is today's. To where it is already: no events.
func (g Groomer) Reschedule(id string, by domain.Actor, start, now time.Time) ([]domain.Event, error) {
	r, err := g.reservation(id, by)
	if err != nil {
		return nil, err
	}
	if r.Status != StatusRequested && r.Status != StatusConfirmed {
		return nil, ErrWrongState
	}
	if start.Equal(r.Start) {
		return nil, nil
	}
	if !now.Before(r.Start) {
		return nil, ErrWrongState
	}
	v := r.Visit
	v.Start, v.BufferMinutes = start.UTC(), g.Policies.BufferMinutes
	if err := g.allows(v, now); err != nil {
		return nil, err
	}
	out, err := g.claim(v, now, id, "")
	if err != nil {
		return nil, err
	}
	e := Rescheduled{ReservationID: id, Start: v.Start, FromStart: r.Start, BufferMinutes: v.BufferMinutes, Status: r.Status}
	if e.Day, err = g.day(e.Start); err != nil {
		return nil, err
	}
	if e.FromDay, err = g.day(e.FromStart); err != nil {
		return nil, err
	}
	if r.Status == StatusRequested {
		e.ExpiresAt = g.requestExpires(e.Start, now) // the groomer gets the whole time to look at the new slot
	}
	return append(out, e), nil
}
