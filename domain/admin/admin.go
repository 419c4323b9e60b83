// Package admin is what is kept of admins, analysts and operators: each call that they made, noted before it was
// answered; and of whoever asked for such a call in vain. Nothing is decided here: whether somebody may call is said by the call itself.
package admin

import (
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// Catalog lists a zero value of every event type of the admin streams.
func Catalog() []domain.Event { return []domain.Event{Called{}, Refused{}} }

// Called notes that somebody asked to see or to do something; who, is the actor of the command. It is appended before
// the work, which may have come to nothing.
type Called struct {
	Operation string `json:"operation"`       // as the API names it: "retry-parked"
	About     string `json:"about,omitempty"` // what it was asked of: "reservations/kim"
}

// EventType is the stored name.
func (Called) EventType() string { return "admin.called.v1" }

// Refused notes how often somebody asked for what is not for their role, within a minute or so; who, is the actor of the
// command. A minute is one event whatever they do, so that nobody can flood the history with refusals.
type Refused struct {
	Operation string    `json:"operation"` // as the API names it: "list-events"
	Times     int       `json:"times"`
	Since     time.Time `json:"since"` // the first of them
}

// EventType is the stored name.
func (Refused) EventType() string { return "admin.refused.v1" }
