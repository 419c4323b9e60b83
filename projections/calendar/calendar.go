// Package calendar is the read model behind free slots and time off: what a salon offers when, and what is taken.
//
// A row of [Intervals] is there as long as it takes its time: a hold until it is used, given back or dead; a
// reservation until it is declined, expired or cancelled; time off until it is removed. What merely passes is swept up
// by later events of the same salon (see sweep.go), so a salon's rows are bounded by its future, not by its age.
//
// [Free] tells the free starts. It is advisory: the groomer's stream decides. Given the same facts it agrees with that
// decision exactly.
package calendar

import (
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/schedule"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Version of the fold and of the tables below.
const Version = 1

// Topic is what the projection reads.
const Topic = wire.BookingTopic

// Salon is what free slots need to know of one groomer.
type Salon struct {
	GroomerID        string             `db:"groomer_id,pk"`
	Zone             string             `db:"zone"`
	Menu             []groomer.MenuItem `db:"menu"`
	Modes            []groomer.Mode     `db:"modes"`
	Hours            []schedule.Hours   `db:"hours"`
	BufferMinutes    int                `db:"buffer_minutes"`
	MinNoticeMinutes int                `db:"min_notice_minutes"`
	HorizonDays      int                `db:"horizon_days"`
}

// The kinds of intervals.
const (
	Hold        = "hold"
	Reservation = "reservation"
	TimeOff     = "time_off"
)

// Interval is time that is taken.
type Interval struct {
	ID         string        `db:"id,pk"` // of the hold, reservation or time off
	Kind       string        `db:"kind"`
	GroomerID  string        `db:"groomer_id"`
	CustomerID string        `db:"customer_id"` // "" for time off
	StartAt    time.Time     `db:"start_at"`
	EndAt      time.Time     `db:"end_at"`
	BusyUntil  time.Time     `db:"busy_until"` // EndAt and the buffer that was frozen with it
	ExpiresAt  time.Time     `db:"expires_at"` // of a hold: dead from then on
	Reason     domain.Sealed `db:"reason"`     // of time off
}

// The tables. The indexes are what one salon has ahead of it, and the list of its time off.
var (
	Salons    = engine.NewTable[Salon]("calendar_salons")
	Intervals = engine.NewTable[Interval]("calendar_intervals",
		engine.Index{Name: "by_groomer", Columns: []string{"groomer_id", "busy_until"}},
		engine.Index{Name: "by_kind", Columns: []string{"groomer_id", "kind", "start_at", "id"}},
	)
)

// Projection is the fold into SQL.
func Projection() engine.Projection {
	return engine.Projection{
		Name:    "calendar",
		Version: Version,
		Topics:  []string{Topic},
		Types: []domain.Event{
			groomer.Registered{}, groomer.ProfileChanged{}, groomer.MenuChanged{}, groomer.HoursChanged{}, groomer.PoliciesChanged{},
			groomer.TimeOffAdded{}, groomer.TimeOffRemoved{},
			groomer.SlotHeld{}, groomer.HoldReleased{},
			groomer.Requested{}, groomer.Declined{}, groomer.Expired{}, groomer.Cancelled{}, groomer.Rescheduled{},
		},
		Tables: []engine.AnyTable{Salons, Intervals, passings},
		Keys:   keys,
		Fold:   fold,
	}
}

// View is the same fold into Redis, from which slots are served.
func View() engine.Projection {
	return Projection().InRedis("slots")
}

func keys(e engine.Event) []engine.Ref {
	switch ev := e.Event.(type) {
	case groomer.Registered, groomer.ProfileChanged, groomer.MenuChanged, groomer.HoursChanged, groomer.PoliciesChanged:
		return []engine.Ref{Salons.Ref(e.Key)}
	case groomer.SlotHeld:
		return []engine.Ref{passingRef(e.Key, ev.Start)}
	case groomer.Requested:
		return []engine.Ref{passingRef(e.Key, ev.Start)}
	case groomer.TimeOffAdded:
		return []engine.Ref{passingRef(e.Key, ev.To)}
	case groomer.Rescheduled:
		return []engine.Ref{Intervals.Ref(ev.ReservationID), passingRef(e.Key, ev.Start), passingRef(e.Key, ev.FromStart)}
	}
	return nil // the others only delete
}

func fold(u *engine.Unit, e engine.Event) error {
	switch ev := e.Event.(type) {
	case groomer.Registered, groomer.ProfileChanged, groomer.MenuChanged, groomer.HoursChanged, groomer.PoliciesChanged:
		return foldSalon(u, e)
	case groomer.SlotHeld:
		i := interval(Hold, ev.HoldID, e.Key, ev.Visit)
		i.ExpiresAt = ev.ExpiresAt
		return take(u, e, i)
	case groomer.Requested:
		if ev.HoldID != "" {
			Intervals.Delete(u, ev.HoldID)
		}
		return take(u, e, interval(Reservation, ev.ReservationID, e.Key, ev.Visit))
	case groomer.TimeOffAdded:
		return take(u, e, Interval{
			ID: ev.TimeOffID, Kind: TimeOff, GroomerID: e.Key, StartAt: ev.From, EndAt: ev.To, BusyUntil: ev.To, Reason: ev.Reason,
		})
	case groomer.Rescheduled:
		return move(u, e, ev)
	case groomer.HoldReleased:
		Intervals.Delete(u, ev.HoldID)
	case groomer.TimeOffRemoved:
		Intervals.Delete(u, ev.TimeOffID)
	case groomer.Declined:
		Intervals.Delete(u, ev.ReservationID)
	case groomer.Expired:
		Intervals.Delete(u, ev.ReservationID)
	case groomer.Cancelled:
		Intervals.Delete(u, ev.ReservationID)
	}
	return nil
}

func foldSalon(u *engine.Unit, e engine.Event) error {
	row, ok, err := Salons.Get(u, e.Key)
	if err != nil {
		return err
	}
	if _, first := e.Event.(groomer.Registered); !ok && !first {
		return fmt.Errorf("groomer %s was never registered", e.Key)
	}
	switch ev := e.Event.(type) {
	case groomer.Registered:
		row.GroomerID, row.Zone = ev.GroomerID, ev.Zone
	case groomer.ProfileChanged:
		row.Modes = ev.Modes
	case groomer.MenuChanged:
		row.Menu = ev.Menu
	case groomer.HoursChanged:
		row.Hours = ev.Hours
	case groomer.PoliciesChanged:
		row.BufferMinutes, row.MinNoticeMinutes, row.HorizonDays = ev.BufferMinutes, ev.MinNoticeMinutes, ev.HorizonDays
	}
	Salons.Put(u, row)
	return nil
}

func interval(kind, id, groomerID string, v groomer.Visit) Interval {
	end := v.Start.Add(minutes(v.Minutes))
	return Interval{
		ID: id, Kind: kind, GroomerID: groomerID, CustomerID: v.CustomerID,
		StartAt: v.Start, EndAt: end, BusyUntil: end.Add(minutes(v.BufferMinutes)),
	}
}

func move(u *engine.Unit, e engine.Event, to groomer.Rescheduled) error {
	row, ok, err := Intervals.Get(u, to.ReservationID)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("reservation %s, which moves, takes no time", to.ReservationID)
	}
	if err := forget(u, e, to.FromStart, row.ID); err != nil {
		return err
	}
	length := row.EndAt.Sub(row.StartAt)
	row.StartAt, row.EndAt = to.Start, to.Start.Add(length)
	row.BusyUntil = row.EndAt.Add(minutes(to.BufferMinutes))
	return take(u, e, row)
}

func minutes(n int) time.Duration { return time.Duration(n) * time.Minute }

// DayStart is the first instant, in the zone, of the day n days after a date ("2026-11-24"): midnight, except where
// clocks jump over it.
func DayStart(date string, n int, zone *time.Location) (time.Time, error) {
	d, err := schedule.ParseDate(date)
	if err != nil {
		return time.Time{}, err
	}
	return d.AddDays(n).Start(zone), nil
}
