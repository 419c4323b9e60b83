// Package domain holds what every decision shares: events, facts, actors, refusals and sealed personal text.
//
// The packages below it (groomer, chat, schedule) decide. They are pure: no clock, no identifier, no I/O; the
// caller passes those in. Only the standard library is imported here.
package domain

import (
	"fmt"
	"time"
)

// Event is something that happened, in the past tense, small and permanent.
//
// An event type is stored for ever under its EventType. A compatible change is a new optional field; anything else
// is a new type with the next version and an upcaster in eventstore/upcast.go.
type Event interface {
	// EventType is the stored name, spelled by hand and versioned: "reservation.confirmed.v1".
	EventType() string
}

// Fact is an event as it stands in its stream: what happened, and what the store and the command add to it.
type Fact struct {
	Event    Event
	Revision uint64    // of the stream, from 0
	At       time.Time // recorded_at, UTC, microseconds; never goes back within a store
	By       Actor
}

// Role is what somebody may be. It comes from a verified token, never from a request.
type Role string

// The roles of API.md, and the system itself (process managers).
const (
	Customer Role = "customer"
	Groomer  Role = "groomer"
	Admin    Role = "admin"
	Analyst  Role = "analyst"
	System   Role = "system"
)

// Actor is who did it. Customer kim is not groomer kim: both fields together are the identity.
type Actor struct {
	ID   string `json:"id"`
	Role Role   `json:"role"`
}

// Subject is the actor as one string, "customer:kim": the owner of personal keys.
func (a Actor) Subject() string { return string(a.Role) + ":" + a.ID }

// Refusal is a decision's no: a rule of the salon that the request breaks. Nothing was recorded.
// Code is API (API.md lists them and internal/problem gives each its status); Detail is wording for people.
type Refusal struct {
	Code   string
	Detail string
}

func (r Refusal) Error() string { return r.Code + ": " + r.Detail }

// Is lets errors.Is compare refusals by code alone.
func (r Refusal) Is(target error) bool {
	t, ok := target.(Refusal)
	return ok && t.Code == r.Code
}

// Refuse makes a Refusal with a formatted detail.
func Refuse(code, format string, args ...any) Refusal {
	return Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}
