package engine

// Name marks the rows that the unit does not hold yet as absent, as the engine does for rows it looked for and did not
// find. A fold over a whole history needs no database: every row it may read was put by the unit itself, or is absent.
func (u *Unit) Name(refs ...Ref) {
	for _, r := range refs {
		id := rowID{r.table, r.key}
		if _, held := u.rows[id]; !held {
			u.rows[id] = &slot{ordering: u.key}
		}
	}
}

// Replay folds events that follow one another from the beginning, in memory.
func (u *Unit) Replay(p Projection, events ...Event) error {
	for _, e := range events {
		if p.Keys != nil {
			u.Name(p.Keys(e)...)
		}
		if err := u.Fold(p, e); err != nil {
			return err
		}
	}
	return nil
}

// Rows lists the rows of a table that the unit holds, in no particular order.
func (t *Table[R]) Rows(u *Unit) []R {
	var out []R
	for id, s := range u.rows {
		if id.table == &t.d && s.row != nil {
			out = append(out, *s.row.(*R))
		}
	}
	return out
}
