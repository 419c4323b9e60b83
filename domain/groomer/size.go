package groomer

import "github.com/dangdangsalon/salon/domain"

// What the parts take in memory, about: a pointer in its list, the struct, what it points to. A test holds the sum to
// the heap's own count.
const (
	holdBytes        = 280
	reservationBytes = 560
	timeOffBytes     = 112
	bookBytes        = 2048 // of a book with nothing in it, and its lists' headers
	stringBytes      = 16   // a header, or what a small string is rounded up by
)

// Size estimates how many bytes the state takes in memory. It costs no more for a long list than for a short one.
func (g Groomer) Size() int {
	n := bookBytes + len(g.Profile.Name) + len(g.Profile.Address) + 64*len(g.Menu) + 4*g.IDs.Len() + 48*len(g.IDs.full)
	for _, a := range g.Profile.Areas {
		n += 2*stringBytes + len(a)
	}
	for _, h := range g.Hours {
		n += 128 + 64*len(h.Breaks)
	}
	n += g.Holds.bytes + g.Reservations.bytes + g.Kept.bytes + g.TimeOff.bytes
	if g.Latest != nil {
		n += g.Latest.size() // perhaps in a list as well
	}
	return n
}

func (h *Hold) size() int {
	return holdBytes + h.Visit.size() + len(h.HoldID)
}

func (r *Reservation) size() int {
	return reservationBytes + r.Visit.size() + len(r.ReservationID) + len(r.HoldID) + sealedSize(r.Note) + 16*len(r.Cancellation)
}

func (t *TimeOff) size() int { return timeOffBytes + len(t.TimeOffID) + sealedSize(t.Reason) }

func (v *Visit) size() int {
	n := len(v.CustomerID) + sealedSize(v.VisitAddress) + sealedSize(v.Phone)
	for _, d := range v.Dogs {
		n += 112 + len(d.Size) + sealedSize(d.Name)
		for _, s := range d.Services {
			n += 2*stringBytes + len(s)
		}
	}
	return n
}

func sealedSize(s domain.Sealed) int {
	if s.IsZero() {
		return 0
	}
	return 3*stringBytes + len(s.Subject) + len(s.KeyID) + len(s.Cipher)
}
