package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// Hold is a slot kept for a customer.
type Hold struct {
	HoldID string `json:"hold_id"`
	Visit
	ExpiresAt     time.Time `json:"expires_at"`
	Released      bool      `json:"released,omitempty"`       // only of one folded alone
	ReservationID string    `json:"reservation_id,omitempty"` // that used it up; only of one folded alone
}

// live reports that it keeps its slot at now.
func (h *Hold) live(now time.Time) bool {
	return !h.Released && h.ReservationID == "" && now.Before(h.ExpiresAt)
}

// Reservation is a booking through its whole life, as its answers show it.
type Reservation struct {
	ReservationID string `json:"reservation_id"`
	HoldID        string `json:"hold_id,omitempty"`
	Visit
	Note          domain.Sealed `json:"note,omitzero"`
	Cancellation  []RefundTier  `json:"cancellation"`
	FirstStart    time.Time     `json:"first_start"`         // before any move: refunds count from the earlier one
	ExpiresAt     time.Time     `json:"expires_at,omitzero"` // of the request
	Status        Status        `json:"status"`
	StatusBy      domain.Actor  `json:"status_by"`                // who brought it there: a repeat by the same is a success
	Reminded      bool          `json:"reminded,omitempty"`       // of its present start
	RefundPercent *int          `json:"refund_percent,omitempty"` // nil until declined, expired or cancelled
	CreatedAt     time.Time     `json:"created_at"`
	UpdatedAt     time.Time     `json:"updated_at"`
	Revision      uint64        `json:"revision"` // of the stream, at the last event that changed it: its ETag
}

// End is when the visit ends, without the buffer.
func (v Visit) End() time.Time { return v.interval().End }

func (v Visit) interval() schedule.Interval { return schedule.Occupied(v.Start, v.Minutes, 0) }
func (v Visit) occupied() schedule.Interval {
	return schedule.Occupied(v.Start, v.Minutes, v.BufferMinutes)
}

// open reports that the visit is still to come or under way.
func (r *Reservation) open() bool {
	return r.Status == StatusRequested || r.Status == StatusConfirmed || r.Status == StatusCheckedIn
}

// keepsSlot reports that nobody else may have its time, although it ended.
func (r *Reservation) keepsSlot() bool {
	return r.Status == StatusCompleted || r.Status == StatusNoShow
}

// did reports that the actor brought it where it stands: to do so again is a success that changes nothing.
func (r *Reservation) did(s Status, by domain.Actor) bool { return r.Status == s && r.StatusBy == by }

// reservation finds one for somebody who may see it: its customer, its groomer, an admin.
func (g Groomer) reservation(id string, by domain.Actor) (Reservation, error) {
	r, ok := g.FindReservation(id)
	if !ok || !g.runBy(by) && (by.Role != domain.Customer || by.ID != r.CustomerID) {
		return Reservation{}, ErrReservationUnknown
	}
	return r, nil
}

// managed finds one for somebody who runs the book: its groomer, an admin.
func (g Groomer) managed(id string, by domain.Actor) (Reservation, error) {
	if !g.runBy(by) {
		return Reservation{}, ErrReservationUnknown
	}
	return g.reservation(id, by)
}

// day is the local day of an instant, as the reservation events carry it.
func (g Groomer) day(t time.Time) (string, error) {
	loc, err := g.Location()
	if err != nil {
		return "", err
	}
	return schedule.DateOf(t, loc).String(), nil
}
