package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

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
	decode     engine.Decoder
	unit       *engine.Unit
	name       string // of the rows that are wanted; "" for all
	fresh      map[string]part
}

func (p *Past) rowSubject(v engine.Projection, name string) *rowSubject {
	return &rowSubject{projection: v, decode: engine.NewDecoder(p.Codec, v), unit: engine.NewUnit(), name: name, fresh: map[string]part{}}
}

func (s *rowSubject) step(r eventstore.Recorded) error {
	if err := s.unit.Step(s.decode, s.projection, r); err != nil {
		return err
	}
	for _, t := range s.unit.Touched() {
		names := make([]string, len(t.Key))
		for i, k := range t.Key {
			names[i] = fmt.Sprint(k)
		}
		if !named(s.name, names) {
			continue
		}
		path := append([]string{t.Table.Base}, names...)
		s.fresh[pointer(path...)] = part{path, t.Row, func(row any) (any, error) { return columns(t.Table.At(s.projection.Version), row) }}
	}
	return nil
}

func (s *rowSubject) touched() iter.Seq[part] {
	fresh := s.fresh
	s.fresh = map[string]part{}
	return maps.Values(fresh)
}

// named tells whether a name means a row: its primary key, parts joined by slashes, or the first of them.
func named(name string, key []string) bool {
	joined := strings.Join(key, "/")
	return name == "" || joined == name || strings.HasPrefix(joined, name+"/")
}

// columns are a row by its columns.
func columns(d *engine.Def, row any) (any, error) {
	out := map[string]any{}
	for c, v := range d.Fields(row) {
		if t, isTime := v.(time.Time); isTime && t.IsZero() {
			out[c.Name] = nil
			continue
		}
		var err error
		if out[c.Name], err = valueOf(v); err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", c.Name, d.Base, err)
		}
	}
	return out, nil
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
	var some *eventstore.Recorded
	var stopped found
	for _, key := range keys(name) {
		wanted := name
		if key == name {
			wanted = ""
		}
		f := found{key: key, rows: map[string]part{}, last: map[string]*eventstore.Recorded{}}
		s := p.rowSubject(v, wanted)
		var err error
		f.told, err = p.keyHistory(ctx, key).fold(s, through, watch{after: func(r eventstore.Recorded) error {
			for part := range s.touched() {
				at := pointer(part.path...)
				if f.last[at] = &r; part.value == nil {
					delete(f.rows, at)
				} else {
					f.rows[at] = part
				}
			}
			return nil
		}})
		if err != nil {
			return f, err
		}
		if len(f.rows) > 0 {
			return f, nil
		}
		if f.stopped != nil && stopped.stopped == nil {
			stopped = f
		}
		if some == nil {
			some = f.first
		}
	}
	if stopped.stopped != nil {
		return stopped, nil
	}
	return found{told: told{first: some}}, domain.Refuse(errNoRow.Code, "%s has no row of %.200q there", v.ID(), name)
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
		row, err := part.show(part.value)
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
