package groomer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// FoldVersion names what Evolve makes of a history. Snapshots carry it; a golden hash fails when the fold changes and
// this number does not.
const FoldVersion = 1

// Groomer is one groomer's book: what its decisions need and nothing else. The zero value is nobody's.
//
// Its size is bounded by the future: a hold leaves when it is dead, a reservation when it ends (one that keeps its
// slot, when that has passed), time off when it is over. Whoever needs one that is gone folds it alone from the stream
// ([EvolveReservation], [EvolveHold], [EvolveTimeOff]) and hands it back by [Groomer.WithReservation] and its like.
//
// Values share their slices and what these point to: never write into them.
type Groomer struct {
	GroomerID string           `json:"groomer_id"` // "" until registered
	Zone      string           `json:"zone"`
	Profile   Profile          `json:"profile"`
	Menu      []MenuItem       `json:"menu"`
	Hours     []schedule.Hours `json:"hours"`
	Policies  Policies         `json:"policies"`

	// Each sorted by ID: one of a thousand is found in ten steps, and folded by copying pointers.
	Holds        []*Hold        `json:"holds"`        // live as of the last fact
	Reservations []*Reservation `json:"reservations"` // requested, confirmed, checked_in
	Kept         []*Reservation `json:"kept"`         // completed and no_show whose slot is not over yet
	TimeOff      []*TimeOff     `json:"time_off"`     // not over as of the last fact

	// Latest is the reservation that changed last, also when that ended it: the answer of the command that did it.
	Latest *Reservation `json:"latest,omitempty"`

	loc              *time.Location // of Zone; nil after decoding
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
	for _, list := range [][]*Reservation{g.Reservations, g.Kept} {
		if r, ok := find(list, id); ok {
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
	if h, ok := find(g.Holds, id); ok {
		return *h, true
	}
	if h := g.foundHold; h != nil && h.HoldID == id {
		return *h, true
	}
	return Hold{}, false
}

// FindTimeOff gives one that the state holds, or was given by WithTimeOff.
func (g Groomer) FindTimeOff(id string) (TimeOff, bool) {
	if t, ok := find(g.TimeOff, id); ok {
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

// runBy reports that the actor may run this book.
func (g Groomer) runBy(a domain.Actor) bool {
	return a.Role == domain.Admin || a.Role == domain.Groomer && a.ID == g.GroomerID
}

// keyed is what the state's lists are sorted by.
type keyed interface{ key() string }

func (h *Hold) key() string        { return h.HoldID }
func (r *Reservation) key() string { return r.ReservationID }
func (t *TimeOff) key() string     { return t.TimeOffID }

func search[P keyed](list []P, id string) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(p P, id string) int { return strings.Compare(p.key(), id) })
}

func find[P keyed](list []P, id string) (P, bool) {
	if i, ok := search(list, id); ok {
		return list[i], true
	}
	var none P
	return none, false
}

// with is the list with p in it, instead of the one of the same ID. Older values keep theirs: always a copy.
func with[P keyed](list []P, p P) []P {
	i, there := search(list, p.key())
	if there {
		list = slices.Clone(list)
		list[i] = p
		return list
	}
	out := make([]P, len(list)+1)
	copy(out, list[:i])
	out[i] = p
	copy(out[i+1:], list[i:])
	return out
}

// without is the list without the one of that ID: itself when there is none, else a copy.
func without[P keyed](list []P, id string) []P {
	i, there := search(list, id)
	if !there {
		return list
	}
	out := make([]P, 0, len(list)-1)
	return append(append(out, list[:i]...), list[i+1:]...)
}

// prune is the list without what is over: itself when nothing is, else a copy.
func prune[P keyed](list []P, over func(P) bool) []P {
	if !slices.ContainsFunc(list, over) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), over)
}
