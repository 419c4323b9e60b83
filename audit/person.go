package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// Mention is an event that a person gave, or that is about them: a line of what they are handed when they ask for all that is
// kept of them.
type Mention struct {
	Position   uint64              `json:"position"`
	Stream     string              `json:"stream"`
	Revision   eventstore.Revision `json:"revision"`
	ID         uuid.UUID           `json:"id"`
	Type       string              `json:"type"`
	RecordedAt time.Time           `json:"recorded_at"`
	Command    Command             `json:"command"`
	Actor      Actor               `json:"actor"`
	Data       any                 `json:"data" doc:"With the person's own texts opened"`
	Unopened
}

// errOthers is a text of somebody else.
var errOthers = errors.New("another person's text")

// ownTexts opens one person's.
type ownTexts struct {
	Texts
	subject string
}

func (o ownTexts) Open(ctx context.Context, s domain.Sealed) (plain string, erased bool, err error) {
	if s.Subject != o.subject {
		return "", false, errOthers
	}
	return o.Texts.Open(ctx, s)
}

// Mentions tells every event that a person gave or that is about them, in the store's order, as of now: those of their own
// streams, those that name them or have texts of theirs, and those of the reservations and rooms that such an event began.
// Texts of others in them stay sealed. The whole store is read; what is remembered meanwhile are the person's reservations
// and holds.
func (p *Past) Mentions(ctx context.Context, person domain.Actor, told func(Mention) error) error {
	head, err := p.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("look for the store's head: %w", err)
	}
	of := mentioned{person: person, things: map[string]bool{}}
	for r, err := range p.Store.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if r.Position > head.Position {
			return nil
		}
		var data any
		if err := json.Unmarshal(r.Data, &data); err != nil {
			return fmt.Errorf("event %d: %w", r.Position, err)
		}
		cause := causeOf(r)
		if !of.event(r, cause.Actor, data) {
			continue
		}
		m := Mention{
			Position: r.Position, Stream: r.Stream, Revision: r.Revision, ID: r.ID, Type: r.Type, RecordedAt: r.RecordedAt,
			Command: cause.Command, Actor: cause.Actor,
		}
		var o opening
		if p.Texts != nil {
			o.texts = ownTexts{p.Texts, person.Subject()}
		}
		if m.Data, err = o.open(ctx, "", texts(data)); err != nil {
			return err
		}
		m.Unopened = o.unopened
		if err := told(m); err != nil {
			return err
		}
	}
	return nil
}

// mentioned knows by what a person is found in events.
type mentioned struct {
	person domain.Actor
	things map[string]bool // IDs of holds and reservations of theirs; a room has its reservation's
}

func (m mentioned) event(r eventstore.Recorded, by Actor, data any) bool {
	a := m.person
	theirs := by.ID == a.ID && by.Role == string(a.Role) || a.Role == domain.Groomer && r.Stream == "groomer-"+a.ID ||
		strings.HasSuffix(r.Stream, "-"+string(a.Role)+"-"+a.ID) || m.things[strings.TrimPrefix(r.Stream, "chat-")]
	if !theirs && !m.names(data) {
		return false
	}
	if o, ok := data.(map[string]any); ok && a.Role == domain.Customer { // a groomer's all stand in the groomer's stream
		for _, k := range []string{"hold_id", "reservation_id"} {
			if id, _ := o[k].(string); id != "" {
				m.things[id] = true
			}
		}
	}
	return true
}

// names tells whether a value names the person, has a text of theirs, or a thing of theirs.
func (m mentioned) names(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		if s, ok := sealedText(v); ok {
			return s.Subject == m.person.Subject()
		}
		if v["id"] == m.person.ID && v["role"] == string(m.person.Role) || v[string(m.person.Role)+"_id"] == m.person.ID {
			return true
		}
		for k, x := range v {
			if id, _ := x.(string); (k == "hold_id" || k == "reservation_id") && m.things[id] || m.names(x) {
				return true
			}
		}
	case []any:
		for _, x := range v {
			if m.names(x) {
				return true
			}
		}
	}
	return false
}
