package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// odd has everything that encoding/json does in a way of its own.
type odd struct {
	Inner

	Hidden   string `json:"-"`
	Untagged int
	Text     string         `json:"a/b~c"`
	Omitted  string         `json:"omitted,omitempty"`
	None     []string       `json:"none,omitempty"`
	Kept     []string       `json:"kept"`
	Number   *int           `json:"number,omitempty"`
	Null     *Inner         `json:"null"`
	Object   *Inner         `json:"object,omitempty"`
	Zero     time.Time      `json:"zero,omitzero"`
	At       time.Time      `json:"at"`
	Sealed   domain.Sealed  `json:"sealed,omitzero"`
	Bare     domain.Sealed  `json:"bare"`
	Bytes    []byte         `json:"bytes"`
	Array    [2]uint8       `json:"array"`
	Small    int8           `json:"small"`
	Large    uint64         `json:"large"`
	Map      map[string]int `json:"map,omitempty"`
	Any      any            `json:"any"`
	Float    float64        `json:"float"`
	ID       uuid.UUID      `json:"id"`
	Items    []Inner        `json:"items"`
	Self     []*odd         `json:"self,omitempty"`
	Quoted   Quoted         `json:"quoted"`
	Twice    Twice          `json:"twice"`
	Empty    struct{}       `json:"empty"`
	secret   int
}

type (
	Inner  struct{ A, B int }
	Quoted struct {
		N int `json:"n,string"`
	}
	Twice struct {
		Inner

		A string
	}
)

func drawOdd(t *rapid.T, deep int) odd {
	text := rapid.SampledFrom([]string{"", "x", "콩이", "<&>\u2028", "\xff\xfe!", "\x00"})
	inner := rapid.Custom(func(t *rapid.T) Inner { return Inner{rapid.IntRange(0, 1).Draw(t, "A"), rapid.Int().Draw(t, "B")} })
	at := rapid.SampledFrom([]time.Time{{}, time.Unix(1_700_000_000, 1000).UTC(), time.Unix(1_700_000_000, 0).In(time.FixedZone("", 9*3600))})
	sealed := rapid.SampledFrom([]domain.Sealed{{}, {Subject: "customer:ana", KeyID: "k", Cipher: []byte("text")}})
	o := odd{
		Inner: inner.Draw(t, "inner"), Hidden: text.Draw(t, "hidden"), Untagged: rapid.IntRange(0, 1).Draw(t, "untagged"), Text: text.Draw(t, "text"),
		Omitted: text.Draw(t, "omitted"), None: rapid.SampledFrom([][]string{nil, {}, {"\xff"}}).Draw(t, "none"), Kept: rapid.SampledFrom([][]string{nil, {}, {"x"}, {"x", "y"}}).Draw(t, "kept"),
		Number: rapid.Ptr(rapid.IntRange(0, 1), true).Draw(t, "number"), Null: rapid.Ptr(inner, true).Draw(t, "null"), Object: rapid.Ptr(inner, true).Draw(t, "object"),
		Zero: at.Draw(t, "zero"), At: at.Draw(t, "at"), Sealed: sealed.Draw(t, "sealed"), Bare: sealed.Draw(t, "bare"),
		Bytes: rapid.SampledFrom([][]byte{nil, {}, {1, 2, 3}}).Draw(t, "bytes"), Array: [2]uint8{rapid.Uint8().Draw(t, "array"), 1},
		Small: rapid.Int8().Draw(t, "small"), Large: rapid.Uint64().Draw(t, "large"), Map: rapid.MapOf(text, rapid.IntRange(0, 1)).Draw(t, "map"),
		Any: rapid.SampledFrom([]any{nil, 1, "x", map[string]any{"a": 1, "b": nil}, []int{1}, Inner{}}).Draw(t, "any"), Float: rapid.SampledFrom([]float64{0, 1, 1.5, 1e30}).Draw(t, "float"),
		ID: rapid.SampledFrom([]uuid.UUID{uuid.Nil, uuid.NameSpaceDNS}).Draw(t, "id"), Items: rapid.SliceOfN(inner, 0, 3).Draw(t, "items"),
		Quoted: Quoted{rapid.IntRange(0, 1).Draw(t, "quoted")}, Twice: Twice{inner.Draw(t, "twice"), text.Draw(t, "shadows")}, secret: rapid.Int().Draw(t, "secret"),
	}
	if deep > 0 && rapid.Bool().Draw(t, "self") {
		another := drawOdd(t, deep-1)
		o.Self = []*odd{nil, &another}
	}
	return o
}

// A shape is quicker than encoding/json and means the same.
func TestAShapeSpellsAndComparesAsJSONDoes(t *testing.T) {
	t.Parallel()
	s := shapeOf(reflect.TypeFor[*odd]())
	rapid.Check(t, func(t *rapid.T) {
		was := drawOdd(t, 1)
		is := was
		switch rapid.IntRange(0, 3).Draw(t, "which") {
		case 0: // the same, but shared with nothing
			b, err := json.Marshal(is)
			if err == nil {
				err = json.Unmarshal(b, &is)
			}
			if err != nil {
				t.Fatal(err)
			}
		case 1:
			is.Items, is.Object, is.Any = slices.Clone(is.Items), nil, map[string]any{"a": 2}
		default:
			is = drawOdd(t, 1)
		}
		for _, v := range []*odd{&was, nil} {
			want, err := valueOf(v)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.spell(reflect.ValueOf(v))
			if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Fatalf("%v (-JSON +shape)\n%s", err, diff)
			}
		}
		for _, pair := range [][2]*odd{{&was, &is}, {nil, &is}, {&was, nil}, {&was, &was}} {
			want := map[string][2]any{}
			before, after := fieldsOf(t, pair[0]), fieldsOf(t, pair[1])
			for at, v := range after {
				if old, there := before[at]; !there || !reflect.DeepEqual(old, v) {
					want[at] = [2]any{of(old, there), of(v, true)}
				}
			}
			for at, old := range before {
				if _, still := after[at]; !still {
					want[at] = [2]any{of(old, true), nil}
				}
			}
			got := map[string][2]any{}
			side := func(s *shape, v reflect.Value) any {
				if !v.IsValid() {
					return nil
				}
				spelled, err := s.spell(v)
				if err != nil {
					t.Fatal(err)
				}
				return of(spelled, true)
			}
			values := [2]reflect.Value{}
			for i, v := range pair {
				if v != nil {
					values[i] = reflect.ValueOf(v)
				}
			}
			err := s.differ(values[0], values[1], func(at string, s *shape, was, is reflect.Value) {
				if _, twice := got[at]; twice {
					t.Fatalf("%s is told of twice", at)
				}
				got[at] = [2]any{side(s, was), side(s, is)}
			})
			if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Fatalf("%v (-by JSON +by the shape)\n%s", err, diff)
			}
		}
	})
}

// of makes what is not there something else than null.
func of(v any, there bool) any {
	if !there {
		return nil
	}
	return []any{v}
}

func fieldsOf(t rapid.TB, v *odd) map[string]any {
	out := map[string]any{}
	if v == nil {
		return out
	}
	value, err := valueOf(v)
	if err != nil {
		t.Fatal(err)
	}
	flatten("", value, out)
	return out
}

// TestTheQuickDifferenceIsTheSlowOne holds differences to what they are by their meaning: every part as JSON before and after
// each event, field by field.
func TestTheQuickDifferenceIsTheSlowOne(t *testing.T) {
	t.Parallel()
	l := newLife(t, newWorld(t, openSQLite(t)))
	l.live(60)
	events := l.all()
	listed := 0
	for range 4 {
		i, j := l.random.IntN(len(events)), l.random.IntN(len(events))
		start, end := eventstore.Place{Position: events[min(i, j)].Position}, eventstore.Place{Position: events[max(i, j)].Position}
		compare := func(of string, subjects func() subject, h func() trail) {
			t.Helper()
			got, told, err := l.past.diff(t.Context(), comparison{}, subjects(), h(), start, end, MostChanges)
			if err != nil {
				t.Fatal(err)
			}
			want := l.slowDiff(subjects(), h(), start, end)
			listed += len(want)
			if diff := gocmp.Diff(want, got.Changes, cmpopts.EquateEmpty()); diff != "" || got.Total != len(want) || told.stopped != nil {
				t.Fatalf("%s from %d to %d (-slow +quick)\n%s", of, start.Position, end.Position, diff)
			}
		}
		for _, stream := range []string{"groomer-kim", "groomer-lee", "chat-" + room, "inbox-customer-ana"} {
			kind, _ := aggregateOf(stream)
			compare(stream, func() subject { return &streamSubject{aggregate: kind, codec: l.past.Codec, state: kind.zero} },
				func() trail { return l.past.streamHistory(t.Context(), stream) })
		}
		for _, p := range l.past.Projections {
			for _, key := range []string{"kim", room} {
				compare(p.ID()+"/"+key, func() subject { return l.past.rowSubject(p, "") }, func() trail { return l.past.keyHistory(t.Context(), key) })
			}
		}
	}
	if listed < 300 {
		t.Errorf("only %d changes were there to compare", listed)
	}
}

// slowDiff is what a difference was made by before shapes.
func (l *life) slowDiff(s subject, h trail, start, end eventstore.Place) []Change {
	l.t.Helper()
	type slow struct {
		field         string
		before, after *any
		by            eventstore.Recorded
	}
	parts, fields := map[string]map[string]any{}, map[string]*slow{}
	show := func(p part) map[string]any {
		out := map[string]any{}
		if !p.value.IsValid() {
			return out
		}
		var v any
		if row, isRow := s.(*rowSubject); isRow {
			v = l.slowRow(row, p)
		} else {
			var err error
			if v, err = valueOf(p.value.Interface()); err != nil {
				l.t.Fatal(err)
			}
		}
		flatten(pointer(p.path...), v, out)
		return out
	}
	note := func(name string, before, after *any, r eventstore.Recorded) {
		if fields[name] == nil {
			fields[name] = &slow{field: name, before: before}
		}
		fields[name].after, fields[name].by = after, r
	}
	for r, err := range h.events {
		if err != nil {
			l.t.Fatal(err)
		}
		if r.Position > end.Position {
			break
		}
		decoded, err := s.decode(r)
		if err == nil {
			err = s.step(decoded)
		}
		if err != nil {
			l.t.Fatal(err)
		}
		for p := range s.touched() {
			at := pointer(p.path...)
			was, is := parts[at], show(p)
			parts[at] = is
			if r.Position <= start.Position {
				continue
			}
			for name, v := range is {
				old, there := was[name]
				switch {
				case !there:
					note(name, nil, &v, r)
				case !reflect.DeepEqual(old, v):
					note(name, &old, &v, r)
				}
			}
			for name, old := range was {
				if _, still := is[name]; !still {
					note(name, &old, nil, r)
				}
			}
		}
	}
	var out []Change
	for _, f := range fields {
		if f.before != nil && f.after != nil && reflect.DeepEqual(*f.before, *f.after) || f.before == nil && f.after == nil {
			continue
		}
		c := Change{Field: f.field, Before: f.before, After: f.after, Cause: causeOf(f.by)}
		o := opening{texts: l.past.Texts}
		for _, side := range []struct {
			name string
			of   **any
		}{{"/before", &c.Before}, {"/after", &c.After}} {
			if *side.of == nil {
				continue
			}
			v, err := o.open(l.t.Context(), side.name, **side.of)
			if err != nil {
				l.t.Fatal(err)
			}
			*side.of = &v
		}
		c.Unopened = o.unopened
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Event.Position, b.Event.Position), cmp.Compare(a.Field, b.Field))
	})
	return out
}

// slowRow is a row by its columns, each as JSON.
func (l *life) slowRow(s *rowSubject, p part) any {
	l.t.Helper()
	out := map[string]any{}
	for _, table := range s.projection.Tables {
		d := table.Def().At(s.projection.Version)
		if d.Base != p.path[0] {
			continue
		}
		for c, field := range d.Fields() {
			v := p.value.Elem().FieldByIndex(field.Index).Interface()
			if at, isTime := v.(time.Time); isTime && at.IsZero() {
				out[c.Name] = nil
				continue
			}
			var err error
			if out[c.Name], err = valueOf(v); err != nil {
				l.t.Fatal(fmt.Errorf("column %s: %w", c.Name, err))
			}
		}
	}
	return out
}
