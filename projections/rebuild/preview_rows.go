package rebuild

import (
	"context"
	"fmt"
	"slices"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// diffed is a table whose rows of two versions, the old one and the new, are compared.
type diffed struct {
	*ranges
	versions [2]int
	has      [2]bool           // whether the version has the table
	expected map[string]string // why a column differs that should, by its name
	counts   map[string]int64  // rows, by column
	diff     TableDiff
}

// diffedTables are the tables of both versions.
func diffedTables(old, now engine.Projection) (out []*diffed) {
	all := slices.Clone(now.Tables)
	for _, t := range old.Tables {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	for _, table := range all {
		d := table.Def()
		t := &diffed{
			ranges: newRanges(0, d, d.Columns), versions: [2]int{old.Version, now.Version},
			has:      [2]bool{slices.Contains(old.Tables, table), slices.Contains(now.Tables, table)},
			expected: expectedIn(d, old, now), counts: map[string]int64{}, diff: TableDiff{Table: d.Base},
		}
		for i, has := range t.has {
			if !has {
				t.diff.Expected = fmt.Sprintf("version %d does not have it", t.versions[i])
			}
		}
		out = append(out, t)
	}
	return out
}

// of are the rows that a unit holds, as the table of a version, the old one or the new, has them: what it has no column for is
// left out.
func (t *diffed) of(u *engine.Unit, version int) (map[string]row, error) {
	if !t.has[version] {
		return nil, nil
	}
	rows, err := t.rowsOf(u)
	for _, one := range rows {
		for i, c := range t.columns {
			if c.Since > t.versions[version] {
				one.values[i] = nothing(c)
			}
		}
	}
	return rows, err
}

// nothing is a column that was never set.
func nothing(c engine.Column) string {
	switch {
	case isNumber(c):
		return "0"
	case c.Kind == engine.JSON:
		return "null"
	}
	return ""
}

// told is the table's part of the report.
func (t *diffed) told() TableDiff {
	for _, c := range append(slices.Clone(t.columns), engine.Column{Name: orderingKey}) {
		if n := t.counts[c.Name]; n > 0 {
			t.diff.Columns = append(t.diff.Columns, ColumnDiff{c.Name, n, t.expected[c.Name]})
		}
	}
	return t.diff
}

const (
	orderingKey = "ordering_key"
	mostShown   = 100 // characters of a value
)

// compare counts what differs of one key.
func (w *preview) compare(key string, f *folded) error {
	if f.whole.cut {
		if w.out.Cut++; len(w.out.CutKeys) < mostListed {
			w.out.CutKeys = append(w.out.CutKeys, key)
		}
		return nil
	}
	if old, now := f.failed[0], f.failed[1]; old != nil || now != nil {
		if now != nil && (old == nil || now.Event.Position < old.Event.Position) {
			w.out.Unexpected++
		}
		for _, x := range f.failed {
			if x != nil && len(w.out.Failed) < mostListed {
				w.out.Failed = append(w.out.Failed, *x)
			}
		}
		return nil
	}
	for _, t := range w.tables {
		var rows [2]map[string]row
		for i, u := range f.units {
			var err error
			if rows[i], err = t.of(u, i); err != nil {
				return err
			}
		}
		t.diff.Rows += int64(len(rows[1]))
		for _, n := range namesOf(rows[0], rows[1]) {
			if one, differs := t.row(n, rows); differs {
				w.differ(one)
			}
		}
	}
	return nil
}

// row compares, and counts, one row of both versions.
func (t *diffed) row(name string, rows [2]map[string]row) (one RowDiff, differs bool) {
	old, was := rows[0][name]
	now, is := rows[1][name]
	one = RowDiff{Table: t.d.Base, Row: name, Key: now.ordering, d: t.d, parts: now.parts, Expected: t.diff.Expected != ""}
	switch {
	case !was:
		t.diff.Added++
		one.Change = "added"
		return one, true
	case !is:
		t.diff.Removed++
		one.Change, one.Key, one.parts = "removed", old.ordering, old.parts
		return one, true
	}
	one.Change, one.Expected = "changed", true
	changed := func(column, before, after string) {
		if before == after {
			return
		}
		t.counts[column]++
		one.Columns = append(one.Columns, ValueDiff{column, shown(before), shown(after)})
		one.Expected = one.Expected && t.expected[column] != ""
	}
	for i, c := range t.columns {
		changed(c.Name, old.values[i], now.values[i])
	}
	changed(orderingKey, old.ordering, now.ordering)
	if len(one.Columns) == 0 {
		return one, false
	}
	t.diff.Changed++
	return one, true
}

func shown(value string) string {
	if runes := []rune(value); len(runes) > mostShown {
		return string(runes[:mostShown-1]) + "…"
	}
	return value
}

// differ keeps the first rows as examples, those that should not differ before others.
func (w *preview) differ(one RowDiff) {
	switch {
	case !one.Expected:
		if w.out.Unexpected++; len(w.out.Examples) < w.Examples {
			w.out.Examples = append(w.out.Examples, one)
		}
	case len(w.expected) < w.Examples:
		w.expected = append(w.expected, one)
	}
}

// explain finds the events since which the examples differ.
func (w *preview) explain(ctx context.Context) error {
	of := map[string]*folded{}
	var keys []string
	for _, x := range w.out.Examples {
		if of[x.Key] == nil {
			of[x.Key], keys = newFolded(), append(keys, x.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return w.each(ctx, keys, func(e eventstore.Recorded) error {
		f := of[e.Key]
		if f == nil {
			return nil
		}
		if err := w.fold(f, e); err != nil {
			return err
		}
		for i := range w.out.Examples {
			x := &w.out.Examples[i]
			if x.Key != e.Key {
				continue
			}
			differs, err := w.differs(f, x)
			if err != nil {
				return err
			}
			if !differs {
				x.Event = nil
			} else if x.Event == nil {
				x.Event = refTo(e)
			}
		}
		return nil
	})
}

// differs tells whether an example's row differs already, as it does in the end.
func (w *preview) differs(f *folded, x *RowDiff) (bool, error) {
	t := w.tables[slices.IndexFunc(w.tables, func(t *diffed) bool { return t.d == x.d })]
	var values [2]map[string]string
	for i, u := range f.units {
		of := u.Row(x.d.Ref(x.parts...))
		if of == nil || !t.has[i] {
			continue
		}
		texts, err := t.texts(of)
		if err != nil {
			return false, err
		}
		values[i] = map[string]string{}
		for n, c := range t.columns {
			if values[i][c.Name] = texts[n]; c.Since > t.versions[i] {
				values[i][c.Name] = nothing(c)
			}
		}
	}
	if values[0] == nil || values[1] == nil {
		return (values[0] == nil) != (values[1] == nil), nil
	}
	return slices.ContainsFunc(x.Columns, func(c ValueDiff) bool {
		told := x.Expected || t.expected[c.Column] == "" // what is expected explains nothing of what is not
		return told && values[0][c.Column] != values[1][c.Column]
	}), nil
}
