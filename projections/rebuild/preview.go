package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Preview tells what a version of a projection would change against another one, before a row of it is written: it folds events
// by both, in memory.
//
// The keys that have events in the range are folded from their first event to the range's end, since a fold needs all that was
// before: of them the answer is exact, and of others nothing is said. What a database would refuse is not seen.
//
// Memory is bounded by MostRows rows of about 1 KiB for each version, or one key's where that has more, and the keys' names. A
// store is asked for one key after the other; one that reads all it has whatever is asked for, once for as many as fit.
type Preview struct {
	Events   Events
	Scans    bool // as of Worker
	Slice    bool // the events are a part of a history: keys that it has cut off at their beginning are told, and not compared
	Codec    *eventstore.Codec
	New, Old engine.Projection // the version, and what it is held against
	From, To Bound
	Sample   int    // so many of the keys, drawn at random; 0: all
	Seed     uint32 // with which they are drawn
	Examples int    // rows that are told one by one, at most
	MostRows int    // defaults to 50,000
}

// Bound is an end of a range, itself within: a position of the store, or a time; the zero value is no bound.
type Bound struct {
	Position uint64
	At       time.Time
}

// ParseBound reads a position, a time as 2026-11-24T14:03:00+09:00, or nothing.
func ParseBound(option, text string) (b Bound, err error) {
	if text == "" {
		return b, nil
	}
	if b.Position, err = strconv.ParseUint(text, 10, 63); err == nil && b.Position > 0 {
		return b, nil
	}
	if b.At, err = time.Parse(time.RFC3339, text); err == nil && !b.At.IsZero() {
		return Bound{At: b.At}, nil
	}
	return Bound{}, &OptionError{option, "is no place in the store: a position from 1 on, or a time as 2026-11-24T14:03:00+09:00"}
}

// Previewed is what a preview found. Its JSON is the API's.
type Previewed struct {
	Projection string      `json:"projection"`
	Version    int         `json:"version"`
	Against    int         `json:"against"`
	From       uint64      `json:"from" doc:"Position of the first event in the range that one of the versions uses; 0: there is none"`
	To         uint64      `json:"to" doc:"And of the last: the keys are folded through it"`
	Keys       int         `json:"keys" doc:"Which have such events"`
	Folded     int         `json:"folded" doc:"Of these keys: all, or a sample"`
	Seed       uint32      `json:"seed,omitempty" doc:"With which the sample was drawn: the same draws it again"`
	Tables     []TableDiff `json:"tables"`
	Failed     []FailedKey `json:"failed,omitempty" doc:"The first keys whose events cannot be folded by one of the versions: not compared"`
	Cut        int         `json:"cut,omitempty" doc:"Of the keys that were to be folded, those whose history the slice has not from its beginning on: not compared"`
	CutKeys    []string    `json:"cut_keys,omitempty" doc:"The first of them"`
	Examples   []RowDiff   `json:"examples,omitempty"`
	Unexpected int64       `json:"unexpected" doc:"Rows that differ and should not, and keys that only the new version cannot fold"`
}

// TableDiff is what becomes of a table's rows.
type TableDiff struct {
	Table    string       `json:"table"`
	Rows     int64        `json:"rows" doc:"Of the keys that were folded, in the new version"`
	Added    int64        `json:"added"`
	Removed  int64        `json:"removed"`
	Changed  int64        `json:"changed"`
	Expected string       `json:"expected,omitempty" doc:"Why rows are added or removed, where the projection says that they are"`
	Columns  []ColumnDiff `json:"columns,omitempty"`
}

// ColumnDiff is in how many rows a column changes.
type ColumnDiff struct {
	Column   string `json:"column"`
	Rows     int64  `json:"rows"`
	Expected string `json:"expected,omitempty" doc:"Why, where the projection says that it does"`
}

// RowDiff is one row.
type RowDiff struct {
	Table    string      `json:"table"`
	Row      string      `json:"row"` // its primary key
	Key      string      `json:"key"` // ordering key
	Change   string      `json:"change" enum:"added,removed,changed"`
	Expected bool        `json:"expected,omitempty"`
	Columns  []ValueDiff `json:"columns,omitempty"`
	Event    *EventRef   `json:"event,omitempty" doc:"Since which it differs"`

	d     *engine.Def
	parts []any
}

// ValueDiff is one value of a row, as the database keeps it, cut where it is long.
type ValueDiff struct {
	Column string `json:"column"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// FailedKey is a key that a version cannot fold: it would be parked there.
type FailedKey struct {
	Key     string   `json:"key"`
	Version int      `json:"version"`
	Event   EventRef `json:"event"`
	Cause   string   `json:"cause"`
}

// preview is one at work.
type preview struct {
	Preview
	versions [2]engine.Projection // old, new
	decoders [2]engine.Decoder
	tables   []*diffed
	out      *Previewed
	expected []RowDiff // examples that are, while there may be others
}

// folded is one key's rows in both versions.
type folded struct {
	units  [2]*engine.Unit
	failed [2]*FailedKey
	whole  beginning
}

// Run folds and compares. An event whose type the catalogue lacks is an error.
func (p Preview) Run(ctx context.Context) (*Previewed, error) {
	p.MostRows = cmp.Or(p.MostRows, 50_000)
	w := &preview{
		Preview: p, versions: [2]engine.Projection{p.Old, p.New},
		decoders: [2]engine.Decoder{engine.NewDecoder(p.Codec, p.Old), engine.NewDecoder(p.Codec, p.New)},
		out:      &Previewed{Projection: p.New.Name, Version: p.New.Version, Against: p.Old.Version},
	}
	w.tables = diffedTables(p.Old, p.New)
	keys, err := w.inRange(ctx)
	if err != nil {
		return nil, err
	}
	keys = w.draw(keys)
	for len(keys) > 0 {
		n := 1
		if p.Scans {
			n = len(keys)
		}
		if n, err = w.portion(ctx, keys[:n]); err != nil {
			return nil, err
		}
		keys = keys[n:]
	}
	for _, t := range w.tables {
		w.out.Tables = append(w.out.Tables, t.told())
	}
	w.out.Examples = append(w.out.Examples, w.expected[:min(len(w.expected), p.Examples-len(w.out.Examples))]...)
	return w.out, w.explain(ctx)
}

// inRange lists the keys that have events in the range, in order, and finds where the range ends.
func (w *preview) inRange(ctx context.Context) ([]string, error) {
	keys := map[string]bool{}
	for e, err := range w.Events.ReadAll(ctx, max(w.From.Position, 1)-1, eventstore.Filter{}) {
		if err != nil {
			return nil, fmt.Errorf("read the range: %w", err)
		}
		if w.To.Position > 0 && e.Position > w.To.Position {
			break
		}
		if e.RecordedAt.Before(w.From.At) || !w.To.At.IsZero() && e.RecordedAt.After(w.To.At) {
			continue
		}
		if used, err := w.uses(e); err != nil || !used {
			if err != nil {
				return nil, err
			}
			continue
		}
		if w.out.From == 0 {
			w.out.From = e.Position
		}
		w.out.To, keys[e.Key] = e.Position, true
	}
	w.out.Keys = len(keys)
	return slices.Sorted(maps.Keys(keys)), nil
}

// uses tells whether one of the versions folds an event.
func (w *preview) uses(e eventstore.Recorded) (bool, error) {
	for i, p := range w.versions {
		_, wanted, err := w.decoders[i].Event(p, e)
		if errors.As(err, new(*eventstore.UnknownTypeError)) {
			return false, err
		}
		if wanted {
			return true, nil
		}
	}
	return false, nil
}

// draw takes the sample.
func (w *preview) draw(keys []string) []string {
	if w.Sample > 0 {
		random := rand.New(rand.NewPCG(uint64(w.Seed), 0)) //nolint:gosec // the same seed draws the same keys
		random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		keys, w.out.Seed = keys[:min(w.Sample, len(keys))], w.Seed
		slices.Sort(keys)
	}
	w.out.Folded = len(keys)
	return keys
}

// each reads the events of some keys up to the range's end, of each key in order.
func (w *preview) each(ctx context.Context, keys []string, do func(eventstore.Recorded) error) error {
	filters := []eventstore.Filter{{}}
	if !w.Scans {
		filters = filters[:0]
		for _, key := range keys {
			filters = append(filters, eventstore.Filter{Key: key})
		}
	}
	for _, f := range filters {
		for e, err := range w.Events.ReadAll(ctx, 0, f) {
			if err != nil {
				return fmt.Errorf("read the events of keys: %w", err)
			}
			if e.Position > w.out.To {
				break
			}
			if err := do(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// portion folds the keys, or as many of the first of them as fit into memory, compares their rows and answers how many.
func (w *preview) portion(ctx context.Context, keys []string) (int, error) {
	of := map[string]*folded{}
	for _, key := range keys {
		of[key] = newFolded()
	}
	held := 0
	err := w.each(ctx, keys, func(e eventstore.Recorded) error {
		one, ours := of[e.Key]
		if !ours {
			return nil
		}
		before := one.held()
		if err := w.fold(one, e); err != nil {
			return err
		}
		for held += one.held() - before; held > 2*w.MostRows && len(keys) > 1; keys = keys[:len(keys)/2] {
			for _, key := range keys[len(keys)/2:] {
				held -= of[key].held()
				delete(of, key)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := w.compare(key, of[key]); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

func newFolded() *folded { return &folded{units: [2]*engine.Unit{engine.NewUnit(), engine.NewUnit()}} }

func (f *folded) held() int { return f.units[0].Len() + f.units[1].Len() }

// fold applies an event to both versions' rows. A version that has failed before takes no more of the key.
func (w *preview) fold(f *folded, e eventstore.Recorded) error {
	if w.Slice && f.whole.lacks(e) {
		return nil
	}
	for i, p := range w.versions {
		if f.failed[i] != nil {
			continue
		}
		event, wanted, err := w.decoders[i].Event(p, e)
		if errors.As(err, new(*eventstore.UnknownTypeError)) {
			return err
		}
		if err == nil && wanted {
			err = f.units[i].Replay(p, event)
		}
		if err != nil {
			f.failed[i] = &FailedKey{Key: e.Key, Version: p.Version, Event: *refTo(e), Cause: engine.Explain(err)}
		}
	}
	return nil
}
