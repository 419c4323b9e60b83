// Package groomer decides what may happen in one groomer's book: profile, hours, holds and reservations.
//
// A Groomer is a plain value folded from its events by [Evolve]. Nothing here reads a clock, makes an
// identifier or performs I/O; the caller passes those in, so every test is a table. The caller's now is
// max(clock, the last fact's At): a hold that is dead for one decision is dead for all later ones.
//
// What a caller relies on: no two live slots overlap, buffers included; a refusal is a [domain.Refusal] and comes
// without events; a transition repeated by the same actor is a success without events; whoever is neither the
// customer, the groomer nor an admin is told that the thing is unknown.
//
//	requested ──▶ confirmed ──▶ checked_in ──▶ completed*
//	    │             ├───────▶ no_show*
//	    ├─────────────┴───────▶ cancelled         until the start
//	    └──▶ declined, expired                    moving keeps requested and confirmed what they are
//
// The starred keep their slot until it has passed; what is declined, expired or cancelled frees it.
package groomer

import "github.com/dangdangsalon/salon/domain"

// Mode is where the grooming happens.
type Mode string

// The modes.
const (
	Shop  Mode = "shop"
	House Mode = "visit"
)

// Booking is how a groomer takes reservations: confirmed at once, or asked first.
type Booking string

// The ways of booking.
const (
	Instant   Booking = "instant"
	OnRequest Booking = "request"
)

// Status is where a reservation stands. See DESIGN section 4 for the arrows between them.
type Status string

// The statuses.
const (
	StatusRequested Status = "requested"
	StatusConfirmed Status = "confirmed"
	StatusCheckedIn Status = "checked_in"
	StatusCompleted Status = "completed"
	StatusDeclined  Status = "declined"
	StatusExpired   Status = "expired"
	StatusCancelled Status = "cancelled"
	StatusNoShow    Status = "no_show"
)

// MenuItem is one service for one size of dog.
type MenuItem struct {
	Service  string `json:"service"` // bath trim full_clip scissor_cut nails skin teeth ears
	Size     string `json:"size"`    // small medium large
	Minutes  int    `json:"minutes"`
	PriceKRW int64  `json:"price_krw"`
}

// RefundTier refunds RefundPercent when at least HoursBefore hours are left to the start. The largest tier that
// holds decides; none means 0.
type RefundTier struct {
	HoursBefore   int `json:"hours_before"`
	RefundPercent int `json:"refund_percent"`
}

// Dog is one dog and what is done to it. Its name is personal.
type Dog struct {
	Name     domain.Sealed `json:"name"`
	Size     string        `json:"size"`
	Services []string      `json:"services"`
}
