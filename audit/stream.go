package audit

import (
	"iter"
	"reflect"
	"slices"
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
	// decode makes of an event what step takes. It depends on nothing that step changes, and may run beside it.
	decode(r eventstore.Recorded) (any, error)
	// step folds an event; after an error it is as it was before.
	step(decoded any) error
	// touched yields the parts that changed since it was last asked.
	touched() iter.Seq[part]
}

// part is one part of a subject: not valid when it is no more, else never written to.
type part struct {
	path  []string
	value reflect.Value
	shape *shape
}

// show is the part as a value.
func (p part) show() (any, error) { return p.shape.spell(p.value) }

// aggregate is a kind of stream: how its state is folded, and of which parts it consists.
type aggregate struct {
	zero   any
	evolve func(state any, f domain.Fact) any
	fields []field // each of which is a part
	lists  []list  // each item of which is one
}

// field is a field of a state.
type field struct {
	name  string // in JSON
	index int
	shape *shape
}

// list is a list of a state by the IDs of its items.
type list struct {
	name  string
	item  *shape
	since func(was, is any, tell func(id string, item reflect.Value)) // the items that are not the same; not valid: no more
}

// kindOf makes an aggregate that shows every field of its state but those left out.
func kindOf[S any](evolve func(S, domain.Fact) S, without ...string) aggregate {
	var zero S
	a := aggregate{zero: zero, evolve: func(s any, f domain.Fact) any { return evolve(s.(S), f) }}
	t := reflect.TypeFor[S]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && !slices.Contains(without, name) {
			a.fields = append(a.fields, field{name, i, shapeOf(t.Field(i).Type)})
		}
	}
	return a
}

// listOf makes a list of a groomer's book.
func listOf[T any](name string, since func(was, is groomer.Groomer) iter.Seq2[string, *T]) list {
	return list{name, shapeOf(reflect.TypeFor[*T]()), func(was, is any, tell func(id string, item reflect.Value)) {
		for id, item := range since(was.(groomer.Groomer), is.(groomer.Groomer)) {
			v := reflect.Value{}
			if item != nil {
				v = reflect.ValueOf(item)
			}
			tell(id, v)
		}
	}}
}

// aggregateOf finds the kind by the stream's category.
func aggregateOf(stream string) (aggregate, bool) {
	category, _, _ := strings.Cut(stream, "-")
	switch category {
	case "groomer":
		// What only serves to decide faster is left out: the index of all IDs, and the reservation that changed last.
		a := kindOf(groomer.Evolve, "ids", "latest", "holds", "reservations", "kept", "time_off")
		type g = groomer.Groomer
		a.lists = []list{
			listOf("holds", func(was, is g) iter.Seq2[string, *groomer.Hold] { return is.Holds.Since(was.Holds) }),
			listOf("reservations", func(was, is g) iter.Seq2[string, *groomer.Reservation] {
				return is.Reservations.Since(was.Reservations)
			}),
			listOf("kept", func(was, is g) iter.Seq2[string, *groomer.Reservation] { return is.Kept.Since(was.Kept) }),
			listOf("time_off", func(was, is g) iter.Seq2[string, *groomer.TimeOff] { return is.TimeOff.Since(was.TimeOff) }),
		}
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

// calls is what the stream of an admin's calls comes to. Nothing is decided by it, so it is folded here alone.
type calls struct {
	Calls     uint64    `json:"calls"`
	Operation string    `json:"operation"` // the last one
	About     string    `json:"about"`
	CalledAt  time.Time `json:"called_at"`
	Refused   int       `json:"refused"` // how often they asked for what is not for their role
}

func evolveCalls(c calls, f domain.Fact) calls {
	switch e := f.Event.(type) {
	case admin.Called:
		c.Calls, c.Operation, c.About, c.CalledAt = c.Calls+1, e.Operation, e.About, f.At
	case admin.Refused:
		c.Refused += e.Times
	}
	return c
}

// streamSubject is a stream's state.
type streamSubject struct {
	aggregate

	codec *eventstore.Codec
	state any
	begun bool
	seen  any // the state when it was last asked for what changed; nil before
}

func (s *streamSubject) decode(r eventstore.Recorded) (any, error) { return s.codec.Fact(r) }

func (s *streamSubject) step(decoded any) error {
	s.state, s.begun = s.evolve(s.state, decoded.(domain.Fact)), true
	return nil
}

func (s *streamSubject) touched() iter.Seq[part] {
	return func(yield func(part) bool) {
		if !s.begun {
			return
		}
		was, all := s.seen, s.seen == nil
		if all {
			was = s.zero
		}
		s.seen = s.state
		before, now := reflect.ValueOf(was), reflect.ValueOf(s.state)
		for _, f := range s.fields {
			v := now.Field(f.index)
			if (all || !same(before.Field(f.index), v)) && !yield(part{[]string{f.name}, v, f.shape}) {
				return
			}
		}
		for _, l := range s.lists {
			more := true
			l.since(was, s.state, func(id string, item reflect.Value) {
				more = more && yield(part{[]string{l.name, id}, item, l.item})
			})
			if !more {
				return
			}
		}
	}
}
