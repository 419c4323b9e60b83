package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Rows are the rows of a read model at a moment, as the screens were answered from.
type Rows struct {
	Projection string `json:"projection"`
	Version    int    `json:"version"`
	Key        string `json:"key" doc:"The ordering key that the rows belong to"`
	At         At     `json:"at"`
	Rows       []Row  `json:"rows" nullable:"false"`
	Total      int    `json:"total" doc:"How many there are; no more are listed than the limit says"`
	Unopened
	Stopped *Stopped `json:"stopped,omitempty" doc:"The fold could not go on at this event: the rows are of those before it, as where a projector parked the key"`
}

// Row is one row, with what made it as it is.
type Row struct {
	Table string         `json:"table"`
	Row   map[string]any `json:"row" doc:"By column. Personal texts are opened; a time that was not given is null"`
	Last  Cause          `json:"last" doc:"The last event that changed it"`
}

// MostRows bounds the rows of an answer.
const MostRows = 1000

// rowSubject is the rows of one ordering key in one version of a projection.
type rowSubject struct {
	projection engine.Projection
	decoder    engine.Decoder
	unit       *engine.Unit
	name       string // of the rows that are wanted; "" for all
	shapes     map[*engine.Def]*shape
}

func (p *Past) rowSubject(v engine.Projection, name string) *rowSubject {
	return &rowSubject{projection: v, decoder: engine.NewDecoder(p.Codec, v), unit: engine.NewUnit(), name: name, shapes: map[*engine.Def]*shape{}}
}

// decode answers nil for an event that the projection does not use.
func (s *rowSubject) decode(r eventstore.Recorded) (any, error) {
	e, wanted, err := s.decoder.Event(s.projection, r)
	if err != nil || !wanted {
		return nil, err
	}
	return e, nil
}

func (s *rowSubject) step(decoded any) error {
	if decoded == nil {
		return nil
	}
	return s.unit.Replay(s.projection, decoded.(engine.Event))
}

func (s *rowSubject) touched() iter.Seq[part] {
	return func(yield func(part) bool) {
		for _, t := range s.unit.Touched() {
			path := make([]string, 1, 1+len(t.Key))
			path[0] = t.Table.Base
			for _, k := range t.Key {
				path = append(path, fmt.Sprint(k))
			}
			if !named(s.name, path[1:]) {
				continue
			}
			of := s.shapes[t.Table]
			if of == nil {
				of = rowShape(t.Table.At(s.projection.Version))
				s.shapes[t.Table] = of
			}
			p := part{path: path, shape: of}
			if t.Row != nil {
				p.value = reflect.ValueOf(t.Row)
			}
			if !yield(p) {
				return
			}
		}
	}
}

// named tells whether a name means a row: its primary key, parts joined by slashes, or the first of them.
func named(name string, key []string) bool {
	joined := strings.Join(key, "/")
	return name == "" || joined == name || strings.HasPrefix(joined, name+"/")
}

// rowShape is how a row comes out by its columns.
func rowShape(d *engine.Def) *shape {
	s := &shape{object: true}
	for c, of := range d.Fields() {
		f := shapeAt(of.Type, pointer(c.Name), nil)
		if f.name, f.index = c.Name, of.Index; of.Type == timeType {
			f.spell = func(v reflect.Value) (any, error) {
				if v.IsZero() {
					return nil, nil
				}
				return spellTime(v)
			}
		}
		s.fields = append(s.fields, f)
	}
	s.spell = func(v reflect.Value) (any, error) { return s.spellObject(whole(v)) }
	return s
}

// version finds a projection's version: "reservations" is the one that serves, "reservations@1" and "reservations_v1" are
// that one.
func (p *Past) version(ctx context.Context, name string) (engine.Projection, error) {
	var newest *engine.Projection
	for _, v := range p.Projections {
		if v.ID() == name || v.Name+"@"+strconv.Itoa(v.Version) == name {
			return v, nil
		}
		if v.Name == name && (newest == nil || v.Version > newest.Version) {
			newest = &v
		}
	}
	if newest == nil {
		return engine.Projection{}, domain.Refuse("projection.unknown", "there is no projection %.80q", name)
	}
	if p.Serves == nil {
		return *newest, nil
	}
	serves, said, err := p.Serves(ctx, newest.Origin().Name)
	if at, known := newest.At(serves); err == nil && said && known {
		return at, nil
	}
	return *newest, ctx.Err()
}

// keys are the ordering keys that rows of a name may belong to, the likeliest first: most rows are named by theirs, or by
// something that begins with it.
func keys(name string) []string {
	out := []string{name}
	for _, part := range strings.SplitN(name, "/", maxKeyParts) {
		out = append(out, part)
		if item, _, found := strings.Cut(part, "@"); found && item != "" {
			out = append(out, item)
		}
		if groomer, ok := eventstore.GroomerOf(part); ok {
			out = append(out, groomer)
		}
	}
	slices.Sort(out[1:])
	return slices.Compact(out)
}

// maxKeyParts is more than any primary key has.
const maxKeyParts = 4

// errNoRow says that a key's history has no row of the name, or not yet.
var errNoRow = domain.Refuse("row.unknown", "")

// found are the rows of a name: those of one ordering key, all of them or the named ones.
type found struct {
	key  string
	rows map[string]part                 // by pointer
	last map[string]*eventstore.Recorded // that changed it
	told
}

// find folds one key after the other until one has rows of the name.
func (p *Past) find(ctx context.Context, v engine.Projection, name string, through eventstore.Place) (found, error) {
	f := found{}
	key, t, err := p.among(ctx, v, name, func(s subject, h trail) (held, told, error) {
		f.rows, f.last = map[string]part{}, map[string]*eventstore.Recorded{}
		t, err := h.fold(s, through, watch{after: func(r *eventstore.Recorded) error {
			for part := range s.touched() {
				at := pointer(part.path...)
				if f.last[at] = r; !part.value.IsValid() {
					delete(f.rows, at)
				} else {
					f.rows[at] = part
				}
			}
			return nil
		}})
		return held{now: len(f.rows) > 0}, t, err
	})
	f.key, f.told = key, t
	return f, err
}

// held tells whether a key has rows of a name at the moments that are asked for.
type held struct{ before, now bool }

// among lets look fold one key after the other, until one has rows of the name now. Otherwise it is the first whose fold stopped,
// or the first that had rows before: what look has seen last is of that one.
func (p *Past) among(ctx context.Context, v engine.Projection, name string, look func(subject, trail) (held, told, error)) (key string, t told, err error) {
	one := func(key string) (held, told, error) {
		wanted := name
		if key == name {
			wanted = ""
		}
		return look(p.rowSubject(v, wanted), p.keyHistory(ctx, key))
	}
	var first *eventstore.Recorded
	stopped, before := "", ""
	for _, key := range keys(name) {
		h, t, err := one(key)
		if err != nil || h.now {
			return key, t, err
		}
		if t.stopped != nil && stopped == "" {
			stopped = key
		}
		if h.before && before == "" {
			before = key
		}
		if first == nil || t.first != nil && t.first.Position < first.Position {
			first = t.first
		}
	}
	key = cmp.Or(stopped, before)
	if key == "" { // what begins later under another of the keys does not make the moment one before them all
		return "", told{first: first}, domain.Refuse(errNoRow.Code, "%s has no row of %.200q there", v.ID(), name)
	}
	_, t, err = one(key)
	return key, t, err
}

// Rows folds a read model's rows through a moment: those of an ordering key ("kim"), or of a primary key, parts joined by
// slashes ("kim.0123…", "kim/2026-11-24"), or of its first parts. At most limit are listed.
func (p *Past) Rows(ctx context.Context, projection, name string, m Moment, limit int) (Rows, error) {
	v, err := p.version(ctx, projection)
	if err != nil {
		return Rows{}, err
	}
	place, err := p.place(ctx, m, "")
	if err != nil {
		return Rows{}, err
	}
	f, err := p.find(ctx, v, name, place)
	if errors.Is(err, errNoRow) && f.first != nil && f.first.Position > place.Position {
		err = notYet(m, f.first, err)
	}
	if err != nil {
		return Rows{}, err
	}
	out := Rows{Projection: v.Name, Version: v.Version, Key: f.key, At: at(place), Rows: []Row{}, Total: len(f.rows), Stopped: f.stopped}
	o := opening{texts: p.Texts}
	for _, at := range slices.Sorted(maps.Keys(f.rows))[:min(max(limit, 1), MostRows, len(f.rows))] {
		part := f.rows[at]
		row, err := part.show()
		if err == nil {
			row, err = o.open(ctx, at, row)
		}
		if err != nil {
			return Rows{}, err
		}
		out.Rows = append(out.Rows, Row{part.path[0], row.(map[string]any), causeOf(*f.last[at])})
	}
	out.Unopened = o.unopened
	return out, nil
}
