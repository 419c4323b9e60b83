package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// Cancel ends a requested or confirmed reservation before its start and frees its slot. The customer is refunded by
// the policy that was frozen into it; all of it when the groomer or an admin cancels.
func (g Groomer) Cancel(id string, by domain.Actor, reason domain.Sealed, now time.Time) ([]domain.Event, error) {
	r, err := g.reservation(id, by)
	if err != nil || r.did(StatusCancelled, by) {
		return nil, err
	}
	if r.Status != StatusRequested && r.Status != StatusConfirmed || !now.Before(r.Start) {
		return nil, ErrWrongState
	}
	day, err := g.day(r.Start)
	if err != nil {
		return nil, err
	}
	refund := 100
	if by.Role == domain.Customer {
		refund = r.refund(now)
	}
	return []domain.Event{Cancelled{ReservationID: id, Day: day, Reason: reason, RefundPercent: refund}}, nil
}

// refund is the largest tier that the time left holds. It counts from the earlier of the first and the present start:
// otherwise a visit of today is moved to next month and cancelled for free.
func (r Reservation) refund(now time.Time) int {
	start := r.Start
	if r.FirstStart.Before(start) {
		start = r.FirstStart
	}
	left, hours, percent := start.Sub(now), -1, 0
	for _, t := range r.Cancellation {
		if t.HoursBefore > hours && left >= time.Duration(t.HoursBefore)*time.Hour {
			hours, percent = t.HoursBefore, t.RefundPercent
		}
	}
	return percent
}
