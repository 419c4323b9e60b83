package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// Catalog lists a zero value of every event type of a groomer's stream.
func Catalog() []domain.Event {
	return []domain.Event{
		Registered{}, ProfileChanged{}, MenuChanged{}, HoursChanged{}, PoliciesChanged{},
		TimeOffAdded{}, TimeOffRemoved{},
		SlotHeld{}, HoldReleased{},
		Requested{}, Confirmed{}, Declined{}, Expired{}, Cancelled{}, Rescheduled{}, CheckedIn{}, Completed{}, NoShow{},
		Reminded{},
	}
}

// Registered opens a groomer's book. The zone is fixed from here on.
type Registered struct {
	GroomerID string `json:"groomer_id"`
	Zone      string `json:"zone"` // IANA
}

// ProfileChanged replaces what customers search by.
type ProfileChanged struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Areas   []string `json:"areas"` // "seoul/gangnam-gu"
	Modes   []Mode   `json:"modes"`
}

// MenuChanged replaces the menu. What is booked keeps its frozen price and minutes.
type MenuChanged struct {
	Menu []MenuItem `json:"menu"`
}

// HoursChanged replaces the weekly hours.
type HoursChanged struct {
	Hours []schedule.Hours `json:"hours"`
}

// PoliciesChanged replaces how bookings are accepted and cancelled. What is booked keeps its frozen policy.
type PoliciesChanged struct {
	BufferMinutes         int          `json:"buffer_minutes"`
	MinNoticeMinutes      int          `json:"min_notice_minutes"`
	HorizonDays           int          `json:"horizon_days"`
	Booking               Booking      `json:"booking"`
	RequestExpiresMinutes int          `json:"request_expires_minutes"`
	Cancellation          []RefundTier `json:"cancellation"`
}

// TimeOffAdded blocks [From, To).
type TimeOffAdded struct {
	TimeOffID string        `json:"time_off_id"`
	From      time.Time     `json:"from"`
	To        time.Time     `json:"to"`
	Reason    domain.Sealed `json:"reason,omitzero"`
}

// TimeOffRemoved frees what a TimeOffAdded blocked.
type TimeOffRemoved struct {
	TimeOffID string `json:"time_off_id"`
}

// Visit is what a hold and a reservation have in common: what is done, where, how long and for how much. It is
// frozen when the slot is taken.
type Visit struct {
	CustomerID    string        `json:"customer_id"`
	Start         time.Time     `json:"start"`
	Minutes       int           `json:"minutes"`
	BufferMinutes int           `json:"buffer_minutes"` // the groomer's, at that time: occupied is [Start, Start+Minutes+BufferMinutes)
	Mode          Mode          `json:"mode"`
	Dogs          []Dog         `json:"dogs"`
	PriceKRW      int64         `json:"price_krw"`
	VisitAddress  domain.Sealed `json:"visit_address,omitzero"`
	Phone         domain.Sealed `json:"phone,omitzero"`
}

// SlotHeld keeps a slot for a customer until ExpiresAt; from then on it is dead without another event.
type SlotHeld struct {
	HoldID string `json:"hold_id"`
	Visit
	ExpiresAt time.Time `json:"expires_at"`
}

// HoldReleased ends a hold early: given back by its customer, or replaced by an overlapping slot of the same customer.
type HoldReleased struct {
	HoldID     string `json:"hold_id"`
	CustomerID string `json:"customer_id"`
}

// Requested opens a reservation and takes its slot; a hold named here is used up by it.
type Requested struct {
	ReservationID string `json:"reservation_id"`
	HoldID        string `json:"hold_id,omitempty"`
	Visit
	Day          string        `json:"day"` // of Start in the groomer's zone, "2026-11-24"; so in every reservation event: statistics count by it
	Note         domain.Sealed `json:"note,omitzero"`
	Cancellation []RefundTier  `json:"cancellation"`
	ExpiresAt    time.Time     `json:"expires_at,omitzero"` // of the request; zero when booked instantly
}

// Confirmed accepts a request.
type Confirmed struct {
	ReservationID string `json:"reservation_id"`
	Day           string `json:"day"`
}

// Declined refuses a request and frees its slot.
type Declined struct {
	ReservationID string        `json:"reservation_id"`
	Day           string        `json:"day"`
	Reason        domain.Sealed `json:"reason,omitzero"`
	RefundPercent int           `json:"refund_percent"`
}

// Expired ends a request that nobody answered and frees its slot.
type Expired struct {
	ReservationID string `json:"reservation_id"`
	Day           string `json:"day"`
	RefundPercent int    `json:"refund_percent"`
}

// Cancelled frees the slot of a requested or confirmed reservation.
type Cancelled struct {
	ReservationID string        `json:"reservation_id"`
	Day           string        `json:"day"`
	Reason        domain.Sealed `json:"reason,omitzero"`
	RefundPercent int           `json:"refund_percent"`
}

// Rescheduled moves a reservation to another slot in one step; its status stays.
type Rescheduled struct {
	ReservationID string    `json:"reservation_id"`
	Start         time.Time `json:"start"`
	FromStart     time.Time `json:"from_start"`
	BufferMinutes int       `json:"buffer_minutes"` // frozen anew with the new slot
	Day           string    `json:"day"`
	FromDay       string    `json:"from_day"`
	Status        Status    `json:"status"`              // kept: requested or confirmed
	ExpiresAt     time.Time `json:"expires_at,omitzero"` // of a request, counted anew
}

// CheckedIn notes that the dogs arrived.
type CheckedIn struct {
	ReservationID string `json:"reservation_id"`
	Day           string `json:"day"`
}

// Completed ends a visit well.
type Completed struct {
	ReservationID string `json:"reservation_id"`
	Day           string `json:"day"`
	PriceKRW      int64  `json:"price_krw"`
}

// NoShow ends a confirmed reservation whose customer did not come; its slot stays taken.
type NoShow struct {
	ReservationID string `json:"reservation_id"`
	Day           string `json:"day"`
}

// Reminded notes that a confirmed visit is near, for whoever tells its parties so. It changes nothing of the reservation.
type Reminded struct {
	ReservationID string    `json:"reservation_id"`
	Day           string    `json:"day"`
	Start         time.Time `json:"start"` // that it reminds of: one moved afterwards is reminded of anew
}

// The stored names. They never change.

func (Registered) EventType() string      { return "groomer.registered.v1" }
func (ProfileChanged) EventType() string  { return "groomer.profile_changed.v1" }
func (MenuChanged) EventType() string     { return "groomer.menu_changed.v1" }
func (HoursChanged) EventType() string    { return "groomer.hours_changed.v1" }
func (PoliciesChanged) EventType() string { return "groomer.policies_changed.v1" }
func (TimeOffAdded) EventType() string    { return "time_off.added.v1" }
func (TimeOffRemoved) EventType() string  { return "time_off.removed.v1" }
func (SlotHeld) EventType() string        { return "hold.placed.v1" }
func (HoldReleased) EventType() string    { return "hold.released.v1" }
func (Requested) EventType() string       { return "reservation.requested.v1" }
func (Confirmed) EventType() string       { return "reservation.confirmed.v1" }
func (Declined) EventType() string        { return "reservation.declined.v1" }
func (Expired) EventType() string         { return "reservation.expired.v1" }
func (Cancelled) EventType() string       { return "reservation.cancelled.v1" }
func (Rescheduled) EventType() string     { return "reservation.rescheduled.v1" }
func (CheckedIn) EventType() string       { return "reservation.checked_in.v1" }
func (Completed) EventType() string       { return "reservation.completed.v1" }
func (NoShow) EventType() string          { return "reservation.no_show.v1" }
func (Reminded) EventType() string        { return "reservation.reminded.v1" }
