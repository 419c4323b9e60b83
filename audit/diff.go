package audit

import (
	"cmp"
	"context"
	"errors"
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
	d, t, err := p.diff(ctx, comparison{}, s, p.streamHistory(ctx, stream), start, end, limit)
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
	var d Diff
	key, t, err := p.among(ctx, v, name, func(s subject, h trail) (of held, t told, err error) {
		c := comparison{}
		if d, t, err = p.diff(ctx, c, s, h, start, end, limit); err == nil {
			of = c.held()
		}
		return of, t, err
	})
	if errors.Is(err, errNoRow) && t.first != nil && t.first.Position > end.Position {
		err = notYet(to, t.first, err)
	}
	if err != nil {
		return Diff{}, err
	}
	d.Of = v.ID() + "/" + key
	return d, nil
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

// comparison is a diff in the making: by pointer, the parts that were there at its beginning or changed since.
type comparison map[string]*compared

// compared is a part as it is now, what it was at the beginning, and by which event each of its fields changed last.
type compared struct {
	part

	before reflect.Value
	by     map[string]*eventstore.Recorded
}

func (c comparison) begin(s subject) {
	for p := range s.touched() {
		c[pointer(p.path...)] = &compared{part: p, before: p.value}
	}
}

// changedBy notes what one event changed.
func (c comparison) changedBy(r *eventstore.Recorded, s subject) error {
	for p := range s.touched() {
		at := pointer(p.path...)
		of, known := c[at]
		if !known {
			of = &compared{part: part{path: p.path, shape: p.shape}}
			c[at] = of
		}
		if of.by == nil {
			of.by = map[string]*eventstore.Recorded{}
		}
		err := p.shape.differ(of.value, p.value, func(at string, _ *shape, _, _ reflect.Value) { of.by[at] = r })
		if err != nil {
			return err
		}
		of.value = p.value
	}
	return nil
}

// changed is a field that is not what it was.
type changed struct {
	field   string
	shape   *shape
	was, is reflect.Value
	by      *eventstore.Recorded
}

// changes are the fields that are not what they were, in the order of their events.
func (c comparison) changes() (out []changed, err error) {
	for at, of := range c {
		err := of.shape.differ(of.before, of.value, func(below string, s *shape, was, is reflect.Value) {
			out = append(out, changed{at + below, s, was, is, of.by[below]})
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b changed) int {
		return cmp.Or(cmp.Compare(a.by.Position, b.by.Position), cmp.Compare(a.field, b.field))
	})
	return out, nil
}

// held tells whether any of the parts was there at the beginning, and is now.
func (c comparison) held() (h held) {
	for _, of := range c {
		h.before, h.now = h.before || of.before.IsValid(), h.now || of.value.IsValid()
	}
	return h
}

// diff folds a subject through the end, and compares it as it goes.
func (p *Past) diff(ctx context.Context, c comparison, s subject, h trail, start, end eventstore.Place, limit int) (Diff, told, error) {
	begun := false
	t, err := h.fold(s, end, watch{
		before: func(r *eventstore.Recorded) {
			if r.Position > start.Position && !begun {
				begun = true
				c.begin(s)
			}
		},
		after: func(r *eventstore.Recorded) error {
			if !begun {
				return nil
			}
			return c.changedBy(r, s)
		},
	})
	if err != nil {
		return Diff{}, t, err
	}
	if !begun {
		c.begin(s)
	}
	all, err := c.changes()
	if err != nil {
		return Diff{}, t, err
	}
	out := Diff{From: at(start), To: at(end), Changes: []Change{}, Total: len(all), Stopped: t.stopped}
	for _, f := range all[:min(max(limit, 1), MostChanges, len(all))] {
		change, err := p.open(ctx, f)
		if err != nil {
			return Diff{}, t, err
		}
		out.Changes = append(out.Changes, change)
	}
	return out, t, nil
}

// open is a changed field as its reader sees it.
func (p *Past) open(ctx context.Context, f changed) (Change, error) {
	out, o := Change{Field: f.field, Cause: causeOf(*f.by)}, opening{texts: p.Texts}
	for _, one := range []struct {
		name string
		of   reflect.Value
		into **any
	}{{"before", f.was, &out.Before}, {"after", f.is, &out.After}} {
		if !one.of.IsValid() {
			continue
		}
		v, err := f.shape.spell(one.of)
		if err == nil {
			v, err = o.open(ctx, pointer(one.name), v)
		}
		if err != nil {
			return out, err
		}
		*one.into = &v
	}
	out.Unopened = o.unopened
	return out, nil
}
