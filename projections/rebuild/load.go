package rebuild

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

type txFunc = func(ctx context.Context, tx *sql.Tx) error

// rebuild goes on from wherever the run is. What is done is read from the database, never from what this worker remembers.
func (k *work) rebuild(ctx context.Context, p engine.Projection) error {
	state, err := engine.StateOf(ctx, k.lease.db.Writer(), p)
	if err != nil {
		return err
	}
	if state == engine.Live && k.run.plan == nil {
		return refused("%s is live already", p.ID())
	}
	if state != engine.Live {
		if k.run.plan == nil {
			if err := k.prepare(ctx, p); err != nil {
				return err
			}
		}
		if err := k.load(ctx, p); err != nil {
			return err
		}
		if err := k.handOver(ctx, p); err != nil {
			return err
		}
	}
	if err := k.catchUp(ctx, p); err != nil {
		return err
	}
	return k.finish(ctx, func(r *Run) { r.State = Done }, k.lease.wanted)
}

// prepare notes what the rebuild goes by, and that there is such a version.
func (k *work) prepare(ctx context.Context, p engine.Projection) error {
	k.at(Preparing, 0)
	if err := k.remnants(ctx); err != nil { // of a run that ended without having removed what it made
		return err
	}
	ends, err := k.Ends(ctx, p.Topics)
	if err != nil {
		return err
	}
	head, err := k.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("look for the store's head: %w", err)
	}
	pl := plan{Head: head.Position, RecordedAt: head.RecordedAt, Incarnation: head.Incarnation}
	for at, next := range ends {
		pl.Ends = append(pl.Ends, end{at.Topic, at.Part, next})
	}
	b, err := json.Marshal(pl)
	if err != nil {
		return fmt.Errorf("write down the plan: %w", err)
	}
	err = k.lease.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := engine.SetState(ctx, tx, p, "", engine.Building); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE projection_runs SET plan = ? WHERE run_id = ?", string(b), k.run.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("write down the plan: %w", err)
	}
	k.say(func(r *Run) { r.plan = &pl })
	return nil
}

// load folds every slice that is not done into the tables, several at a time. The rows of a portion of slices, and the note
// that these are done, are one transaction.
func (k *work) load(ctx context.Context, p engine.Projection) error {
	if err := engine.MakeTables(ctx, k.lease.db, p); err != nil {
		return err
	}
	left, err := k.left(ctx)
	if err != nil {
		return err
	}
	k.at(Loading, eventstore.Slices)
	k.from(int64(eventstore.Slices - len(left)))
	bulk := engine.NewBulk(k.lease.db, p, k.Codec, k.mostRows(), k.lease.hold)
	defer bulk.Close()
	defer k.keepPace(ctx)()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range k.parallel() {
		group.Go(func() error {
			for {
				more, err := k.portion(ctx, bulk, func() (slice int, ok bool) {
					i := int(next.Add(1)) - 1
					if i >= len(left) {
						return 0, false
					}
					return left[i], true
				})
				if err != nil || !more {
					return err
				}
				if k.At != nil {
					k.At(Loading)
				}
			}
		})
	}
	return group.Wait()
}

// portion folds slices until there is enough for a transaction; more is false when none is left.
func (k *work) portion(ctx context.Context, bulk *engine.Bulk, next func() (int, bool)) (more bool, err error) {
	f := bulk.New()
	defer f.Close()
	began := time.Now()
	var slices []int
	for !f.Full() {
		slice, ok := next()
		if !ok {
			break
		}
		for e, err := range k.Store.ReadAll(ctx, 0, eventstore.Filter{Slice: &slice}) {
			if err != nil {
				return false, fmt.Errorf("read slice %d: %w", slice, err)
			}
			if e.Position > k.run.plan.Head {
				break
			}
			if err := f.Add(ctx, e); err != nil {
				return false, err
			}
		}
		slices = append(slices, slice)
	}
	if len(slices) == 0 {
		return false, nil
	}
	err = f.Commit(ctx, func(ctx context.Context, tx *sql.Tx) error {
		insert, args := "INSERT INTO projection_slices (run_id, slice) VALUES ", []any{}
		for i, s := range slices {
			if i > 0 {
				insert += ", "
			}
			insert, args = insert+"(?, ?)", append(args, k.run.ID, s)
		}
		_, err := tx.ExecContext(ctx, insert, args...)
		return err
	})
	if err != nil {
		return false, err
	}
	k.say(func(r *Run) { r.Done, r.Events, r.Rows = r.Done+int64(len(slices)), r.Events+f.Events, r.Rows+f.Rows })
	return true, k.pacer.rest(ctx, f.Events, time.Since(began))
}

// left lists the slices that are not done.
func (k *work) left(ctx context.Context) ([]int, error) {
	rows, err := k.lease.db.Writer().QueryContext(ctx, "SELECT slice FROM projection_slices WHERE run_id = ?", k.run.ID)
	if err != nil {
		return nil, fmt.Errorf("read which slices are done: %w", err)
	}
	defer rows.Close()
	var done [eventstore.Slices]bool
	for rows.Next() {
		var s int
		if err := rows.Scan(&s); err != nil {
			return nil, fmt.Errorf("read which slices are done: %w", err)
		}
		done[s] = true
	}
	var out []int
	for s, is := range done {
		if !is {
			out = append(out, s)
		}
	}
	return out, rows.Err()
}

// handOver makes the version live: its projectors go on from the log's ends as they were, and drop what the slices had.
func (k *work) handOver(ctx context.Context, p engine.Projection) error {
	head, err := k.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("look for the store's head: %w", err)
	}
	pl := k.run.plan
	if head.Incarnation != pl.Incarnation || head.Position < pl.Head {
		return refused("the event store was restored while %s was rebuilt: begin again", p.ID())
	}
	now := time.Now()
	places := make([]engine.Place, len(pl.Ends))
	for i, e := range pl.Ends {
		places[i] = engine.Place{Topic: e.Topic, Part: e.Part, UpdatedAt: now, Progress: engine.Progress{
			NextOffset: e.Next, LastPos: pl.Head, LastRecordedAt: pl.RecordedAt, Incarnation: pl.Incarnation,
		}}
	}
	return k.lease.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := k.lease.wanted(ctx, tx); err != nil {
			return err
		}
		if err := engine.Start(ctx, tx, p, places); err != nil {
			return err
		}
		return k.forgetSlices(ctx, tx)
	})
}

func (k *work) forgetSlices(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM projection_slices WHERE run_id = ?", k.run.ID); err != nil {
		return fmt.Errorf("forget the slices: %w", err)
	}
	return nil
}

// catchUp waits until the projectors have brought the version to where the log ended when it was made live.
func (k *work) catchUp(ctx context.Context, p engine.Projection) error {
	ends, err := k.Ends(ctx, p.Topics)
	if err != nil {
		return err
	}
	k.at(CatchingUp, 0)
	var total int64 = -1
	tick := time.NewTicker(look / 5)
	defer tick.Stop()
	for {
		places, err := engine.PlacesOf(ctx, k.lease.db.Reader(), []string{p.ID()})
		if err != nil {
			return err
		}
		if len(places) == 0 {
			return errors.New("the offsets of " + p.ID() + " are gone")
		}
		var left int64
		for _, at := range places {
			left += max(0, ends[Partition{at.Topic, at.Part}]-at.NextOffset)
		}
		if total < 0 {
			total = left
		}
		k.say(func(r *Run) { r.Total, r.Done = total, total-left })
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
