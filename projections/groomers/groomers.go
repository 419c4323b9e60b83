// Package groomers is the read model behind finding a groomer: one row per salon, and the terms it is found by.
//
// A salon is listed as soon as its profile is known. Terms are rows of their own, so that a search is a walk along an
// index on every database: "area:seoul/gangnam-gu" (and "area:seoul", each part of an area finds it), "service:bath",
// "mode:visit".
package groomers

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/schedule"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Version of the fold and of the tables below.
const Version = 1

// What a row is made of, for those who read rows and do not know the domain.
type (
	Mode       = groomer.Mode
	MenuItem   = groomer.MenuItem
	Hours      = schedule.Hours
	RefundTier = groomer.RefundTier
)

// Row is a salon.
type Row struct {
	GroomerID             string       `db:"groomer_id,pk"`
	Zone                  string       `db:"zone"`
	Listed                bool         `db:"listed"`
	Name                  string       `db:"name,text"`
	Address               string       `db:"address,text"`
	Areas                 []string     `db:"areas"`
	Modes                 []Mode       `db:"modes"`
	Menu                  []MenuItem   `db:"menu"`
	Hours                 []Hours      `db:"hours"`
	BufferMinutes         int          `db:"buffer_minutes"`
	MinNoticeMinutes      int          `db:"min_notice_minutes"`
	HorizonDays           int          `db:"horizon_days"`
	Booking               string       `db:"booking"`
	RequestExpiresMinutes int          `db:"request_expires_minutes"`
	Cancellation          []RefundTier `db:"cancellation"`
	Revision              uint64       `db:"revision"` // of its stream, at the last event that changed this row
}

// Term is one thing that a salon is found by.
type Term struct {
	Term      string `db:"term,pk"`
	GroomerID string `db:"groomer_id,pk"`
}

// The tables.
var (
	Table = engine.NewTable[Row]("groomers", engine.Index{Name: "listed", Columns: []string{"listed", "groomer_id"}})
	Terms = engine.NewTable[Term]("groomer_terms", engine.Index{Name: "by_groomer", Columns: []string{"groomer_id", "term"}})
)

// Projection is the fold.
func Projection() engine.Projection {
	return engine.Projection{
		Name:    "groomers",
		Version: Version,
		Topics:  []string{wire.BookingTopic},
		Types: []domain.Event{
			groomer.Registered{}, groomer.ProfileChanged{}, groomer.MenuChanged{}, groomer.HoursChanged{},
			groomer.PoliciesChanged{},
		},
		Tables: []engine.AnyTable{Table, Terms},
		Keys:   func(e engine.Event) []engine.Ref { return []engine.Ref{Table.Ref(e.Key)} },
		Fold:   fold,
	}
}

func fold(u *engine.Unit, e engine.Event) error {
	row, ok, err := Table.Get(u, e.Key)
	if err != nil {
		return err
	}
	if _, first := e.Event.(groomer.Registered); !ok && !first {
		return fmt.Errorf("groomer %s was never registered", e.Key)
	}
	before := row.terms()
	switch e := e.Event.(type) {
	case groomer.Registered:
		row.GroomerID, row.Zone = e.GroomerID, e.Zone
	case groomer.ProfileChanged:
		row.Listed = true
		row.Name, row.Address, row.Areas, row.Modes = e.Name, e.Address, e.Areas, e.Modes
	case groomer.MenuChanged:
		row.Menu = e.Menu
	case groomer.HoursChanged:
		row.Hours = e.Hours
	case groomer.PoliciesChanged:
		row.BufferMinutes, row.MinNoticeMinutes, row.HorizonDays = e.BufferMinutes, e.MinNoticeMinutes, e.HorizonDays
		row.Booking, row.RequestExpiresMinutes = string(e.Booking), e.RequestExpiresMinutes
		row.Cancellation = e.Cancellation
	}
	row.Revision = e.Revision
	Table.Put(u, row)

	after := row.terms()
	for _, t := range before {
		if !slices.Contains(after, t) {
			Terms.Delete(u, t, row.GroomerID)
		}
	}
	for _, t := range after {
		if !slices.Contains(before, t) {
			Terms.Put(u, Term{t, row.GroomerID})
		}
	}
	return nil
}

// AreaTerm, ServiceTerm and ModeTerm spell the terms of a search.
func AreaTerm(area string) string       { return "area:" + area }
func ServiceTerm(service string) string { return "service:" + service }
func ModeTerm(mode string) string       { return "mode:" + mode }

// MaxArea is the longest area that a salon is found by, in characters: with its prefix it fits a key column. A longer
// one is shown and not found.
const MaxArea = 180

// terms lists what the salon is found by, each once.
func (r Row) terms() []string {
	var terms []string
	for _, area := range r.Areas {
		for i, c := range area + "/" {
			if c == '/' && utf8.RuneCountInString(area[:i]) <= MaxArea {
				terms = append(terms, AreaTerm(area[:i]))
			}
		}
	}
	for _, item := range r.Menu {
		terms = append(terms, ServiceTerm(item.Service))
	}
	for _, m := range r.Modes {
		terms = append(terms, ModeTerm(string(m)))
	}
	slices.Sort(terms)
	return slices.Compact(terms)
}
