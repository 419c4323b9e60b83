package rebuild

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Report is what a verification found. All of a version was read in one snapshot of the database.
type Report struct {
	Rows     int64      `json:"rows" doc:"Of the version that was verified"`
	Refolded int        `json:"refolded" doc:"Keys whose rows were held to a fold of the store: all or a sample where that was asked for, else those of which one version had an event more than the other"`
	Seed     uint32     `json:"seed,omitempty" doc:"With which the sample was drawn: the same draws it again"`
	Parked   []string   `json:"parked,omitempty" doc:"Keys that wait in one of the versions: not compared with the other, and held to the store up to where they wait"`
	Expected []Expected `json:"expected,omitempty" doc:"What the projection says must differ: not compared"`
	Differ   int64      `json:"differ" doc:"Rows that differ and should not"`
	Listed   []Unlike   `json:"listed,omitempty" doc:"The first of them"`
}

// Equal tells whether all is as it should be.
func (r *Report) Equal() bool { return r.Differ == 0 }

// told ends a run that found this.
func (r *Report) told(run *Run) {
	run.State, run.Report, run.Rows, run.Detail = Done, r, r.Rows, ""
	if !r.Equal() {
		run.Detail = fmt.Sprintf("rows that differ: %d", r.Differ)
	}
}

// differ notes a row.
func (r *Report) differ(u Unlike) {
	if r.Differ++; r.more() {
		r.Listed = append(r.Listed, u)
	}
}

// more tells whether one more row that differs would be listed.
func (r *Report) more() bool { return len(r.Listed) < mostListed }

// Expected is what is not compared.
type Expected struct {
	Table  string `json:"table"`
	Column string `json:"column,omitempty"`
	Why    string `json:"why"`
}

// Unlike is one row that differs.
type Unlike struct {
	Table   string    `json:"table"` // without the version
	Row     string    `json:"row"`   // its primary key
	Key     string    `json:"key"`   // ordering key
	Columns []string  `json:"columns,omitempty"`
	Why     string    `json:"why"`
	Event   *EventRef `json:"event,omitempty" doc:"Since which the folds of two versions differ; of a row held to the store, the last that changed it there"`
}

// EventRef names an event.
type EventRef struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Position uint64 `json:"position"`
}

func refTo(e eventstore.Recorded) *EventRef { return &EventRef{e.ID.String(), e.Type, e.Position} }

const (
	// Until the two stand at the same positions; then what is between them is folded instead.
	equalTries = 50
	equalPause = 4 * time.Millisecond
	mostListed = 50
)

var errUnequal = errors.New("the versions stand at different positions")

// verify compares a version with another, each in a snapshot that sees its offsets with its rows: nobody is held up for it,
// and the database works for both at once. Where they stand at different positions, which under load may be always, the keys
// with events in between are not compared with each other: the rows of each version are held to the fold of the store up to
// where that version stands.
func (k *work) verify(ctx context.Context, p engine.Projection) error {
	if k.run.Options.Fresh {
		return k.fresh(ctx, p)
	}
	other, known := k.Desk.version(p.Name, k.run.Against)
	if !known {
		return fmt.Errorf("%w: this release has no version %d of %s", ErrUnknown, k.run.Against, p.Name)
	}
	k.at(Comparing, 0)
	var report *Report
	for tries := 0; ; tries++ {
		report = &Report{}
		err := k.lease.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
			return k.lease.db.Snapshot(ctx, func(ctx context.Context, otherQ reads.Queryer) (err error) {
				v := &verification{work: k, report: report}
				if v.a, err = k.side(ctx, q, p, report); err != nil {
					return err
				}
				if v.b, err = k.side(ctx, otherQ, other, report); err != nil {
					return err
				}
				return v.run(ctx, tries < equalTries)
			})
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
	return k.finish(ctx, report.told, func(ctx context.Context, tx *sql.Tx) error {
		serves, _, err := engine.ActiveVersion(ctx, tx, p.Name)
		if err != nil || serves != other.Version {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE projection_versions SET verified_run = ? WHERE projection = ? AND version = ?", verified, p.Name, p.Version)
		return err
	})
}

// verification is one pair of snapshots' worth.
type verification struct {
	*work
	a, b   *side           // the version that is verified, and the other
	apart  map[string]bool // keys that are not compared with the other version
	report *Report
}

func (v *verification) run(ctx context.Context, mustBeEqual bool) error {
	between := !maps.Equal(v.a.at, v.b.at)
	if between && mustBeEqual {
		return errUnequal
	}
	v.apart = map[string]bool{}
	for _, s := range []*side{v.a, v.b} {
		for at := range s.parked {
			v.apart[at.key] = true
		}
	}
	v.report.Parked = slices.Sorted(maps.Keys(v.apart))
	refold := v.report.Parked
	if between {
		keys, err := v.between(ctx)
		if err != nil {
			return err
		}
		refold = append(refold[:len(refold):len(refold)], keys...)
	}
	for _, t := range v.a.p.Tables {
		if !slices.Contains(v.b.p.Tables, t) {
			v.report.Expected = append(v.report.Expected, Expected{Table: t.Def().Base, Why: fmt.Sprintf("version %d does not have it", v.b.p.Version)})
			continue
		}
		if err := v.table(ctx, t.Def()); err != nil {
			return err
		}
	}
	for _, key := range refold {
		for _, s := range []*side{v.a, v.b} {
			if err := s.holdKey(ctx, key); err != nil {
				return err
			}
		}
	}
	v.report.Refolded = len(refold)
	return nil
}

// between lists the keys that have events between where the two versions stand.
func (v *verification) between(ctx context.Context) (keys []string, err error) {
	from, to := ^uint64(0), uint64(0)
	for _, parts := range []map[Partition]uint64{v.a.at, v.b.at} {
		for part := range parts {
			if low, high := min(v.a.at[part], v.b.at[part]), max(v.a.at[part], v.b.at[part]); low != high {
				from, to = min(from, low), max(to, high)
			}
		}
	}
	for e, err := range v.Store.ReadAll(ctx, from, eventstore.Filter{}) {
		if err != nil {
			return nil, fmt.Errorf("read what lies between the versions: %w", err)
		}
		if e.Position > to {
			break
		}
		if !v.apart[e.Key] && v.a.has(e) != v.b.has(e) {
			v.apart[e.Key] = true
			keys = append(keys, e.Key)
		}
	}
	return keys, nil
}

// shared are the columns of a table that both versions have and that should be equal.
func (v *verification) shared(d *engine.Def) (columns []engine.Column) {
	expected := expectedIn(d, v.a.p, v.b.p)
	for _, c := range d.Columns {
		if why, differs := expected[c.Name]; differs {
			v.report.Expected = append(v.report.Expected, Expected{d.Base, c.Name, why})
		} else if c.Since <= v.a.p.Version { // else neither has it
			columns = append(columns, c)
		}
	}
	return columns
}

// expectedIn are the columns of a table in which two versions are to differ, each with the reason: those that the newer one
// declares, and those that it alone has.
func expectedIn(d *engine.Def, a, b engine.Projection) map[string]string {
	if a.Version > b.Version {
		a, b = b, a
	}
	why := map[string]string{}
	for _, x := range b.Differs {
		if x.Table == d {
			why[x.Column] = x.Why
		}
	}
	for _, c := range d.Columns {
		if c.Since > a.Version && c.Since <= b.Version {
			why[c.Name] = fmt.Sprintf("new in version %d", b.Version)
		}
	}
	return why
}

// table compares a table, range by range of its primary key.
func (v *verification) table(ctx context.Context, d *engine.Def) error {
	r := newRanges(v.lease.db.Dialect(), d, v.shared(d))
	var after []any
	for {
		through, last, err := r.next(ctx, v.a.q, v.a.p.Version, after)
		if err != nil {
			return err
		}
		rows, equal, err := v.equal(ctx, r, after, through)
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

// equal compares the digests of a range. Of SQLite, the rows have to be read.
func (v *verification) equal(ctx context.Context, r *ranges, after, through []any) (rows int64, equal bool, err error) {
	if r.dialect == reads.SQLite {
		return 0, false, nil
	}
	a, b, err := both(ctx, v, func(ctx context.Context, s *side) (digest, error) {
		return r.digest(ctx, s.q, s.p.Version, after, through)
	})
	return a.rows, a == b, err
}

// both asks the two versions at once.
func both[T any](ctx context.Context, v *verification, ask func(context.Context, *side) (T, error)) (a, b T, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		a, err = ask(ctx, v.a)
		return err
	})
	group.Go(func() (err error) {
		b, err = ask(ctx, v.b)
		return err
	})
	err = group.Wait()
	return a, b, err
}

// rows compares the rows of a range one by one.
func (v *verification) rows(ctx context.Context, r *ranges, after, through []any) (int64, error) {
	a, b, err := both(ctx, v, func(ctx context.Context, s *side) (map[string]row, error) {
		return r.read(ctx, s.q, s.p.Version, after, through)
	})
	if err != nil {
		return 0, err
	}
	for _, n := range namesOf(a, b) {
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
			u.Why = fmt.Sprintf("version %d does not have it", v.b.p.Version)
		case !inA:
			u.Why = fmt.Sprintf("version %d does not have it", v.a.p.Version)
		default:
			if u.Columns = r.unlike(x, y); len(u.Columns) == 0 {
				continue
			}
			u.Why = "the versions differ"
		}
		if v.report.more() {
			if err := v.explain(ctx, r, one, &u); err != nil {
				return 0, err
			}
		}
		v.report.differ(u)
	}
	return int64(len(a)), nil
}

// explain finds the event since which the folds of the two versions differ in a row; when they never do, one of the rows
// is not what the fold makes of the store.
func (v *verification) explain(ctx context.Context, r *ranges, of row, u *Unlike) error {
	fold := [2]*engine.Unit{engine.NewUnit(), engine.NewUnit()}
	ref := r.d.Ref(of.parts...)
	for e, err := range v.Store.ReadAll(ctx, 0, eventstore.Filter{Key: u.Key}) {
		if err != nil {
			return fmt.Errorf("read the events of %q: %w", u.Key, err)
		}
		if !v.a.has(e) {
			continue
		}
		var texts [2][]string
		for i, s := range []*side{v.a, v.b} {
			if err := s.fold(fold[i], e); err != nil {
				return err
			}
			if texts[i], err = r.texts(fold[i].Row(ref)); err != nil {
				return err
			}
		}
		if equal := slices.Equal(texts[0], texts[1]); equal {
			u.Event = nil
		} else if u.Event == nil {
			u.Event = refTo(e)
		}
	}
	if u.Event != nil {
		return nil
	}
	u.Why += "; their folds do not: a row was changed by something else"
	return nil
}
