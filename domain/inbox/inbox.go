// Package inbox decides how far a person has read their inbox of notifications.
//
// What stands in an inbox is the projections' business; here is only the mark. It is a position of the store, since
// that is what notifications are in order of, and it only moves forward. Pure, as all of domain: no clock, no I/O.
package inbox

import "github.com/dangdangsalon/salon/domain"

// FoldVersion names what the fold makes of a history, as groomer.FoldVersion does.
const FoldVersion = 1

// Catalog lists a zero value of every event type of the inbox streams.
func Catalog() []domain.Event { return []domain.Event{Read{}} }

// Read moves a person's read mark forward: every notification of an event up to Through is read.
type Read struct {
	Reader  domain.Actor `json:"reader"`
	Through uint64       `json:"through"` // a position of the store
}

// EventType is the stored name.
func (Read) EventType() string { return "inbox.read.v1" }

// Mark is how far one person has read. The zero value has read nothing.
type Mark struct {
	Through uint64 `json:"through"`
}

// Evolve folds a fact into the mark.
func Evolve(m Mark, f domain.Fact) Mark {
	if e, ok := f.Event.(Read); ok {
		m.Through = e.Through
	}
	return m
}

// Read moves the mark forward. One that is there already stays, without an event. head is the end of the store: nobody
// has read what has not happened, and a mark beyond it would swallow what is still to come.
func (m Mark) Read(reader domain.Actor, through, head uint64) ([]domain.Event, error) {
	if through > head {
		return nil, domain.Refuse("request.invalid", "through: there is no such notification yet")
	}
	if through <= m.Through {
		return nil, nil
	}
	return []domain.Event{Read{Reader: reader, Through: through}}, nil
}
