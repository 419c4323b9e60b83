package engine

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Table is a read-model table of rows R, a struct whose fields carry `db:"name[,pk][,text][,since=N]"`.
//
// A column with since is there from that version of the projection on. So one row type serves all versions that run: the
// fold of an earlier one leaves the field alone, and a reader of an earlier one finds it zero.
//
// Column types follow the field types: string is an identifier of at most 191 characters, or with ",text" any text;
// integers and bool are BIGINT; time.Time is BIGINT microseconds since 1970 UTC, 0 for the zero time; everything else is JSON text.
// The engine adds ordering_key to every table: a row belongs to exactly one.
type Table[R any] struct{ d Def }

// AnyTable is a Table of any row type.
type AnyTable interface{ Def() *Def }

// Def describes a table.
type Def struct {
	Base    string // "reservations": the real name has the projection's version, see Name
	Columns []Column
	PK      []int // indexes into Columns
	Indexes []Index
	row     reflect.Type
}

// Column is one column and the row field behind it.
type Column struct {
	Name  string
	Kind  Kind
	Since int // the first version of the projection that has it; 0: all have
	field int
}

// Kind is how a column is stored.
type Kind int

// The kinds of columns.
const (
	ID   Kind = iota // string, ≤ 191 characters, compared byte by byte
	Text             // string
	Int              // integers, bool
	Time             // microseconds since 1970, UTC
	JSON             // anything else
)

// Index is a secondary index; ordering_key is indexed always.
type Index struct {
	Name    string
	Columns []string
}

// NewTable describes a table by its row type. A row type it cannot store is a programming error and panics.
func NewTable[R any](base string, indexes ...Index) *Table[R] {
	t := reflect.TypeFor[R]()
	d := Def{Base: base, Indexes: indexes, row: t}
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("db")
		if !ok {
			panic(fmt.Sprintf("engine: field %s.%s has no db tag", t, t.Field(i).Name))
		}
		name, options, _ := strings.Cut(tag, ",")
		c := Column{Name: name, field: i, Kind: kindOf(t.Field(i).Type)}
		for o := range strings.SplitSeq(options, ",") {
			switch o {
			case "pk":
				d.PK = append(d.PK, len(d.Columns))
			case "text":
				c.Kind = Text
			default:
				if n, found := strings.CutPrefix(o, "since="); found {
					var err error
					if c.Since, err = strconv.Atoi(n); err != nil {
						panic(fmt.Sprintf("engine: column %s of %s: %v", name, base, err))
					}
				}
			}
		}
		d.Columns = append(d.Columns, c)
	}
	if len(d.PK) == 0 {
		panic("engine: table " + base + " has no primary key")
	}
	return &Table[R]{d}
}

func kindOf(t reflect.Type) Kind {
	if t == reflect.TypeFor[time.Time]() {
		return Time
	}
	switch t.Kind() {
	case reflect.String:
		return ID
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint64, reflect.Int32, reflect.Uint32:
		return Int
	}
	return JSON
}

// Def is the table's description.
func (t *Table[R]) Def() *Def { return &t.d }

// at is the table as a version of its projection has it: without the columns that came later, and the indexes over them.
func (d *Def) at(version int) *Def {
	later := func(c Column) bool { return c.Since > version }
	if !slices.ContainsFunc(d.Columns, later) {
		return d
	}
	out := &Def{Base: d.Base, row: d.row}
	var left []string
	for i, c := range d.Columns {
		if later(c) {
			left = append(left, c.Name)
			continue
		}
		if slices.Contains(d.PK, i) {
			out.PK = append(out.PK, len(out.Columns))
		}
		out.Columns = append(out.Columns, c)
	}
	for _, x := range d.Indexes {
		if !slices.ContainsFunc(x.Columns, func(c string) bool { return slices.Contains(left, c) }) {
			out.Indexes = append(out.Indexes, x)
		}
	}
	return out
}

// Name is the real table name of a projection's version, "reservations_v1".
func (d *Def) Name(version int) string { return d.Base + "_v" + strconv.Itoa(version) }

// Ref names a row by its primary key, in the order of the columns.
func (t *Table[R]) Ref(key ...any) Ref { return t.d.ref(key) }

func (d *Def) ref(parts []any) Ref {
	if len(parts) != len(d.PK) {
		panic(fmt.Sprintf("engine: %s has %d key columns, got %d", d.Base, len(d.PK), len(parts)))
	}
	return Ref{table: d, key: keyText(parts), parts: parts}
}

// keyText is a row's key as one string: what the unit of work and a Redis hash look it up by.
func keyText(parts []any) string {
	if s, ok := parts[0].(string); ok && len(parts) == 1 {
		return s
	}
	b := make([]byte, 0, 64)
	for i, p := range parts {
		if i > 0 {
			b = append(b, 0)
		}
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case int:
			b = strconv.AppendInt(b, int64(p), 10)
		case int32:
			b = strconv.AppendInt(b, int64(p), 10)
		case int64:
			b = strconv.AppendInt(b, p, 10)
		case uint64:
			b = strconv.AppendUint(b, p, 10)
		default: // a named string or integer type
			b = fmt.Append(b, p)
		}
	}
	return string(b)
}

// keyParts is a row's primary key.
func (d *Def) keyParts(row reflect.Value) []any {
	parts := make([]any, len(d.PK))
	for i, c := range d.PK {
		parts[i] = row.Field(d.Columns[c].field).Interface()
	}
	return parts
}

func (d *Def) keyOf(row any) string { return keyText(d.keyParts(reflect.ValueOf(row).Elem())) }

// Get reads a row; ok is false when there is none. The row is a copy: change it and Put it.
// Slices inside are shared: replace them, do not write into them.
func (t *Table[R]) Get(u *Unit, key ...any) (row R, ok bool, err error) {
	s, held := u.rows[rowID{&t.d, keyText(key)}]
	if !held {
		return row, false, fmt.Errorf("%w: %s %v", ErrUnnamedRow, t.d.Base, key)
	}
	if s.row == nil {
		return row, false, nil
	}
	return *s.row.(*R), true, nil
}

// Put writes a row, whether it is there or not.
func (t *Table[R]) Put(u *Unit, row R) {
	parts := t.d.keyParts(reflect.ValueOf(&row).Elem())
	u.put(rowID{&t.d, keyText(parts)}, parts, &row)
}

// Delete removes a row, whether it is there or not.
func (t *Table[R]) Delete(u *Unit, key ...any) { u.put(rowID{&t.d, keyText(key)}, key, nil) }

// Values gives a row's columns as a database/sql driver takes them.
func (d *Def) Values(row any) ([]any, error) {
	v := reflect.Indirect(reflect.ValueOf(row))
	out := make([]any, len(d.Columns))
	for i, c := range d.Columns {
		f := v.Field(c.field)
		switch c.Kind {
		case ID, Text:
			out[i] = f.String()
		case Int:
			switch f.Kind() {
			case reflect.Bool:
				out[i] = int64(0)
				if f.Bool() {
					out[i] = int64(1)
				}
			case reflect.Uint32, reflect.Uint64:
				out[i] = int64(f.Uint()) //nolint:gosec // positions and counts stay below 2^63
			default:
				out[i] = f.Int()
			}
		case Time:
			out[i] = int64(0)
			if t := f.Interface().(time.Time); !t.IsZero() {
				out[i] = t.UnixMicro()
			}
		case JSON:
			b, err := json.Marshal(f.Interface())
			if err != nil {
				return nil, fmt.Errorf("column %s.%s: %w", d.Base, c.Name, err)
			}
			out[i] = string(b)
		}
	}
	return out, nil
}

// Scan reads a row whose columns are selected in the order of Columns.
func Scan[R any](t *Table[R], scan func(dest ...any) error) (R, error) {
	row, err := t.d.scan(scan)
	if err != nil {
		var zero R
		return zero, err
	}
	return *row.(*R), nil
}

func (d *Def) scan(scan func(dest ...any) error, extra ...any) (any, error) {
	raw := make([]any, len(d.Columns), len(d.Columns)+len(extra))
	for i, c := range d.Columns {
		switch c.Kind {
		case Int, Time:
			raw[i] = new(int64)
		default:
			raw[i] = new(string)
		}
	}
	if err := scan(append(raw, extra...)...); err != nil {
		return nil, err
	}
	row := reflect.New(d.row)
	for i, c := range d.Columns {
		f := row.Elem().Field(c.field)
		switch x := raw[i].(type) {
		case *string:
			if c.Kind != JSON {
				f.SetString(*x)
			} else if err := json.Unmarshal([]byte(*x), f.Addr().Interface()); err != nil {
				return nil, fmt.Errorf("column %s.%s: %w", d.Base, c.Name, err)
			}
		case *int64:
			switch {
			case c.Kind == Time:
				if *x != 0 {
					f.Set(reflect.ValueOf(time.UnixMicro(*x).UTC()))
				}
			case f.Kind() == reflect.Bool:
				f.SetBool(*x != 0)
			case f.CanUint():
				f.SetUint(uint64(*x)) //nolint:gosec // written by Values
			default:
				f.SetInt(*x)
			}
		}
	}
	return row.Interface(), nil
}

// ColumnList is the columns for a SELECT, in the order that Scan reads, each with the prefix ("" or "r.").
func (d *Def) ColumnList(prefix string) string {
	names := make([]string, len(d.Columns))
	for i, c := range d.Columns {
		names[i] = prefix + quote(c.Name)
	}
	return strings.Join(names, ", ")
}
