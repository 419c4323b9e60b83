// Package admin is what is kept of admins, analysts and operators: each call that they made, noted before it was
// answered. Nothing is decided here: whether somebody may call is said by the call itself.
package admin

import "github.com/dangdangsalon/salon/domain"

// Catalog lists a zero value of every event type of the admin streams.
func Catalog() []domain.Event { return []domain.Event{Called{}} }

// Called notes that somebody asked to see or to do something; who, is the actor of the command. It is appended before
// the work, which may have come to nothing.
type Called struct {
	Operation string `json:"operation"`       // as the API names it: "retry-parked"
	About     string `json:"about,omitempty"` // what it was asked of: "reservations/kim"
}

// EventType is the stored name.
func (Called) EventType() string { return "admin.called.v1" }
