package groomer

import (
	"slices"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// Wish is a slot that a customer asks for. What it takes and costs is for the menu to say.
type Wish struct {
	Start        time.Time
	Mode         Mode
	Dogs         []Dog
	VisitAddress domain.Sealed
	Phone        domain.Sealed
}

// visit is the wish by the present menu, or why it cannot be had at any time.
func (g Groomer) visit(w Wish, by domain.Actor) (Visit, error) {
	if by.Role != domain.Customer {
		return Visit{}, domain.Refuse(ErrForbidden.Code, "only customers book")
	}
	if !g.Registered() {
		return Visit{}, ErrGroomerUnknown
	}
	minutes, price, err := sum(g.Menu, w.Dogs)
	switch {
	case err != nil:
		return Visit{}, err
	case w.Mode != Shop && w.Mode != House:
		return Visit{}, invalid("mode: want shop or visit")
	case !slices.Contains(g.Profile.Modes, w.Mode):
		return Visit{}, ErrModeNotOffered
	case w.Mode == House && w.VisitAddress.IsZero():
		return Visit{}, ErrAddressMissing
	}
	return Visit{
		CustomerID: by.ID, Start: w.Start.UTC(), Minutes: minutes, BufferMinutes: g.Policies.BufferMinutes,
		Mode: w.Mode, Dogs: w.Dogs, PriceKRW: price, VisitAddress: w.VisitAddress, Phone: w.Phone,
	}, nil
}

// allows says whether the visit may be at its time, whoever else is there: grid, notice, horizon, hours, time off.
func (g Groomer) allows(v Visit, now time.Time) error {
	loc, err := g.Location()
	if err != nil {
		return err
	}
	if !schedule.OnGrid(v.Start, loc) {
		return ErrOffGrid
	}
	bookable := schedule.Bookable(now, g.Policies.MinNoticeMinutes, g.Policies.HorizonDays, loc)
	if v.Start.Before(bookable.Start) {
		return ErrTooSoon
	}
	if !v.Start.Before(bookable.End) {
		return ErrTooFar
	}
	day := schedule.DateOf(v.Start, loc)
	fits := func(open schedule.Interval) bool { return open.Contains(v.interval()) }
	if !day.Interval(loc).Contains(v.occupied()) || !slices.ContainsFunc(schedule.Open(g.Hours, day, loc), fits) {
		return ErrOutsideHours
	}
	if slices.ContainsFunc(g.off(), v.interval().Overlaps) {
		return ErrOnTimeOff
	}
	return nil
}

// claim says whether nobody else has the visit's slot, buffers included, and releases the customer's own live holds
// that overlap it: these never block their customer. The reservation and the hold named are no obstacle.
func (g Groomer) claim(v Visit, now time.Time, reservationID, holdID string) (releases []domain.Event, err error) {
	slot := v.occupied()
	for _, taken := range []List[*Reservation]{g.Reservations, g.Kept} {
		for r := range taken.All() {
			if r.ReservationID != reservationID && r.occupied().Overlaps(slot) {
				return nil, ErrSlotTaken
			}
		}
	}
	for h := range g.Holds.All() {
		if h.HoldID == holdID || !h.live(now) || !h.occupied().Overlaps(slot) {
			continue
		}
		if h.CustomerID != v.CustomerID {
			return nil, ErrSlotTaken
		}
		releases = append(releases, HoldReleased{HoldID: h.HoldID, CustomerID: h.CustomerID})
	}
	return releases, nil
}
