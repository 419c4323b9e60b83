package groomer

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// ReminderLead is how long before the start of a confirmed visit its parties are reminded of it. It is a rule and no
// setting: the timers are a fold, and a fold of one history is one on every node.
const ReminderLead = 24 * time.Hour

// Remind notes that a confirmed visit is near. Each start is reminded of once: again is a success without events. One that
// is not due is refused, as in [Groomer.Expire]; so is one whose start has passed, and one that is not confirmed any more.
func (g Groomer) Remind(id string, by domain.Actor, now time.Time) ([]domain.Event, error) {
	if by.Role != domain.System && by.Role != domain.Admin {
		return nil, ErrReservationUnknown
	}
	r, ok := g.FindReservation(id)
	switch {
	case !ok:
		return nil, ErrReservationUnknown
	case r.Status != StatusConfirmed:
		return nil, ErrWrongState
	case r.Reminded:
		return nil, nil
	case now.Before(r.Start.Add(-ReminderLead)):
		return nil, ErrReminderNotDue
	case !now.Before(r.Start):
		return nil, ErrWrongState
	}
	day, err := g.day(r.Start)
	if err != nil {
		return nil, err
	}
	return []domain.Event{Reminded{ReservationID: id, Day: day, Start: r.Start}}, nil
}
