package rebuild

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Holding holds rows of live versions to a fold of the store at once, without a run and without a worker: nothing is
// written, so whoever only looks may ask.
type Holding struct {
	DB    *reads.DB
	Redis redis.UniversalClient // of views
	Store Source
	Scans bool // as of Worker
	Codec *eventstore.Codec
}

// ErrNotWhole says that a view has not, or not any more, all rows: nothing is answered from it, so nothing is compared.
var ErrNotWhole = errors.New("the view is not whole")

func (h Holding) work() *work {
	return &work{Worker: &Worker{Desk: &Desk{DB: h.DB}, Store: h.Store, Codec: h.Codec}, lease: lease{db: h.DB}}
}

// Keys holds the rows that a version of tables has of some ordering keys. When ctx ends before all were, the report has those
// that were, and the error is ctx's.
func (h Holding) Keys(ctx context.Context, p engine.Projection, keys []string) (*Report, error) {
	report := &Report{}
	err := h.DB.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		s, err := h.work().side(ctx, q, p, report)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := s.holdKey(ctx, key); err != nil {
				return err
			}
			report.Refolded++
		}
		return nil
	})
	return report, err
}

// All holds every row of a version of tables.
func (h Holding) All(ctx context.Context, p engine.Projection) (*Report, error) {
	report := &Report{}
	err := h.DB.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		s, err := h.work().side(ctx, q, p, report)
		if err != nil {
			return err
		}
		return s.whole(ctx)
	})
	return report, err
}

// held is what a view has of a key, and what the store's fold has up to there.
type held struct {
	rows engine.ViewRows
	unit *engine.Unit
}

// ViewKeys holds the rows that a version of a view has of some ordering keys of a topic: each key up to where its partition
// stands at that moment. It ends early as Keys does. The error is ErrNotWhole where the view answers nothing.
func (h Holding) ViewKeys(ctx context.Context, p engine.Projection, topic string, keys []string) (*Report, error) {
	report := &Report{}
	v, serving, err := h.view(ctx, p)
	if err != nil {
		return report, err
	}
	for _, key := range keys {
		rows, err := v.read(ctx, serving, topic, key)
		if err != nil {
			return report, err
		}
		one := held{rows, engine.NewUnit()}
		for e, err := range h.Store.ReadAll(ctx, 0, eventstore.Filter{Key: key}) {
			if err == nil {
				err = v.fold(one, topic, e)
			}
			if err != nil {
				return report, fmt.Errorf("fold %q: %w", key, err)
			}
		}
		if err := v.compare(report, key, one); err != nil {
			return report, err
		}
	}
	return report, nil
}

// slicesAtOnce is of how many slices the rows of a view are in memory together, from the store and from Redis.
const slicesAtOnce = 32

// ViewAll holds every row that a version of a view has of keys of the store.
func (h Holding) ViewAll(ctx context.Context, p engine.Projection) (*Report, error) {
	report := &Report{}
	v, serving, err := h.view(ctx, p)
	if err != nil {
		return report, err
	}
	for _, topic := range p.Topics {
		step := slicesAtOnce
		if h.Scans {
			step = eventstore.Slices
		}
		for from := 0; from < eventstore.Slices; from += step {
			f := eventstore.Filter{Slices: eventstore.SliceRange{From: from, To: from + step}}
			all := map[string]held{}
			for e, err := range h.Store.ReadAll(ctx, 0, f) {
				if err != nil {
					return report, fmt.Errorf("list the keys of slices %d to %d: %w", from, from+step-1, err)
				}
				if _, known := all[e.Key]; known || wire.TopicOf(e.Stream) != topic {
					continue
				}
				rows, err := v.read(ctx, serving, topic, e.Key)
				if err != nil {
					return report, err
				}
				all[e.Key] = held{rows, engine.NewUnit()}
			}
			for e, err := range h.Store.ReadAll(ctx, 0, f) {
				one, known := all[e.Key]
				if err == nil && known {
					err = v.fold(one, topic, e)
				}
				if err != nil {
					return report, fmt.Errorf("fold slices %d to %d: %w", from, from+step-1, err)
				}
			}
			for key, one := range all {
				if err := v.compare(report, key, one); err != nil {
					return report, err
				}
			}
		}
	}
	return report, nil
}

// heldView reads one version of a view.
type heldView struct {
	engine.View
	p       engine.Projection
	decode  engine.Decoder
	dialect reads.Dialect
}

func (h Holding) view(ctx context.Context, p engine.Projection) (*heldView, engine.Serving, error) {
	serving, err := engine.LifeOf(ctx, h.DB.Reader(), p)
	v := &heldView{p: p, decode: engine.NewDecoder(h.Codec, p), dialect: h.DB.Dialect()}
	v.View = engine.View{Redis: h.Redis, Projection: p, Partitions: func(ctx context.Context, topic string) (int, error) {
		return engine.Partitions(ctx, h.DB.Reader(), topic)
	}}
	return v, serving, err
}

func (v *heldView) read(ctx context.Context, serving engine.Serving, topic, key string) (engine.ViewRows, error) {
	rows, err := v.Read(ctx, serving, topic, key)
	if err == nil && !rows.Whole {
		err = fmt.Errorf("%w: what is asked of %q is answered from the tables behind it", ErrNotWhole, key)
	}
	return rows, err
}

// fold folds an event that the view has.
func (v *heldView) fold(one held, topic string, e eventstore.Recorded) error {
	if e.Position > one.rows.Position || one.rows.Parked && e.Position >= one.rows.ParkedFrom || wire.TopicOf(e.Stream) != topic {
		return nil
	}
	return one.unit.Step(v.decode, v.p, e)
}

func (v *heldView) compare(report *Report, key string, one held) error {
	for _, t := range v.p.Tables {
		d := t.Def()
		r := newRanges(v.dialect, d, d.At(v.p.Version).Columns)
		want, err := r.rowsOf(one.unit)
		if err != nil {
			return err
		}
		there, err := one.rows.Rows(d)
		if err != nil {
			return err
		}
		got := map[string]row{}
		for _, of := range there {
			if err := r.add(got, of, key); err != nil {
				return err
			}
		}
		for _, n := range namesOf(want, got) {
			x, wanted := want[n]
			y, found := got[n]
			u := Unlike{Table: d.Base, Row: n, Key: key}
			switch {
			case !found:
				u.Why = "the view does not have it, and the fold of the store does"
			case !wanted:
				u.Why = "the view has it, and the fold of the store does not"
			default:
				if u.Columns = r.unlike(x, y); len(u.Columns) == 0 {
					continue
				}
				u.Why = "in the view it is not the fold of the store"
			}
			report.differ(u)
		}
		report.Rows += int64(len(got))
	}
	report.Refolded++
	return nil
}
