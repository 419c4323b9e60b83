package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

// Evolve folds a fact into the state. It never fails, never validates and never changes what an older value can see.
// Facts of other streams' types are passed over.
func Evolve(g Groomer, f domain.Fact) Groomer {
	switch e := f.Event.(type) {
	case Registered:
		g.GroomerID, g.Zone = e.GroomerID, e.Zone
		g.loc, _ = time.LoadLocation(e.Zone) // nil when it fails: Location tells whoever needs it
	case ProfileChanged:
		g.Profile = Profile(e)
	case MenuChanged:
		g.Menu = e.Menu
	case HoursChanged:
		g.Hours = e.Hours
	case PoliciesChanged:
		g.Policies = Policies(e)
	case TimeOffAdded:
		t := EvolveTimeOff(TimeOff{}, f)
		g.TimeOff, g.IDs = g.TimeOff.with(&t), g.IDs.with(e.TimeOffID, f.Revision)
	case TimeOffRemoved:
		g.TimeOff = g.TimeOff.without(e.TimeOffID)
	case SlotHeld:
		h := EvolveHold(Hold{}, f)
		g.Holds, g.IDs = g.Holds.with(&h), g.IDs.with(e.HoldID, f.Revision)
	case HoldReleased:
		g.Holds = g.Holds.without(e.HoldID)
	case Requested:
		g.Holds, g.IDs = g.Holds.without(e.HoldID), g.IDs.with(e.ReservationID, f.Revision)
		g = g.evolveReservation(e.ReservationID, f)
	case Confirmed, Declined, Expired, Cancelled, Rescheduled, CheckedIn, Completed, NoShow, Reminded:
		g = g.evolveReservation(About(e), f)
	}
	return g.prune(f.At)
}

func (g Groomer) evolveReservation(id string, f domain.Fact) Groomer {
	before, _ := g.FindReservation(id)
	r := EvolveReservation(before, f)
	switch {
	case r.open():
		g.Reservations = g.Reservations.with(&r)
	case r.keepsSlot():
		g.Reservations, g.Kept = g.Reservations.without(id), g.Kept.with(&r)
	default:
		g.Reservations = g.Reservations.without(id)
	}
	g.Latest = &r
	return g
}

// prune lets go of what the passing of time has ended.
func (g Groomer) prune(at time.Time) Groomer {
	g.Holds = g.Holds.prune(func(h *Hold) bool { return !at.Before(h.ExpiresAt) })
	g.Kept = g.Kept.prune(func(r *Reservation) bool { return !at.Before(r.occupied().End) })
	g.TimeOff = g.TimeOff.prune(func(t *TimeOff) bool { return !at.Before(t.To) })
	return g
}

// About is the reservation that an event is of, "" for other events.
func About(e domain.Event) string {
	switch e := e.(type) {
	case Requested:
		return e.ReservationID
	case Confirmed:
		return e.ReservationID
	case Declined:
		return e.ReservationID
	case Expired:
		return e.ReservationID
	case Cancelled:
		return e.ReservationID
	case Rescheduled:
		return e.ReservationID
	case CheckedIn:
		return e.ReservationID
	case Completed:
		return e.ReservationID
	case NoShow:
		return e.ReservationID
	case Reminded:
		return e.ReservationID
	}
	return ""
}

// EvolveReservation folds the facts of one reservation, those whose event is [About] it, from the zero value.
func EvolveReservation(r Reservation, f domain.Fact) Reservation {
	become := func(s Status) { r.Status, r.StatusBy = s, f.By }
	switch e := f.Event.(type) {
	case Requested:
		r = Reservation{
			ReservationID: e.ReservationID, HoldID: e.HoldID, Visit: e.Visit, Note: e.Note, Cancellation: e.Cancellation,
			FirstStart: e.Start, ExpiresAt: e.ExpiresAt, CreatedAt: f.At,
		}
		become(StatusRequested)
	case Confirmed:
		become(StatusConfirmed)
		r.ExpiresAt = time.Time{}
	case Declined:
		become(StatusDeclined)
		r.RefundPercent = &e.RefundPercent
	case Expired:
		become(StatusExpired)
		r.RefundPercent = &e.RefundPercent
	case Cancelled:
		become(StatusCancelled)
		r.RefundPercent = &e.RefundPercent
	case Rescheduled:
		r.Start, r.BufferMinutes, r.ExpiresAt, r.Reminded = e.Start, e.BufferMinutes, e.ExpiresAt, false
	case CheckedIn:
		become(StatusCheckedIn)
	case Completed:
		become(StatusCompleted)
	case NoShow:
		become(StatusNoShow)
	case Reminded:
		r.Reminded = true
		return r // its ETag stays: nothing that an answer shows has changed
	default:
		return r
	}
	r.UpdatedAt, r.Revision = f.At, f.Revision
	return r
}

// ReservationOver reports that no later event is of it.
func ReservationOver(r Reservation, _ time.Time) bool { return !r.open() }

// AboutHold is the hold that an event is of, also of the reservation that uses it up; "" for other events.
func AboutHold(e domain.Event) string {
	switch e := e.(type) {
	case SlotHeld:
		return e.HoldID
	case HoldReleased:
		return e.HoldID
	case Requested:
		return e.HoldID
	}
	return ""
}

// EvolveHold folds the facts of one hold, those whose event is [AboutHold] it, from the zero value.
func EvolveHold(h Hold, f domain.Fact) Hold {
	switch e := f.Event.(type) {
	case SlotHeld:
		h = Hold{HoldID: e.HoldID, Visit: e.Visit, ExpiresAt: e.ExpiresAt}
	case HoldReleased:
		h.Released = true
	case Requested:
		h.ReservationID = e.ReservationID
	}
	return h
}

// HoldOver reports that no event recorded at that time or later is of it. One decided while it lived may be recorded
// after its death, by seconds unless clocks went back: it is given a day.
func HoldOver(h Hold, at time.Time) bool {
	return h.Released || h.ReservationID != "" || !at.Before(h.ExpiresAt.AddDate(0, 0, 1))
}

// AboutTimeOff is the time off that an event is of, "" for other events.
func AboutTimeOff(e domain.Event) string {
	switch e := e.(type) {
	case TimeOffAdded:
		return e.TimeOffID
	case TimeOffRemoved:
		return e.TimeOffID
	}
	return ""
}

// EvolveTimeOff folds the facts of one time off, those whose event is [AboutTimeOff] it, from the zero value.
func EvolveTimeOff(t TimeOff, f domain.Fact) TimeOff {
	switch e := f.Event.(type) {
	case TimeOffAdded:
		t = TimeOff{TimeOffID: e.TimeOffID, From: e.From, To: e.To, Reason: e.Reason}
	case TimeOffRemoved:
		t.Removed = true
	}
	return t
}

// TimeOffOver reports that no later event is of it: one that has passed may still be removed.
func TimeOffOver(t TimeOff, _ time.Time) bool { return t.Removed }

// off is the time off as intervals.
func (g Groomer) off() []schedule.Interval {
	var out []schedule.Interval
	for t := range g.TimeOff.All() {
		out = append(out, schedule.Interval{Start: t.From, End: t.To})
	}
	return out
}
