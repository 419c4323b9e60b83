package audit

import (
	"iter"
	"reflect"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/eventstore"
)

// subject is what is folded: the state of a stream, or the rows of an ordering key. It consists of parts, which change one
// by one, so that what an event changed is found without a look at everything else.
type subject interface {
	// step folds an event; after an error it is as it was before.
	step(r eventstore.Recorded) error
	// touched yields the parts that changed since it was last asked.
	touched() iter.Seq[part]
}

// part is one part of a subject. Its value, nil when it is no more, is never written to.
type part struct {
	path  []string
	value any
	show  func(value any) (any, error) // as JSON
}

// aggregate is a kind of stream: how its state is folded, and of what parts it consists.
type aggregate struct {
	zero   any
	evolve func(state any, f domain.Fact) any
	parts  func(state any) iter.Seq2[[]string, any]
	lists  []string // parts with a list each, shown also when it is empty
}

func kindOf[S any](evolve func(S, domain.Fact) S) aggregate {
	var zero S
	return aggregate{
		zero:   zero,
		evolve: func(s any, f domain.Fact) any { return evolve(s.(S), f) },
		parts:  func(s any) iter.Seq2[[]string, any] { return fieldsOf(s) },
	}
}

// aggregateOf finds the kind by the stream's category.
func aggregateOf(stream string) (aggregate, bool) {
	category, _, _ := strings.Cut(stream, "-")
	switch category {
	case "groomer":
		a := kindOf(groomer.Evolve)
		a.parts, a.lists = bookParts, []string{"holds", "reservations", "kept", "time_off"}
		return a, true
	case "chat":
		return kindOf(chat.Evolve), true
	case "chatread":
		return kindOf(chat.EvolveRead), true
	case "inbox":
		return kindOf(inbox.Evolve), true
	case "admin":
		return kindOf(evolveCalls), true
	}
	return aggregate{}, false
}

// fieldsOf yields the fields of a state by their JSON names, but those left out.
func fieldsOf(state any, without ...string) iter.Seq2[[]string, any] {
	return func(yield func([]string, any) bool) {
		v := reflect.ValueOf(state)
	fields:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			for _, w := range without {
				if w == name {
					continue fields
				}
			}
			if !yield([]string{name}, v.Field(i).Interface()) {
				return
			}
		}
	}
}

// bookParts are the parts of a groomer's book: each hold, reservation and time off by its ID. What only serves to decide
// faster is left out: the index of all IDs, and the reservation that changed last.
func bookParts(state any) iter.Seq2[[]string, any] {
	g := state.(groomer.Groomer)
	return func(yield func([]string, any) bool) {
		for path, v := range fieldsOf(g, "holds", "reservations", "kept", "time_off", "ids", "latest") {
			if !yield(path, v) {
				return
			}
		}
		for h := range g.Holds.All() {
			if !yield([]string{"holds", h.HoldID}, h) {
				return
			}
		}
		for r := range g.Reservations.All() {
			if !yield([]string{"reservations", r.ReservationID}, r) {
				return
			}
		}
		for r := range g.Kept.All() {
			if !yield([]string{"kept", r.ReservationID}, r) {
				return
			}
		}
		for t := range g.TimeOff.All() {
			if !yield([]string{"time_off", t.TimeOffID}, t) {
				return
			}
		}
	}
}

// calls is what the stream of an admin's calls comes to. Nothing is decided by it, so it is folded here alone.
type calls struct {
	Calls     uint64    `json:"calls"`
	Operation string    `json:"operation"` // the last one
	About     string    `json:"about"`
	CalledAt  time.Time `json:"called_at"`
}

func evolveCalls(c calls, f domain.Fact) calls {
	if e, ok := f.Event.(admin.Called); ok {
		c = calls{c.Calls + 1, e.Operation, e.About, f.At}
	}
	return c
}

// streamSubject is a stream's state.
type streamSubject struct {
	aggregate

	codec *eventstore.Codec
	state any
	begun bool
	seen  map[string]part // when it was last asked
}

func (s *streamSubject) step(r eventstore.Recorded) error {
	f, err := s.codec.Fact(r)
	if err != nil {
		return err
	}
	s.state, s.begun = s.evolve(s.state, f), true
	return nil
}

func (s *streamSubject) touched() iter.Seq[part] {
	return func(yield func(part) bool) {
		if !s.begun {
			return
		}
		before := s.seen
		s.seen = make(map[string]part, len(before))
		var changed []part
		for path, v := range s.parts(s.state) {
			p := part{path, v, valueOf}
			key := pointer(path...)
			s.seen[key] = p
			// Parts that are the same pointer are equal at once: a fold shares what it does not change.
			if was, there := before[key]; !there || !reflect.DeepEqual(was.value, v) {
				changed = append(changed, p)
			}
		}
		for key, was := range before {
			if _, still := s.seen[key]; !still {
				changed = append(changed, part{was.path, nil, valueOf})
			}
		}
		for _, p := range changed {
			if !yield(p) {
				return
			}
		}
	}
}
