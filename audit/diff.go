package audit

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// Diff is what is different between two moments. What changed and changed back is not. A personal text that was given again is
// another one, even where it reads the same.
type Diff struct {
	Of      string   `json:"of" doc:"The stream, or the projection's version and the ordering key"`
	From    At       `json:"from"`
	To      At       `json:"to"`
	Changes []Change `json:"changes" nullable:"false" doc:"In the order of their events"`
	Total   int      `json:"total" doc:"How many there are; no more are listed than the limit says"`
	Stopped *Stopped `json:"stopped,omitempty" doc:"The fold could not go on at this event: later changes are not known"`
}

// Change is one field that is different.
type Change struct {
	Field string `json:"field" doc:"JSON Pointer into the state, or of rows: /table/primary key/column" example:"/reservations/kim.0123/status"`
	// Absent, and not null, where there was no such field.
	Before *any `json:"before,omitempty" doc:"Its value then; absent when there was none"`
	After  *any `json:"after,omitempty" doc:"Its value now; absent when there is none any more"`
	Cause
	Unopened
}

// MostChanges bounds the changes of an answer.
const MostChanges = 1000

// Diff compares a stream's state at two moments.
func (p *Past) Diff(ctx context.Context, stream string, from, to Moment, limit int) (Diff, error) {
	kind, known := aggregateOf(stream)
	if !known {
		return Diff{}, errStream(stream)
	}
	start, end, err := p.span(ctx, from, to, stream)
	if err != nil {
		return Diff{}, err
	}
	s := &streamSubject{aggregate: kind, codec: p.Codec, state: kind.zero}
	d, t, err := p.diff(ctx, s, p.streamHistory(ctx, stream), start, end, limit)
	if err == nil && t.last == nil && t.stopped == nil {
		err = notYet(to, t.first, errStream(stream))
	}
	d.Of = stream
	return d, err
}

// RowsDiff compares the rows of a name, see [Past.Rows], at two moments.
func (p *Past) RowsDiff(ctx context.Context, projection, name string, from, to Moment, limit int) (Diff, error) {
	v, err := p.version(ctx, projection)
	if err != nil {
		return Diff{}, err
	}
	start, end, err := p.span(ctx, from, to, "")
	if err != nil {
		return Diff{}, err
	}
	// Rows may have been there at one of the moments alone.
	f, err := p.find(ctx, v, name, end)
	if errors.Is(err, errNoRow) {
		if was, err2 := p.find(ctx, v, name, start); err2 == nil {
			f, err = was, nil
		} else if f.first != nil && f.first.Position > end.Position {
			err = notYet(to, f.first, err)
		}
	}
	if err != nil {
		return Diff{}, err
	}
	wanted := name
	if f.key == name {
		wanted = ""
	}
	d, _, err := p.diff(ctx, p.rowSubject(v, wanted), p.keyHistory(ctx, f.key), start, end, limit)
	d.Of = v.ID() + "/" + f.key
	return d, err
}

// span is where two moments stand.
func (p *Past) span(ctx context.Context, from, to Moment, stream string) (start, end eventstore.Place, err error) {
	if start, err = p.place(ctx, from, stream); err != nil {
		return start, end, err
	}
	if end, err = p.place(ctx, to, stream); err != nil {
		return start, end, err
	}
	if end.Position < start.Position {
		return start, end, domain.Refuse("request.invalid", "%s: is before %s", to.location, from.location)
	}
	return start, end, nil
}

// comparison is a diff in the making.
type comparison struct {
	parts   map[string]*shown // as they are now, by pointer
	changed map[string]*changed
}

// shown is a part whose fields are worked out when somebody asks: most parts never change.
type shown struct {
	part

	fields map[string]any
}

func (s *shown) all() (map[string]any, error) {
	if s.fields == nil {
		s.fields = map[string]any{}
		if s.value == nil {
			return s.fields, nil
		}
		v, err := s.show(s.value)
		if err != nil {
			return nil, err
		}
		flatten(pointer(s.path...), v, s.fields)
	}
	return s.fields, nil
}

// changed is a field that some event has changed: what it was at first, and what it is.
type changed struct {
	field         string
	before, after side
	by            *eventstore.Recorded
}

type side struct {
	value any
	there bool
}

func (c *comparison) begin(s subject) {
	for p := range s.touched() {
		c.parts[pointer(p.path...)] = &shown{part: p}
	}
}

// changedBy notes what one event changed.
func (c *comparison) changedBy(r eventstore.Recorded, s subject) error {
	for p := range s.touched() {
		at := pointer(p.path...)
		was, known := c.parts[at]
		if !known {
			was = &shown{part: part{path: p.path}}
		}
		is := &shown{part: p}
		before, err := was.all()
		if err != nil {
			return err
		}
		after, err := is.all()
		if err != nil {
			return err
		}
		for name, v := range after {
			if old, there := before[name]; !there || !reflect.DeepEqual(old, v) {
				c.note(name, side{old, there}, side{v, true}, &r)
			}
		}
		for name, old := range before {
			if _, still := after[name]; !still {
				c.note(name, side{old, true}, side{}, &r)
			}
		}
		c.parts[at] = is
	}
	return nil
}

func (c *comparison) note(name string, before, after side, r *eventstore.Recorded) {
	f, again := c.changed[name]
	if !again {
		f = &changed{field: name, before: before}
		c.changed[name] = f
	}
	f.after, f.by = after, r
}

func (p *Past) diff(ctx context.Context, s subject, h trail, start, end eventstore.Place, limit int) (Diff, told, error) {
	c := comparison{map[string]*shown{}, map[string]*changed{}}
	begun := false
	t, err := h.fold(s, end, watch{
		before: func(r eventstore.Recorded) {
			if r.Position > start.Position && !begun {
				begun = true
				c.begin(s)
			}
		},
		after: func(r eventstore.Recorded) error {
			if !begun {
				return nil
			}
			return c.changedBy(r, s)
		},
	})
	if err != nil {
		return Diff{}, t, err
	}
	out := Diff{From: at(start), To: at(end), Changes: []Change{}, Stopped: t.stopped}
	all := slices.SortedFunc(maps.Values(c.changed), func(a, b *changed) int {
		return cmp.Or(cmp.Compare(a.by.Position, b.by.Position), cmp.Compare(a.field, b.field))
	})
	for _, f := range all {
		if reflect.DeepEqual(f.before, f.after) {
			continue
		}
		if out.Total++; len(out.Changes) >= min(max(limit, 1), MostChanges) {
			continue
		}
		change, err := p.open(ctx, f)
		if err != nil {
			return Diff{}, t, err
		}
		out.Changes = append(out.Changes, change)
	}
	return out, t, nil
}

// open is a changed field as its reader sees it.
func (p *Past) open(ctx context.Context, f *changed) (Change, error) {
	out, o := Change{Field: f.field, Cause: causeOf(*f.by)}, opening{texts: p.Texts}
	for _, one := range []struct {
		name string
		of   side
		into **any
	}{{"before", f.before, &out.Before}, {"after", f.after, &out.After}} {
		if !one.of.there {
			continue
		}
		v, err := o.open(ctx, pointer(one.name), one.of.value)
		if err != nil {
			return out, err
		}
		*one.into = &v
	}
	out.Unopened = o.unopened
	return out, nil
}
