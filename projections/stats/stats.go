// Package stats is the read model behind daily statistics: one row per groomer and day of appointment.
//
// Counts are of what ever happened to the appointments of that day, not of how they stand now: a completed one is
// counted under requested, confirmed and completed. An appointment that moves takes its counts to its new day. A day
// that everything left has no row.
package stats

import (
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Version of the fold and of the table below.
const Version = 1

// Row is one day of one groomer, in the groomer's zone.
type Row struct {
	GroomerID  string `db:"groomer_id,pk"`
	Day        string `db:"day,pk"` // "2026-11-24"
	Requested  int64  `db:"requested"`
	Confirmed  int64  `db:"confirmed"`
	Declined   int64  `db:"declined"`
	Expired    int64  `db:"expired"`
	Cancelled  int64  `db:"cancelled"`
	Completed  int64  `db:"completed"`
	NoShows    int64  `db:"no_shows"`
	RevenueKRW int64  `db:"revenue_krw"` // of completed ones
}

// Table holds the rows; the index is for everybody's figures of some days.
var Table = engine.NewTable[Row]("stats", engine.Index{Name: "by_day", Columns: []string{"day", "groomer_id"}})

// Projection is the fold. Every event carries the day it counts for, so no other row is needed to find it.
func Projection() engine.Projection {
	return engine.Projection{
		Name:    "stats",
		Version: Version,
		Topics:  []string{wire.BookingTopic},
		Types: []domain.Event{
			groomer.Requested{}, groomer.Confirmed{}, groomer.Declined{}, groomer.Expired{}, groomer.Cancelled{},
			groomer.Rescheduled{}, groomer.Completed{}, groomer.NoShow{},
		},
		Tables: []engine.AnyTable{Table},
		Keys:   keys,
		Fold:   fold,
	}
}

// change is what an event adds to one day.
type change struct {
	day string
	add Row
}

func changes(e domain.Event) []change {
	switch e := e.(type) {
	case groomer.Requested:
		return []change{{e.Day, Row{Requested: 1}}}
	case groomer.Confirmed:
		return []change{{e.Day, Row{Confirmed: 1}}}
	case groomer.Declined:
		return []change{{e.Day, Row{Declined: 1}}}
	case groomer.Expired:
		return []change{{e.Day, Row{Expired: 1}}}
	case groomer.Cancelled:
		return []change{{e.Day, Row{Cancelled: 1}}}
	case groomer.Completed:
		return []change{{e.Day, Row{Completed: 1, RevenueKRW: e.PriceKRW}}}
	case groomer.NoShow:
		return []change{{e.Day, Row{NoShows: 1}}}
	case groomer.Rescheduled:
		if e.Day == e.FromDay {
			return nil
		}
		var confirmed int64
		if e.Status == groomer.StatusConfirmed {
			confirmed = 1
		}
		return []change{
			{e.FromDay, Row{Requested: -1, Confirmed: -confirmed}},
			{e.Day, Row{Requested: 1, Confirmed: confirmed}},
		}
	}
	return nil
}

func keys(e engine.Event) []engine.Ref {
	var refs []engine.Ref
	for _, c := range changes(e.Event) {
		refs = append(refs, Table.Ref(e.Key, c.day))
	}
	return refs
}

func fold(u *engine.Unit, e engine.Event) error {
	for _, c := range changes(e.Event) {
		row, _, err := Table.Get(u, e.Key, c.day)
		if err != nil {
			return err
		}
		row = Row{
			GroomerID:  e.Key,
			Day:        c.day,
			Requested:  row.Requested + c.add.Requested,
			Confirmed:  row.Confirmed + c.add.Confirmed,
			Declined:   row.Declined + c.add.Declined,
			Expired:    row.Expired + c.add.Expired,
			Cancelled:  row.Cancelled + c.add.Cancelled,
			Completed:  row.Completed + c.add.Completed,
			NoShows:    row.NoShows + c.add.NoShows,
			RevenueKRW: row.RevenueKRW + c.add.RevenueKRW,
		}
		if row == (Row{GroomerID: e.Key, Day: c.day}) {
			Table.Delete(u, e.Key, c.day)
			continue
		}
		Table.Put(u, row)
	}
	return nil
}
