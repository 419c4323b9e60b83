package audit

import (
	"cmp"
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

// piece is a part of a stream's state: a field of it, or an item of one of its lists.
type piece struct {
	place int // of the field or list in the state
	name  string
	id    string // of an item
	value any
}

func (p piece) part() part {
	if p.id == "" {
		return part{[]string{p.name}, p.value, valueOf}
	}
	return part{[]string{p.name, p.id}, p.value, valueOf}
}

// compare is by the order in which pieces are listed.
func (p piece) compare(q piece) int {
	return cmp.Or(cmp.Compare(p.place, q.place), cmp.Compare(p.id, q.id))
}

// same tells whether a piece is what it was. Items are pointers, and a fold shares those that it does not change.
func (p piece) same(q piece) bool {
	if p.id != "" {
		return p.value == q.value
	}
	return reflect.DeepEqual(p.value, q.value)
}

// aggregate is a kind of stream: how its state is folded, and of what it consists.
type aggregate struct {
	zero   any
	evolve func(state any, f domain.Fact) any
	fields []field                                              // that are shown
	items  func(state any, add func(list, id string, item any)) // of the lists, by ID
	lists  []string
}

// field is a field of a state by its JSON name.
type field struct {
	name  string
	index int
}

// kindOf makes an aggregate that shows every field of its state but those left out.
func kindOf[S any](evolve func(S, domain.Fact) S, without ...string) aggregate {
	var zero S
	a := aggregate{zero: zero, evolve: func(s any, f domain.Fact) any { return evolve(s.(S), f) }}
	t := reflect.TypeFor[S]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && !slices.Contains(without, name) {
			a.fields = append(a.fields, field{name, i})
		}
	}
	return a
}

// aggregateOf finds the kind by the stream's category.
func aggregateOf(stream string) (aggregate, bool) {
	category, _, _ := strings.Cut(stream, "-")
	switch category {
	case "groomer":
		// What only serves to decide faster is left out: the index of all IDs, and the reservation that changed last.
		lists := []string{"holds", "reservations", "kept", "time_off"}
		a := kindOf(groomer.Evolve, append([]string{"ids", "latest"}, lists...)...)
		a.lists, a.items = lists, bookItems
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

// bookItems are the holds, reservations and times off of a groomer's book.
func bookItems(state any, add func(list, id string, item any)) {
	g := state.(groomer.Groomer)
	for h := range g.Holds.All() {
		add("holds", h.HoldID, h)
	}
	for r := range g.Reservations.All() {
		add("reservations", r.ReservationID, r)
	}
	for r := range g.Kept.All() {
		add("kept", r.ReservationID, r)
	}
	for t := range g.TimeOff.All() {
		add("time_off", t.TimeOffID, t)
	}
}

// pieces lists a state, in order, behind what is in into.
func (a *aggregate) pieces(state any, into []piece) []piece {
	v := reflect.ValueOf(state)
	for _, f := range a.fields {
		into = append(into, piece{f.index, f.name, "", v.Field(f.index).Interface()})
	}
	if a.items != nil {
		a.items(state, func(list, id string, item any) {
			into = append(into, piece{v.NumField() + slices.Index(a.lists, list), list, id, item})
		})
	}
	return into
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
	seen  []piece // when it was last asked
	spare []piece
}

func (s *streamSubject) step(r eventstore.Recorded) error {
	f, err := s.codec.Fact(r)
	if err != nil {
		return err
	}
	s.state, s.begun = s.evolve(s.state, f), true
	return nil
}

// touched walks along the pieces as they were and as they are.
func (s *streamSubject) touched() iter.Seq[part] {
	return func(yield func(part) bool) {
		if !s.begun {
			return
		}
		was, is := s.seen, s.pieces(s.state, s.spare[:0])
		s.seen, s.spare = is, was
		for len(was)+len(is) > 0 {
			var order int // which of the two comes first
			switch {
			case len(was) == 0:
				order = 1
			case len(is) == 0:
				order = -1
			default:
				order = was[0].compare(is[0])
			}
			changed := true
			var p piece
			if order <= 0 {
				p = was[0]
				was = was[1:]
			}
			if order >= 0 {
				changed = order > 0 || !p.same(is[0])
				p = is[0]
				is = is[1:]
			} else {
				p.value = nil
			}
			if changed && !yield(p.part()) {
				return
			}
		}
	}
}
