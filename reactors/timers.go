package reactors

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Version of the fold and of the table below.
const Version = 1

// The kinds of timers.
const (
	Expire = "expire" // a request that nobody answered
	Remind = "remind" // a confirmed visit that is near
)

// Due is something to do at a time: one row for each reservation and kind, as long as it is to be done.
type Due struct {
	ReservationID string    `db:"reservation_id,pk"`
	Kind          string    `db:"kind,pk"`
	GroomerID     string    `db:"groomer_id"`
	DueAt         time.Time `db:"due_at"`
	StartAt       time.Time `db:"start_at"`       // of the visit: a reminder is worth nothing from then on
	CauseID       string    `db:"cause_id"`       // of the event that set the timer: the command's ID derives from it
	CorrelationID string    `db:"correlation_id"` // of that event, carried on
}

// Table holds what is to come and what is due. Its index is the order in which it is done.
var Table = engine.NewTable[Due]("timers", engine.Index{Name: "by_due", Columns: []string{"kind", "due_at", "reservation_id"}})

// Timers is the fold. A reminder is due [groomer.ReminderLead] before the start, and there is none for a visit that was
// confirmed or moved later than that: its parties have just dealt with it.
//
// The time of day is nowhere in it: what is due stays until an event says that it was done, or that it need not be.
func Timers() engine.Projection {
	return engine.Projection{
		Name:    "timers",
		Version: Version,
		Topics:  []string{wire.BookingTopic},
		Types: []domain.Event{
			groomer.Requested{}, groomer.Confirmed{}, groomer.Declined{}, groomer.Expired{}, groomer.Cancelled{},
			groomer.Rescheduled{}, groomer.CheckedIn{}, groomer.Completed{}, groomer.NoShow{}, groomer.Reminded{},
		},
		Tables: []engine.AnyTable{Table},
		Keys:   keys,
		Fold:   fold,
	}
}

// keys: only a confirmation reads, since it does not say when the visit begins.
func keys(e engine.Event) []engine.Ref {
	if c, ok := e.Event.(groomer.Confirmed); ok {
		return []engine.Ref{Table.Ref(c.ReservationID, Expire)}
	}
	return nil
}

func fold(u *engine.Unit, e engine.Event) error {
	switch ev := e.Event.(type) {
	case groomer.Requested:
		if ev.ExpiresAt.IsZero() { // booked instantly: the confirmation is in the same append
			remindOf(u, e, ev.ReservationID, ev.Start)
			return nil
		}
		expire(u, e, ev.ReservationID, ev.Start, ev.ExpiresAt)
	case groomer.Confirmed:
		request, waited, err := Table.Get(u, ev.ReservationID, Expire)
		if err != nil || !waited {
			return err // booked instantly: its reminder was set with the request
		}
		Table.Delete(u, ev.ReservationID, Expire)
		remindOf(u, e, ev.ReservationID, request.StartAt)
	case groomer.Rescheduled:
		if ev.Status == groomer.StatusRequested {
			expire(u, e, ev.ReservationID, ev.Start, ev.ExpiresAt)
			return nil
		}
		remindOf(u, e, ev.ReservationID, ev.Start)
	case groomer.Reminded:
		Table.Delete(u, ev.ReservationID, Remind)
	case groomer.Declined, groomer.Expired, groomer.Cancelled, groomer.CheckedIn, groomer.Completed, groomer.NoShow:
		id := groomer.About(ev)
		Table.Delete(u, id, Expire)
		Table.Delete(u, id, Remind)
	}
	return nil
}

func expire(u *engine.Unit, e engine.Event, id string, start, at time.Time) {
	Table.Put(u, due(e, id, Expire, start, at))
}

// remindOf sets the reminder of a confirmed visit anew, or takes it away when it is too late for one.
func remindOf(u *engine.Unit, e engine.Event, id string, start time.Time) {
	at := start.Add(-groomer.ReminderLead)
	if e.At.After(at) {
		Table.Delete(u, id, Remind)
		return
	}
	Table.Put(u, due(e, id, Remind, start, at))
}

func due(e engine.Event, id, kind string, start, at time.Time) Due {
	return Due{
		ReservationID: id, Kind: kind, GroomerID: e.Key, DueAt: at, StartAt: start,
		CauseID: e.ID.String(), CorrelationID: e.Meta.CorrelationID,
	}
}
