package groomer

import (
	"encoding/json"
	"errors"
	"iter"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// chunk is how many pointers a change copies at most, besides one slice header per chunk: least for lists of a thousand.
const chunk = 64

// List is a collection of the state, sorted by ID. It is never changed: what adds or removes gives another list, which
// shares all chunks but one with the old. As JSON it is a plain array.
//
// A flat slice would do, but copying a thousand pointers costs several microseconds a fact, most of it the garbage
// collector's.
type List[P keyed] struct {
	chunks [][]P // none empty
	bytes  int   // the sum of all sizes
}

// keyed is what lists are sorted by, and about how much memory one takes.
type keyed interface {
	comparable
	key() string
	size() int
}

func (h *Hold) key() string        { return h.HoldID }
func (r *Reservation) key() string { return r.ReservationID }
func (t *TimeOff) key() string     { return t.TimeOffID }

// All yields what is in the list, by ID. Do not write into it.
func (l List[P]) All() iter.Seq[P] {
	return func(yield func(P) bool) {
		for _, c := range l.chunks {
			for _, p := range c {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// Since yields what is not in both lists, by ID: as it is in this one, nil when it was in the other alone. Of two lists of which
// one was made from the other, it looks at the chunks alone that they do not share.
func (l List[P]) Since(other List[P]) iter.Seq2[string, P] {
	return func(yield func(string, P) bool) {
		was, is := other.chunks, l.chunks
		for len(was) > 0 && len(is) > 0 && shared(was[0], is[0]) {
			was, is = was[1:], is[1:]
		}
		for len(was) > 0 && len(is) > 0 && shared(was[len(was)-1], is[len(is)-1]) {
			was, is = was[:len(was)-1], is[:len(is)-1]
		}
		before, now := slices.Concat(was...), slices.Concat(is...)
		var none P
		for len(before) > 0 || len(now) > 0 {
			switch {
			case len(now) == 0 || len(before) > 0 && before[0].key() < now[0].key():
				if !yield(before[0].key(), none) {
					return
				}
				before = before[1:]
			case len(before) == 0 || now[0].key() < before[0].key():
				if !yield(now[0].key(), now[0]) {
					return
				}
				now = now[1:]
			default:
				if before[0] != now[0] && !yield(now[0].key(), now[0]) {
					return
				}
				before, now = before[1:], now[1:]
			}
		}
	}
}

// shared reports that two chunks are one: none is ever written to.
func shared[P keyed](a, b []P) bool { return len(a) == len(b) && &a[0] == &b[0] }

// Len counts.
func (l List[P]) Len() int {
	n := 0
	for _, c := range l.chunks {
		n += len(c)
	}
	return n
}

func (l List[P]) find(id string) (P, bool) {
	if c, i, there := l.place(id); there {
		return l.chunks[c][i], true
	}
	var none P
	return none, false
}

// place is where the ID is, or where it would go; the list is not empty.
func (l List[P]) place(id string) (c, i int, there bool) {
	if len(l.chunks) == 0 {
		return 0, 0, false
	}
	// The last chunk that begins at or before it.
	c = max(0, sort.Search(len(l.chunks), func(c int) bool { return l.chunks[c][0].key() > id })-1)
	i, there = slices.BinarySearchFunc(l.chunks[c], id, func(p P, id string) int { return strings.Compare(p.key(), id) })
	return c, i, there
}

// with is the list with p in it, instead of the one of the same ID.
func (l List[P]) with(p P) List[P] {
	l.bytes += p.size()
	if len(l.chunks) == 0 {
		return List[P]{[][]P{{p}}, l.bytes}
	}
	c, i, there := l.place(p.key())
	old := l.chunks[c]
	if there {
		l.bytes -= old[i].size()
		next := slices.Clone(old)
		next[i] = p
		return l.swap(c, next)
	}
	next := make([]P, len(old)+1)
	copy(next, old[:i])
	next[i] = p
	copy(next[i+1:], old[i:])
	if half := len(next) / 2; len(next) > chunk {
		return l.swap(c, next[:half], next[half:])
	}
	return l.swap(c, next)
}

// without is the list without the one of that ID. IDs are random, so a chunk that shrank fills again: none are joined.
func (l List[P]) without(id string) List[P] {
	c, i, there := l.place(id)
	if !there {
		return l
	}
	old := l.chunks[c]
	l.bytes -= old[i].size()
	if len(old) == 1 {
		return l.swap(c)
	}
	next := make([]P, 0, len(old)-1)
	return l.swap(c, append(append(next, old[:i]...), old[i+1:]...))
}

// swap is the list with other chunks for one.
func (l List[P]) swap(c int, with ...[]P) List[P] {
	out := make([][]P, 0, len(l.chunks)-1+len(with))
	out = append(append(append(out, l.chunks[:c]...), with...), l.chunks[c+1:]...)
	return List[P]{out, l.bytes}
}

// prune is the list without what is over.
func (l List[P]) prune(over func(P) bool) List[P] {
	for p := range l.All() {
		if over(p) {
			l = l.without(p.key()) // the loop goes on over the old one
		}
	}
	return l
}

// MarshalJSON writes an array.
func (l List[P]) MarshalJSON() ([]byte, error) {
	all := slices.Collect(l.All())
	if all == nil {
		all = []P{}
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (l *List[P]) UnmarshalJSON(b []byte) error {
	var all []P
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*l = List[P]{}
	for _, p := range all {
		if reflect.ValueOf(p).IsNil() {
			return errors.New("null in a list")
		}
		*l = l.with(p)
	}
	return nil
}
