// Package history is the read model behind a reservation's history: who did what when, one row per event.
//
// Rows are only ever added. The first row of a reservation names its customer, so that the screen can tell who may
// look without asking another projection, which might be further behind.
package history

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Version of the fold and of the table below.
const Version = 1

// Row is one thing that happened to a reservation.
type Row struct {
	ReservationID string        `db:"reservation_id,pk"`
	Revision      uint64        `db:"revision,pk"` // of the groomer's stream
	GroomerID     string        `db:"groomer_id"`
	CustomerID    string        `db:"customer_id"` // on the first row only
	What          string        `db:"what"`        // requested, confirmed, rescheduled …
	At            time.Time     `db:"at"`
	ActorID       string        `db:"actor_id"`
	ActorRole     string        `db:"actor_role"`
	StartAt       time.Time     `db:"start_at"`      // requested, rescheduled
	FromStartAt   time.Time     `db:"from_start_at"` // rescheduled
	Reason        domain.Sealed `db:"reason"`        // declined, cancelled
	RefundPercent *int          `db:"refund_percent"`
	PriceKRW      *int64        `db:"price_krw"` // requested, completed
}

// Table holds the rows; its primary key is the order of the screen.
var Table = engine.NewTable[Row]("history")

// Projection is the fold. It reads no rows.
func Projection() engine.Projection {
	return engine.Projection{
		Name:    "history",
		Version: Version,
		Topics:  []string{wire.BookingTopic},
		Types: []domain.Event{
			groomer.Requested{}, groomer.Confirmed{}, groomer.Declined{}, groomer.Expired{}, groomer.Cancelled{},
			groomer.Rescheduled{}, groomer.CheckedIn{}, groomer.Completed{}, groomer.NoShow{},
		},
		Tables: []engine.AnyTable{Table},
		Keys:   func(engine.Event) []engine.Ref { return nil },
		Fold:   fold,
	}
}

func fold(u *engine.Unit, e engine.Event) error {
	row := Row{
		ReservationID: groomer.About(e.Event), Revision: e.Revision, GroomerID: e.Key,
		At: e.At, ActorID: e.By.ID, ActorRole: string(e.By.Role),
	}
	switch e := e.Event.(type) {
	case groomer.Requested:
		row.What = "requested"
		row.CustomerID, row.StartAt, row.PriceKRW = e.CustomerID, e.Start, &e.PriceKRW
	case groomer.Confirmed:
		row.What = "confirmed"
	case groomer.Declined:
		row.What = "declined"
		row.Reason, row.RefundPercent = e.Reason, &e.RefundPercent
	case groomer.Expired:
		row.What = "expired"
		row.RefundPercent = &e.RefundPercent
	case groomer.Cancelled:
		row.What = "cancelled"
		row.Reason, row.RefundPercent = e.Reason, &e.RefundPercent
	case groomer.Rescheduled:
		row.What = "rescheduled"
		row.StartAt, row.FromStartAt = e.Start, e.FromStart
	case groomer.CheckedIn:
		row.What = "checked_in"
	case groomer.Completed:
		row.What = "completed"
		row.PriceKRW = &e.PriceKRW
	case groomer.NoShow:
		row.What = "no_show"
	}
	Table.Put(u, row)
	return nil
}
