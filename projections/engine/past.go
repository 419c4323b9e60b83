package engine

import (
	"iter"
	"reflect"

	"github.com/dangdangsalon/salon/eventstore"
)

// Step folds one stored event, if the projection uses it, as Replay does. Like a reader, it stops at a type that the
// catalogue lacks. After an error, what the unit holds is neither before nor after the event.
func (u *Unit) Step(d Decoder, p Projection, r eventstore.Recorded) error {
	event, wanted, err := d.Event(p, r)
	if err != nil || !wanted {
		return err
	}
	return u.Replay(p, event)
}

// Touched is a row that was put or removed.
type Touched struct {
	Table *Def
	Key   []any // the primary key
	Row   any   // pointer to the row; nil: removed. Nobody changes it: a later Put is of another.
}

// Touched lists the rows that were put and removed since it was last asked, in no order, each once.
func (u *Unit) Touched() []Touched {
	out := make([]Touched, 0, len(u.changed))
	for _, id := range u.changed {
		s := u.rows[id]
		s.dirty = false
		out = append(out, Touched{id.table, s.parts, s.row})
	}
	u.changed = u.changed[:0]
	return out
}

// Fields are the columns, each with the field of the row type behind it.
func (d *Def) Fields() iter.Seq2[Column, reflect.StructField] {
	return func(yield func(Column, reflect.StructField) bool) {
		for _, c := range d.Columns {
			if !yield(c, d.row.Field(c.field)) {
				return
			}
		}
	}
}
