package rebuild

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Report is what a verification found. Both versions were read in one snapshot of the database.
type Report struct {
	Rows     int64      `json:"rows" doc:"Of the version that was verified"`
	Refolded int        `json:"refolded" doc:"Keys of which one version had an event more than the other: each version's rows were held to a fold of the store instead"`
	Parked   []string   `json:"parked,omitempty" doc:"Keys that wait in one of the versions: not compared"`
	Expected []Expected `json:"expected,omitempty" doc:"What the projection says must differ: not compared"`
	Differ   int64      `json:"differ" doc:"Rows that differ and should not"`
	Listed   []Unlike   `json:"listed,omitempty" doc:"The first of them"`
}

// Equal tells whether the versions are as they should be.
func (r *Report) Equal() bool { return r.Differ == 0 }

// Expected is what is not compared.
type Expected struct {
	Table  string `json:"table"`
	Column string `json:"column,omitempty"`
	Why    string `json:"why"`
}

// Unlike is one row that differs.
type Unlike struct {
	Table   string   `json:"table"` // without the version
	Row     string   `json:"row"`   // its primary key
	Key     string   `json:"key"`   // ordering key
	Columns []string `json:"columns,omitempty"`
	Why     string   `json:"why"`
	// Event is the one since which the folds of the two versions differ.
	Event *EventRef `json:"event,omitempty"`
}

// EventRef names an event.
type EventRef struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Position uint64 `json:"position"`
}

const (
	// Until the two stand at the same positions; then what is between them is folded instead.
	equalTries = 50
	equalPause = 4 * time.Millisecond
	mostListed = 50
)

var errUnequal = errors.New("the versions stand at different positions")

// verify compares a version with another in one snapshot, which sees the offsets and rows of both: nobody is held up for
// it. Where they stand at different positions, which under load may be always, the keys with events in between are not
// compared with each other: the rows of each version are held to the fold of the store up to where that version stands.
func (k *work) verify(ctx context.Context, p engine.Projection) error {
	other, known := k.Desk.version(p.Name, k.run.Against)
	if !known {
		return fmt.Errorf("%w: this release has no version %d of %s", ErrUnknown, k.run.Against, p.Name)
	}
	k.at(Comparing, 0)
	var report *Report
	for tries := 0; ; tries++ {
		err := k.lease.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
			v := &verification{work: k, q: q, p: p, other: other, report: &Report{}}
			report = v.report
			return v.run(ctx, tries < equalTries)
		})
		if err == nil {
			break
		}
		if !errors.Is(err, errUnequal) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(equalPause):
		}
	}
	verified := ""
	if report.Equal() {
		verified = k.run.ID
	}
	return k.finish(ctx, func(r *Run) { r.State, r.Report, r.Rows = Done, report, report.Rows }, func(ctx context.Context, tx *sql.Tx) error {
		serves, _, err := engine.ActiveVersion(ctx, tx, p.Name)
		if err != nil || serves != other.Version {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE projection_versions SET verified_run = ? WHERE projection = ? AND version = ?", verified, p.Name, p.Version)
		return err
	})
}

// verification is one snapshot's worth.
type verification struct {
	*work
	q        reads.Queryer
	p, other engine.Projection
	at       map[Partition]uint64 // where p stands
	otherAt  map[Partition]uint64
	apart    map[string]bool // keys that are not compared with the other version
	report   *Report
}

func (v *verification) run(ctx context.Context, mustBeEqual bool) error {
	places, err := engine.PlacesOf(ctx, v.q, []string{v.p.ID(), v.other.ID()})
	if err != nil {
		return err
	}
	v.at, v.otherAt, v.apart = map[Partition]uint64{}, map[Partition]uint64{}, map[string]bool{}
	for _, at := range places {
		if at.Projection == v.p.ID() {
			v.at[Partition{at.Topic, at.Part}] = at.LastPos
		} else {
			v.otherAt[Partition{at.Topic, at.Part}] = at.LastPos
		}
	}
	between := false
	for _, parts := range []map[Partition]uint64{v.at, v.otherAt} {
		for part := range parts {
			between = between || v.at[part] != v.otherAt[part]
		}
	}
	if between && mustBeEqual {
		return errUnequal
	}
	if err := v.parked(ctx); err != nil {
		return err
	}
	var refold []string
	if between {
		if refold, err = v.between(ctx); err != nil {
			return err
		}
	}
	for _, t := range v.p.Tables {
		if !slices.Contains(v.other.Tables, t) {
			v.report.Expected = append(v.report.Expected, Expected{Table: t.Def().Base, Why: fmt.Sprintf("version %d does not have it", v.other.Version)})
			continue
		}
		if err := v.table(ctx, t.Def()); err != nil {
			return err
		}
	}
	for _, key := range refold {
		if err := v.refold(ctx, key); err != nil {
			return err
		}
	}
	v.report.Refolded = len(refold)
	return nil
}

func (v *verification) parked(ctx context.Context) error {
	waiting, err := engine.ParkedAmong(ctx, v.q, []string{v.p.ID(), v.other.ID()}, nil)
	if err != nil {
		return err
	}
	for _, w := range waiting {
		if !v.apart[w.Key] {
			v.apart[w.Key] = true
			v.report.Parked = append(v.report.Parked, w.Key)
		}
	}
	slices.Sort(v.report.Parked)
	return nil
}

// between lists the keys that have events between where the two versions stand.
func (v *verification) between(ctx context.Context) (keys []string, err error) {
	from, to := ^uint64(0), uint64(0)
	counts := map[string]int{} // partitions of a topic
	for part := range v.at {
		counts[part.Topic]++
		if low, high := min(v.at[part], v.otherAt[part]), max(v.at[part], v.otherAt[part]); low != high {
			from, to = min(from, low), max(to, high)
		}
	}
	for e, err := range v.Store.ReadAll(ctx, from, eventstore.Filter{}) {
		if err != nil {
			return nil, fmt.Errorf("read what lies between the versions: %w", err)
		}
		if e.Position > to {
			break
		}
		topic := wire.TopicOf(e.Stream)
		if counts[topic] == 0 || v.apart[e.Key] {
			continue
		}
		part := Partition{topic, engine.PartitionOf(e.Key, counts[topic])}
		if (e.Position > v.at[part]) != (e.Position > v.otherAt[part]) {
			v.apart[e.Key] = true
			keys = append(keys, e.Key)
		}
	}
	return keys, nil
}

// differ notes a row.
func (v *verification) differ(u Unlike) {
	if v.report.Differ++; len(v.report.Listed) < mostListed {
		v.report.Listed = append(v.report.Listed, u)
	}
}

// shared are the columns of a table that both versions have and that should be equal.
func (v *verification) shared(d *engine.Def) (columns []engine.Column) {
	a, b := d.At(v.p.Version), d.At(v.other.Version)
	expected := v.p.Differs
	if v.other.Version > v.p.Version {
		expected = v.other.Differs
	}
	for _, c := range d.Columns {
		has := func(t *engine.Def) bool {
			return slices.ContainsFunc(t.Columns, func(x engine.Column) bool { return x.Name == c.Name })
		}
		i := slices.IndexFunc(expected, func(x engine.Differs) bool { return x.Table == d && x.Column == c.Name })
		switch {
		case !has(a) && !has(b):
		case !has(a) || !has(b):
			v.report.Expected = append(v.report.Expected, Expected{d.Base, c.Name, fmt.Sprintf("new in version %d", max(v.p.Version, v.other.Version))})
		case i >= 0:
			v.report.Expected = append(v.report.Expected, Expected{d.Base, c.Name, expected[i].Why})
		default:
			columns = append(columns, c)
		}
	}
	return columns
}

// table compares a table, range by range of its primary key.
func (v *verification) table(ctx context.Context, d *engine.Def) error {
	r := newRanges(v.lease.db.Dialect(), d, v.shared(d))
	var after []any
	for {
		through, last, err := r.next(ctx, v.q, v.p.Version, after)
		if err != nil {
			return err
		}
		rows, equal, err := r.equal(ctx, v.q, v.p.Version, v.other.Version, after, through)
		if err != nil {
			return err
		}
		if !equal {
			if rows, err = v.rows(ctx, r, after, through); err != nil {
				return err
			}
		}
		v.report.Rows += rows
		v.say(func(run *Run) { run.Done, run.Rows = v.report.Rows, v.report.Rows })
		if last {
			return nil
		}
		after = through
	}
}

// rows compares the rows of a range one by one.
func (v *verification) rows(ctx context.Context, r *ranges, after, through []any) (int64, error) {
	a, err := r.read(ctx, v.q, v.p.Version, after, through)
	if err != nil {
		return 0, err
	}
	b, err := r.read(ctx, v.q, v.other.Version, after, through)
	if err != nil {
		return 0, err
	}
	names := map[string]bool{}
	for n := range a {
		names[n] = true
	}
	for n := range b {
		names[n] = true
	}
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	for _, n := range sorted {
		x, inA := a[n]
		y, inB := b[n]
		one := x
		if !inA {
			one = y
		}
		if v.apart[one.ordering] {
			continue
		}
		u := Unlike{Table: r.d.Base, Row: n, Key: one.ordering}
		switch {
		case !inB:
			u.Why = fmt.Sprintf("version %d does not have it", v.other.Version)
		case !inA:
			u.Why = fmt.Sprintf("version %d does not have it", v.p.Version)
		default:
			for i, c := range r.columns {
				if x.values[i] != y.values[i] {
					u.Columns = append(u.Columns, c.Name)
				}
			}
			if x.ordering != y.ordering {
				u.Columns = append(u.Columns, "ordering_key")
			}
			if len(u.Columns) == 0 {
				continue
			}
			u.Why = "the versions differ"
		}
		if len(v.report.Listed) < mostListed {
			if err := v.explain(ctx, r, one, &u); err != nil {
				return 0, err
			}
		}
		v.differ(u)
	}
	return int64(len(a)), nil
}

// explain finds the event since which the folds of the two versions differ in a row; when they never do, one of the rows
// is not what the fold makes of the store.
func (v *verification) explain(ctx context.Context, r *ranges, of row, u *Unlike) error {
	fold := [2]*engine.Unit{engine.NewUnit(), engine.NewUnit()}
	versions := [2]engine.Projection{v.p, v.other}
	decode := engine.NewDecoder(v.Codec, v.p)
	ref := r.d.Ref(of.parts...)
	part := v.partition(u.Key)
	for e, err := range v.Store.ReadAll(ctx, 0, eventstore.Filter{Key: u.Key}) {
		if err != nil {
			return fmt.Errorf("read the events of %q: %w", u.Key, err)
		}
		if e.Position > v.at[part(e)] {
			continue
		}
		event, wanted, err := decode.Event(v.p, e)
		if err != nil {
			return err
		}
		if !wanted {
			continue
		}
		var texts [2][]string
		for i, version := range versions {
			if err := fold[i].Replay(version, event); err != nil {
				return err
			}
			if texts[i], err = r.texts(fold[i].Row(ref)); err != nil {
				return err
			}
		}
		if equal := slices.Equal(texts[0], texts[1]); equal {
			u.Event = nil
		} else if u.Event == nil {
			u.Event = &EventRef{e.ID.String(), e.Type, e.Position}
		}
	}
	if u.Event != nil {
		return nil
	}
	u.Why += "; their folds do not: a row was changed by something else"
	return nil
}

// partition tells which partition an event is in.
func (v *verification) partition(key string) func(e eventstore.Recorded) Partition {
	counts := map[string]int{}
	for part := range v.at {
		counts[part.Topic]++
	}
	return func(e eventstore.Recorded) Partition {
		topic := wire.TopicOf(e.Stream)
		if counts[topic] == 0 {
			return Partition{}
		}
		return Partition{topic, engine.PartitionOf(key, counts[topic])}
	}
}

// refold holds the rows of a key to the fold of the store, in each version up to where that stands.
func (v *verification) refold(ctx context.Context, key string) error {
	part := v.partition(key)
	for _, side := range []struct {
		p  engine.Projection
		at map[Partition]uint64
	}{{v.p, v.at}, {v.other, v.otherAt}} {
		u, decode := engine.NewUnit(), engine.NewDecoder(v.Codec, side.p)
		for e, err := range v.Store.ReadAll(ctx, 0, eventstore.Filter{Key: key}) {
			if err != nil {
				return fmt.Errorf("read the events of %q: %w", key, err)
			}
			if e.Position > side.at[part(e)] {
				continue
			}
			event, wanted, err := decode.Event(side.p, e)
			if err == nil && wanted {
				err = u.Replay(side.p, event)
			}
			if err != nil {
				return err
			}
		}
		for _, t := range side.p.Tables {
			d := t.Def()
			r := newRanges(v.lease.db.Dialect(), d, d.At(side.p.Version).Columns)
			got, err := r.readKey(ctx, v.q, side.p.Version, key)
			if err != nil {
				return err
			}
			want, err := r.rowsOf(u.Rows(d))
			if err != nil {
				return err
			}
			for n, x := range want {
				if y, found := got[n]; !found || !slices.Equal(x, y.values) {
					v.differ(Unlike{Table: d.Base, Row: n, Key: key, Why: fmt.Sprintf("in version %d it is not the fold of the store", side.p.Version)})
				}
				delete(got, n)
			}
			for n := range got {
				v.differ(Unlike{Table: d.Base, Row: n, Key: key, Why: fmt.Sprintf("in version %d it is there, and not in the fold of the store", side.p.Version)})
			}
		}
	}
	return nil
}
