package rebuild

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// ranges reads a table by ranges of its primary key, some of its columns.
type ranges struct {
	dialect reads.Dialect
	d       *engine.Def
	columns []engine.Column // compared
	pk      []engine.Column
}

// How many rows a range has: on a server the database makes a digest of it, else its rows are read.
const (
	digestRows = 10_000
	plainRows  = 1_000
)

func newRanges(dialect reads.Dialect, d *engine.Def, columns []engine.Column) *ranges {
	r := &ranges{dialect: dialect, d: d, columns: columns}
	for _, i := range d.PK {
		r.pk = append(r.pk, d.Columns[i])
	}
	return r
}

func quoted(c engine.Column) string { return "`" + c.Name + "`" }

func names(columns []engine.Column) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = quoted(c)
	}
	return strings.Join(out, ", ")
}

// beyond is "the primary key is past (or, with "<", up to) these values", spelled so that MySQL walks the index: it does
// not for a comparison of rows.
func beyond(pk []engine.Column, values []any, past string) (string, []any) {
	c := quoted(pk[0])
	if len(pk) == 1 {
		if past == "<" {
			past = "<="
		}
		return c + " " + past + " ?", values[:1]
	}
	rest, args := beyond(pk[1:], values[1:], past)
	return "(" + c + " " + past + "= ? AND (" + c + " " + past + " ? OR " + rest + "))", append([]any{values[0], values[0]}, args...)
}

func (r *ranges) where(after, through []any) (string, []any) {
	where, args := "1 = 1", []any(nil)
	if after != nil {
		w, a := beyond(r.pk, after, ">")
		where, args = where+" AND "+w, append(args, a...)
	}
	if through != nil {
		w, a := beyond(r.pk, through, "<")
		where, args = where+" AND "+w, append(args, a...)
	}
	return where, args
}

// next finds where the range after a key ends; the last one has no end.
func (r *ranges) next(ctx context.Context, q reads.Queryer, version int, after []any) (through []any, last bool, err error) {
	size := digestRows
	if r.dialect == reads.SQLite {
		size = plainRows
	}
	where, args := r.where(after, nil)
	dest := make([]any, len(r.pk))
	for i, c := range r.pk {
		if dest[i] = any(new(string)); isNumber(c) {
			dest[i] = new(int64)
		}
	}
	err = q.QueryRowContext(ctx, "SELECT "+names(r.pk)+" FROM "+r.d.Name(version)+" WHERE "+where+" ORDER BY "+names(r.pk)+" LIMIT 1 OFFSET "+strconv.Itoa(size-1), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("walk %s: %w", r.d.Name(version), err)
	}
	for _, x := range dest {
		switch x := x.(type) {
		case *string:
			through = append(through, *x)
		case *int64:
			through = append(through, *x)
		}
	}
	return through, false, nil
}

func isNumber(c engine.Column) bool { return c.Kind == engine.Int || c.Kind == engine.Time }

// digest is how many rows of a range there are in a version, and one number of all their compared values: rows that differ
// have another, but for once in 2^64 times. SQLite makes none.
//
// Values are told apart by a zero byte, which none of an ID, a number or a JSON text contains; a plain text has its length
// before it. Lengths for all of them cost a third of the whole.
func (r *ranges) digest(ctx context.Context, q reads.Queryer, version int, after, through []any) (d digest, err error) {
	parts := []string{"ordering_key"}
	for _, c := range r.columns {
		if c.Kind == engine.Text {
			parts = append(parts, "LENGTH("+quoted(c)+")")
		}
		parts = append(parts, quoted(c))
	}
	where, args := r.where(after, through)
	err = q.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(BIT_XOR(CAST(CONV(LEFT(SHA2(CONCAT_WS(0x00, "+strings.Join(parts, ", ")+
		"), 256), 16), 16, 10) AS UNSIGNED)), 0) FROM "+r.d.Name(version)+" WHERE "+where, args...).Scan(&d.rows, &d.sum)
	if err != nil {
		err = fmt.Errorf("digest of %s: %w", r.d.Name(version), err)
	}
	return d, err
}

type digest struct {
	rows int64
	sum  uint64
}

// row is the compared part of a row, as texts.
type row struct {
	parts    []any // of the primary key
	ordering string
	values   []string
}

// read reads the rows of a range by their keys.
func (r *ranges) read(ctx context.Context, q reads.Queryer, version int, after, through []any) (map[string]row, error) {
	where, args := r.where(after, through)
	return r.query(ctx, q, version, where, args)
}

// readKeys reads the rows of some ordering keys.
func (r *ranges) readKeys(ctx context.Context, q reads.Queryer, version int, keys []string) (map[string]row, error) {
	args := make([]any, len(keys))
	for i, k := range keys {
		args[i] = k
	}
	return r.query(ctx, q, version, "ordering_key IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(keys)), ", ")+")", args)
}

func (r *ranges) query(ctx context.Context, q reads.Queryer, version int, where string, args []any) (map[string]row, error) {
	rows, err := q.QueryContext(ctx, "SELECT "+names(append(append([]engine.Column{}, r.pk...), r.columns...))+", ordering_key FROM "+r.d.Name(version)+" WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.d.Name(version), err)
	}
	defer rows.Close()
	out := map[string]row{}
	for rows.Next() {
		texts := make([]string, len(r.pk)+len(r.columns)+1)
		dest := make([]any, len(texts))
		for i := range texts {
			dest[i] = &texts[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, fmt.Errorf("read %s: %w", r.d.Name(version), err)
		}
		one := row{ordering: texts[len(texts)-1], values: texts[len(r.pk) : len(texts)-1]}
		for i, c := range r.pk {
			if !isNumber(c) {
				one.parts = append(one.parts, texts[i])
				continue
			}
			n, err := strconv.ParseInt(texts[i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", r.d.Name(version), err)
			}
			one.parts = append(one.parts, n)
		}
		out[strings.Join(texts[:len(r.pk)], "/")] = one
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.d.Name(version), err)
	}
	return out, nil
}

// texts is the compared part of a row in memory, as the database gives it; nil for none.
func (r *ranges) texts(of any) ([]string, error) {
	if of == nil {
		return nil, nil
	}
	values, err := r.d.Values(of)
	if err != nil {
		return nil, err
	}
	var out []string
	for i, c := range r.d.Columns {
		for _, x := range r.columns {
			if x.Name == c.Name {
				out = append(out, fmt.Sprint(values[i]))
			}
		}
	}
	return out, nil
}

// rowsOf are the rows that a unit holds, as read reads them.
func (r *ranges) rowsOf(u *engine.Unit) (map[string]row, error) {
	out := map[string]row{}
	for of, ordering := range u.Keyed(r.d) {
		if err := r.add(out, of, ordering); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add adds a row in memory to others by its primary key.
func (r *ranges) add(to map[string]row, of any, ordering string) error {
	values, err := r.d.Values(of)
	if err != nil {
		return err
	}
	one := row{ordering: ordering}
	names := make([]string, len(r.d.PK))
	for i, c := range r.d.PK {
		one.parts, names[i] = append(one.parts, values[c]), fmt.Sprint(values[c])
	}
	if one.values, err = r.texts(of); err != nil {
		return err
	}
	to[strings.Join(names, "/")] = one
	return nil
}

// unlike names the columns in which two rows differ.
func (r *ranges) unlike(a, b row) (columns []string) {
	for i, c := range r.columns {
		if a.values[i] != b.values[i] {
			columns = append(columns, c.Name)
		}
	}
	if a.ordering != b.ordering {
		columns = append(columns, "ordering_key")
	}
	return columns
}

// namesOf are the keys of the rows of both, in order.
func namesOf(a, b map[string]row) []string {
	all := map[string]bool{}
	for n := range a {
		all[n] = true
	}
	for n := range b {
		all[n] = true
	}
	return slices.Sorted(maps.Keys(all))
}
