// Package reservations is the read model behind the reservation screens: one row per reservation, as it stands now.
//
// A row belongs to its groomer's ordering key. Personal texts stay sealed in it; the screens open them. A row carries
// the stream revision of the last event that changed it, which is the reservation's ETag on both sides of the API.
package reservations

import (
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Version of the fold and of the table below. A change of either is a new version. Version 2 counts Row.Moves.
const Version = 2

// What a row is made of, for those who read rows and do not know the domain.
type (
	Sealed     = domain.Sealed
	RefundTier = groomer.RefundTier
)

// Row is a reservation.
type Row struct {
	ReservationID string        `db:"reservation_id,pk"` // also the ID of its chat room
	GroomerID     string        `db:"groomer_id"`
	CustomerID    string        `db:"customer_id"`
	Status        string        `db:"status"`
	StartAt       time.Time     `db:"start_at"`
	EndAt         time.Time     `db:"end_at"` // without the buffer
	Minutes       int           `db:"minutes"`
	Mode          string        `db:"mode"`
	Dogs          []groomer.Dog `db:"dogs"`
	VisitAddress  domain.Sealed `db:"visit_address"`
	Phone         domain.Sealed `db:"phone"`
	Note          domain.Sealed `db:"note"`
	PriceKRW      int64         `db:"price_krw"`
	RefundPercent *int          `db:"refund_percent"` // nil until it is declined, expired or cancelled
	Cancellation  []RefundTier  `db:"cancellation"`
	CreatedAt     time.Time     `db:"created_at"`
	UpdatedAt     time.Time     `db:"updated_at"`
	Revision      uint64        `db:"revision"`      // of the groomer's stream, at the last event of this reservation
	Moves         int           `db:"moves,since=2"` // how often the visit was moved; for those who ask the table itself
}

// Table holds the rows. Its indexes are the lists of the API: a customer's, a salon's, and everybody's for an admin,
// each newest start first or by status.
var Table = engine.NewTable[Row]("reservations",
	engine.Index{Name: "by_customer", Columns: []string{"customer_id", "start_at", "reservation_id"}},
	engine.Index{Name: "by_groomer", Columns: []string{"groomer_id", "start_at", "reservation_id"}},
	engine.Index{Name: "by_start", Columns: []string{"start_at", "reservation_id"}},
	engine.Index{Name: "by_status", Columns: []string{"status", "start_at", "reservation_id"}},
	// The chat rooms of a member in which nobody has posted yet, latest first.
	engine.Index{Name: "by_customer_made", Columns: []string{"customer_id", "created_at", "reservation_id"}},
	engine.Index{Name: "by_groomer_made", Columns: []string{"groomer_id", "created_at", "reservation_id"}},
)

// Projection is the fold. A deployment in which version 1 serves keeps it up until it was switched and dropped.
func Projection() engine.Projection {
	p := version(Version)
	p.Earlier = []engine.Projection{version(1)}
	return p
}

func version(n int) engine.Projection {
	return engine.Projection{
		Name:    "reservations",
		Version: n,
		Topics:  []string{wire.BookingTopic},
		Types: []domain.Event{
			groomer.Requested{}, groomer.Confirmed{}, groomer.Declined{}, groomer.Expired{}, groomer.Cancelled{},
			groomer.Rescheduled{}, groomer.CheckedIn{}, groomer.Completed{}, groomer.NoShow{},
		},
		Tables: []engine.AnyTable{Table},
		Keys:   keys,
		Fold:   fold,
	}
}

func keys(e engine.Event) []engine.Ref {
	if id := groomer.About(e.Event); id != "" {
		return []engine.Ref{Table.Ref(id)}
	}
	return nil
}

func fold(u *engine.Unit, e engine.Event) error {
	if r, ok := e.Event.(groomer.Requested); ok {
		Table.Put(u, opened(r, e))
		return nil
	}
	id := groomer.About(e.Event)
	row, ok, err := Table.Get(u, id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("reservation %s was never requested", id)
	}
	switch e := e.Event.(type) {
	case groomer.Confirmed:
		row.Status = string(groomer.StatusConfirmed)
	case groomer.Declined:
		row.Status, row.RefundPercent = string(groomer.StatusDeclined), &e.RefundPercent
	case groomer.Expired:
		row.Status, row.RefundPercent = string(groomer.StatusExpired), &e.RefundPercent
	case groomer.Cancelled:
		row.Status, row.RefundPercent = string(groomer.StatusCancelled), &e.RefundPercent
	case groomer.Rescheduled:
		row.StartAt, row.EndAt = e.Start, e.Start.Add(row.length())
		row.Moves++ // a version whose table lacks the column leaves it out
	case groomer.CheckedIn:
		row.Status = string(groomer.StatusCheckedIn)
	case groomer.Completed:
		row.Status = string(groomer.StatusCompleted)
	case groomer.NoShow:
		row.Status = string(groomer.StatusNoShow)
	}
	row.UpdatedAt, row.Revision = e.At, e.Revision
	Table.Put(u, row)
	return nil
}

func opened(r groomer.Requested, e engine.Event) Row {
	row := Row{
		ReservationID: r.ReservationID,
		GroomerID:     e.Key,
		CustomerID:    r.CustomerID,
		Status:        string(groomer.StatusRequested),
		StartAt:       r.Start,
		Minutes:       r.Minutes,
		Mode:          string(r.Mode),
		Dogs:          r.Dogs,
		VisitAddress:  r.VisitAddress,
		Phone:         r.Phone,
		Note:          r.Note,
		PriceKRW:      r.PriceKRW,
		Cancellation:  r.Cancellation,
		CreatedAt:     e.At,
		UpdatedAt:     e.At,
		Revision:      e.Revision,
	}
	row.EndAt = row.StartAt.Add(row.length())
	return row
}

func (r Row) length() time.Duration { return time.Duration(r.Minutes) * time.Minute }
