package engine

import (
	"cmp"
	"fmt"
	"slices"
)

// Unit is a unit of work: the rows that a batch reads and writes, in memory.
//
// The engine loads every Ref before it folds; Get and Put then touch memory alone. After the batch it writes the
// changed rows and keeps those that were read for the next batch of the same claim.
type Unit struct {
	rows    map[rowID]*slot
	changed []rowID // the dirty ones, each once
	key     string  // ordering key of the event being folded
	err     error   // the first misuse by the fold
}

type rowID struct {
	table *Def
	key   string
}

type slot struct {
	row      any   // pointer to a row struct, nil when there is no such row
	parts    []any // of the primary key
	ordering string
	dirty    bool
	named    bool // by Keys: likely to be read again
}

// NewUnit makes an empty unit of work.
func NewUnit() *Unit { return &Unit{rows: map[rowID]*slot{}} }

// Fold applies one event. On an error the unit is spoiled and must be thrown away.
func (u *Unit) Fold(p Projection, e Event) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
		if err == nil {
			err = u.err
		}
		if err != nil {
			err = &foldError{fmt.Errorf("fold %s at position %d into %s: %w", e.Event.EventType(), e.Position, p.ID(), err)}
		}
	}()
	u.key = e.Key
	return p.Fold(u, e)
}

func (u *Unit) put(id rowID, parts []any, row any) {
	s, held := u.rows[id]
	if !held {
		s = &slot{}
		u.rows[id] = s
	} else if s.row != nil && s.ordering != u.key && u.err == nil {
		// Two ordering keys may live in two partitions: the row would have two writers.
		u.err = fmt.Errorf("row %s %q belongs to ordering key %q, not to %q", id.table.Base, id.key, s.ordering, u.key)
	}
	if !s.dirty {
		u.changed = append(u.changed, id)
	}
	s.row, s.parts, s.ordering, s.dirty = row, parts, u.key, true
}

// missing lists the refs that the unit does not hold yet, each once, and notes them as absent until loaded.
func (u *Unit) missing(refs []Ref, orderingKey string, into []namedRef) []namedRef {
	for _, r := range refs {
		id := rowID{r.table, r.key}
		if s, held := u.rows[id]; held {
			s.named = true
			continue
		}
		u.rows[id] = &slot{ordering: orderingKey, named: true}
		into = append(into, namedRef{r, orderingKey})
	}
	return into
}

type namedRef struct {
	Ref
	ordering string
}

func (u *Unit) loaded(d *Def, key string, row any, ordering string) {
	u.rows[rowID{d, key}] = &slot{row: row, ordering: ordering, named: true}
}

type change struct {
	key  string
	slot *slot
}

// changes lists what is to be written, by table, in the order of the keys: neighbours share a page, and two partitions
// that write one table take its locks in one order.
func (u *Unit) changes() map[*Def][]change {
	out := map[*Def][]change{}
	for _, id := range u.changed {
		out[id.table] = append(out[id.table], change{id.key, u.rows[id]})
	}
	for _, c := range out {
		slices.SortFunc(c, func(a, b change) int { return cmp.Compare(a.key, b.key) })
	}
	return out
}

// settle is called when the changes are in the database: what was read stays, up to limit rows.
func (u *Unit) settle(limit int) {
	for _, id := range u.changed {
		s := u.rows[id]
		s.dirty = false
		if !s.named {
			delete(u.rows, id)
		}
	}
	u.changed = u.changed[:0]
	if len(u.rows) > limit {
		clear(u.rows)
	}
}
