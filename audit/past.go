package audit

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Store is an event store that finds moments.
type Store interface {
	eventstore.Store
	eventstore.Timeline
}

// Texts opens personal texts: sealed.Keys.
type Texts interface {
	Open(ctx context.Context, s domain.Sealed) (plain string, erased bool, err error)
}

// Past answers about the past. Store, Codec and Projections must be set.
type Past struct {
	Store       Store
	Codec       *eventstore.Codec
	Projections []engine.Projection // every version
	// Serves tells which version of a projection answers reads; found is false when nobody has said yet. Nil, or an error:
	// the newest is taken. The past does not depend on the read models.
	Serves func(ctx context.Context, projection string) (version int, found bool, err error)
	// Texts opens personal texts. Nil: they stay sealed, and the answer says so.
	Texts Texts
	// Now defaults to time.Now.
	Now func() time.Time
}

// At is the place in the store's order through which an answer was folded.
type At struct {
	Position uint64     `json:"position" doc:"Of the last event that counts; 0 is before the first"`
	Time     *time.Time `json:"time" doc:"When that event was recorded; null before the first"`
}

func at(p eventstore.Place) At {
	if p.Position == 0 {
		return At{}
	}
	return At{p.Position, &p.At}
}

// Event names a stored event.
type Event struct {
	ID       uuid.UUID `json:"id" format:"uuid"`
	Type     string    `json:"type"`
	Position uint64    `json:"position"`
}

// Command names what somebody asked for.
type Command struct {
	ID   uuid.UUID `json:"id" format:"uuid"`
	Name string    `json:"name" example:"cancel"`
}

// Actor is who asked.
type Actor struct {
	ID   string `json:"id"`
	Role string `json:"role"`
}

// Cause is the event that made something what it is, the command behind it and the person behind that.
type Cause struct {
	Event   Event     `json:"event"`
	Command Command   `json:"command"`
	Actor   Actor     `json:"actor"`
	At      time.Time `json:"at"`
}

// causeOf is an event with what its metadata tells. Metadata that cannot be read leave the rest empty: the event is there
// all the same.
func causeOf(r eventstore.Recorded) Cause {
	c := Cause{Event: Event{r.ID, r.Type, r.Position}, At: r.RecordedAt}
	if m, err := eventstore.DecodeMetadata(r.Metadata); err == nil {
		c.Command, c.Actor = Command{m.CommandID, m.Command}, Actor{m.Actor.ID, string(m.Actor.Role)}
	}
	return c
}

// Stopped is an event at which a fold cannot go on. The answer is of those before it.
type Stopped struct {
	Event Event  `json:"event"`
	Why   string `json:"why" doc:"An event type that this release lacks, or what the fold says"`
}

// Unopened are the personal texts of an answer that are null though they were given, by JSON Pointer.
type Unopened struct {
	Erased []string `json:"erased,omitempty" doc:"Texts that are null because their person had them erased"`
	Sealed []string `json:"sealed,omitempty" doc:"Texts that are null because they cannot be opened here: no key was given, or they are damaged"`
}
