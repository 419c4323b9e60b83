package groomer

import (
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// FoldVersion names what Evolve makes of a history. Snapshots carry it; a golden hash fails when the fold changes and
// this number does not.
const FoldVersion = 3

// Groomer is one groomer's book: what its decisions need and nothing else. The zero value is nobody's.
//
// Its size is bounded by the future, but for four bytes an ID: a hold leaves when it is dead, a reservation when it ends (one that keeps its
// slot, when that has passed), time off when it is over. Whoever needs one that is gone folds it alone from the stream
// ([EvolveReservation], [EvolveHold], [EvolveTimeOff]), where [IDs] says that it is, and hands it back by [Groomer.WithReservation] and its like.
//
// Values share their lists and what these point to: never write into them.
type Groomer struct {
	GroomerID string           `json:"groomer_id"` // "" until registered
	Zone      string           `json:"zone"`
	Profile   Profile          `json:"profile"`
	Menu      []MenuItem       `json:"menu"`
	Hours     []schedule.Hours `json:"hours"`
	Policies  Policies         `json:"policies"`

	Holds        List[*Hold]        `json:"holds"`        // live as of the last fact
	Reservations List[*Reservation] `json:"reservations"` // requested, confirmed, checked_in
	Kept         List[*Reservation] `json:"kept"`         // completed and no_show whose slot is not over yet
	TimeOff      List[*TimeOff]     `json:"time_off"`     // not over as of the last fact

	IDs IDs `json:"ids"` // of every hold, reservation and time off that there ever was

	// Latest is the reservation that changed last, also when that ended it: the answer of the command that did it.
	Latest *Reservation `json:"latest,omitempty"`

	loc              *time.Location // of Zone; nil after decoding: see Restored
	foundReservation *Reservation
	foundHold        *Hold
	foundTimeOff     *TimeOff
}

// Profile is what customers search by.
type Profile struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Areas   []string `json:"areas"`
	Modes   []Mode   `json:"modes"`
}

// Policies are how bookings are accepted and cancelled.
type Policies struct {
	BufferMinutes         int          `json:"buffer_minutes"`
	MinNoticeMinutes      int          `json:"min_notice_minutes"`
	HorizonDays           int          `json:"horizon_days"`
	Booking               Booking      `json:"booking"`
	RequestExpiresMinutes int          `json:"request_expires_minutes"`
	Cancellation          []RefundTier `json:"cancellation"`
}

// TimeOff is a time without visits, [From, To).
type TimeOff struct {
	TimeOffID string        `json:"time_off_id"`
	From      time.Time     `json:"from"`
	To        time.Time     `json:"to"`
	Reason    domain.Sealed `json:"reason,omitzero"`
	Removed   bool          `json:"removed,omitempty"` // only of one folded alone
}

// Registered reports that the book exists.
func (g Groomer) Registered() bool { return g.GroomerID != "" }

// FindReservation gives one that the state holds, or was given by WithReservation.
func (g Groomer) FindReservation(id string) (Reservation, bool) {
	for _, list := range []List[*Reservation]{g.Reservations, g.Kept} {
		if r, ok := list.find(id); ok {
			return *r, true
		}
	}
	for _, r := range []*Reservation{g.Latest, g.foundReservation} {
		if r != nil && r.ReservationID == id {
			return *r, true
		}
	}
	return Reservation{}, false
}

// FindHold gives one that the state holds, or was given by WithHold. It may have died since the last fact.
func (g Groomer) FindHold(id string) (Hold, bool) {
	if h, ok := g.Holds.find(id); ok {
		return *h, true
	}
	if h := g.foundHold; h != nil && h.HoldID == id {
		return *h, true
	}
	return Hold{}, false
}

// FindTimeOff gives one that the state holds, or was given by WithTimeOff.
func (g Groomer) FindTimeOff(id string) (TimeOff, bool) {
	if t, ok := g.TimeOff.find(id); ok {
		return *t, true
	}
	if t := g.foundTimeOff; t != nil && t.TimeOffID == id {
		return *t, true
	}
	return TimeOff{}, false
}

// WithReservation lets decisions know one that the state holds no more. It takes no slot by that.
func (g Groomer) WithReservation(r Reservation) Groomer { g.foundReservation = &r; return g }

// WithHold lets decisions know a hold that is gone. It keeps no slot by that.
func (g Groomer) WithHold(h Hold) Groomer { g.foundHold = &h; return g }

// WithTimeOff lets decisions know time off that is over or removed. It blocks nothing by that.
func (g Groomer) WithTimeOff(t TimeOff) Groomer { g.foundTimeOff = &t; return g }

// Location is the groomer's zone. It fails when this machine's zone data lack a zone that another one had.
func (g Groomer) Location() (*time.Location, error) {
	if g.loc != nil {
		return g.loc, nil
	}
	loc, err := time.LoadLocation(g.Zone)
	if err != nil {
		return nil, fmt.Errorf("zone of groomer %s: %w", g.GroomerID, err)
	}
	return loc, nil
}

// Restored is a decoded state with what JSON does not carry. Without it nothing is wrong, only slow.
func (g Groomer) Restored() Groomer {
	if g.loc == nil && g.Zone != "" {
		g.loc, _ = time.LoadLocation(g.Zone) // nil when it fails, as in Evolve
	}
	return g
}

// runBy reports that the actor may run this book.
func (g Groomer) runBy(a domain.Actor) bool {
	return a.Role == domain.Admin || a.Role == domain.Groomer && a.ID == g.GroomerID
}
