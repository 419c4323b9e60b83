package rebuild

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

type txFunc = func(ctx context.Context, tx *sql.Tx) error

// rebuild goes on from wherever the run is. What is done is read from the database, never from what this worker remembers.
func (k *work) rebuild(ctx context.Context, p engine.Projection) error {
	if k.run.Options.Key != "" {
		return k.key(ctx, p)
	}
	state, err := engine.StateOf(ctx, k.lease.db.Writer(), p)
	if err != nil {
		return err
	}
	if state.Kept() && k.run.plan == nil {
		return refused("%s is live already", p.ID())
	}
	if !state.Kept() {
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
	if err := k.fill(ctx, p); err != nil {
		return err
	}
	waiting, err := engine.ListParked(ctx, k.lease.db.Reader(), p.ID())
	if err != nil {
		return err
	}
	return k.finish(ctx, func(r *Run) {
		if r.State = Done; len(waiting) > 0 {
			r.Detail = fmt.Sprintf("%d keys are parked: salon projections parked %s", len(waiting), p.ID())
		}
	}, k.lease.wanted)
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

// load folds every slice that is not done into the tables, in passes, several at a time, and makes the indexes. The rows of a
// pass and the note that its slices are done are one transaction.
//
// Memory is bounded by Parallel × MostRows rows of about 1 KiB with what a row costs around it, and two pages of events of
// each reader (8 MiB), whatever the history is: a pass takes as many slices as fit, and gives those back that do not. A single
// slice that does not fit is committed in parts, each with the position through which it is there. A store that has no index
// over slices is read once for a pass of all of them.
func (k *work) load(ctx context.Context, p engine.Projection) error {
	dialect := k.lease.db.Dialect()
	err := k.lease.define(ctx, func(ctx context.Context, x reads.Conn) error { return engine.MakeBareTables(ctx, x, dialect, p) })
	if err != nil {
		return err
	}
	there, err := k.there(ctx)
	if err != nil {
		return err
	}
	todo := newTodo(there, k.parallel(), k.mostRows())
	k.at(Loading, eventstore.Slices)
	k.from(int64(todo.done()))
	bulk, err := engine.NewBulk(ctx, k.lease.db, p, k.Codec, k.mostRows(), k.lease.hold)
	if err != nil {
		return err
	}
	defer bulk.Close()
	defer k.keepPace(ctx)()
	skips := bulk.Skips()
	fold := func(ctx context.Context, from Events, slices eventstore.SliceRange) error {
		return k.pass(ctx, from, bulk, todo, eventstore.Filter{Slices: slices, Without: skips})
	}
	if k.Scans {
		for ranges, after := todo.round(); len(ranges) > 0; ranges, after = todo.round() {
			if err := k.together(ctx, ranges, after, skips, fold); err != nil {
				return err
			}
		}
		return k.index(ctx, p)
	}
	group, loading := errgroup.WithContext(ctx)
	for range k.parallel() {
		group.Go(func() error {
			for slices, more := todo.next(); more; slices, more = todo.next() {
				if err := fold(loading, k.Store, slices); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return k.index(ctx, p)
}

// pass folds a range of slices, or the part of it that fits into memory, and writes down its rows. An event that fails by
// itself parks its key: the range is left to another pass, without what follows for that.
func (k *work) pass(ctx context.Context, from Events, bulk *engine.Bulk, todo *todo, f eventstore.Filter) error {
	failed := k.once(ctx, from, bulk, todo, &f)
	p, again, err := bulk.Park(ctx, k.Store, k.run.plan.partitions(), failed)
	if !again {
		return err
	}
	k.Log.ErrorContext(ctx, "rebuild parked a key", "run", k.run.ID, "projection", p.Projection, "topic", p.Topic, "key", p.Key,
		"position", p.FromPos, "type", p.EventType, "cause", p.Cause)
	todo.giveBack(f.Slices)
	return nil
}

// once narrows the range to what fits into memory. Of a single slice that does not, it writes down one part after the other.
func (k *work) once(ctx context.Context, from Events, bulk *engine.Bulk, todo *todo, f *eventstore.Filter) error {
	after := todo.through(f.Slices)
	fill := bulk.New(after)
	for {
		full, err := k.read(ctx, from, fill, &after, *f)
		if err != nil {
			return fmt.Errorf("read slices %d to %d: %w", f.Slices.From, f.Slices.To-1, err)
		}
		switch {
		case !full:
			todo.learn(f.Slices, fill.Held())
			return k.commit(ctx, bulk, fill, f.Slices, 0)
		case f.Slices.Len() > 1:
			half := f.Slices.From + f.Slices.Len()/2
			todo.giveBack(eventstore.SliceRange{From: half, To: f.Slices.To})
			f.Slices.To = half
			fill.Narrow(f.Slices)
		default:
			if err := k.commit(ctx, bulk, fill, f.Slices, after); err != nil {
				return err
			}
			todo.begun(f.Slices, after)
		}
	}
}

// commit writes down what a Filling has, with the note that the slices are there through a position, 0 for all of them.
func (k *work) commit(ctx context.Context, bulk *engine.Bulk, fill *engine.Filling, slices eventstore.SliceRange, through uint64) error {
	began := time.Now()
	events, rows, err := fill.Commit(ctx, func(ctx context.Context, tx *sql.Tx) error { return k.note(ctx, tx, slices, through) })
	if err != nil {
		return err
	}
	if bulk.Inserts() {
		k.remark(ctx, "rows are written by inserts, which is slower: "+reads.ErrNoLocal.Error())
	}
	k.say(func(r *Run) {
		if r.Events, r.Rows = r.Events+events, r.Rows+rows; through == 0 {
			r.Done += int64(slices.Len())
		}
	})
	if k.At != nil {
		k.At(Loading)
	}
	return k.pacer.rest(ctx, 0, time.Since(began))
}

// remark says once what is worth knowing of the run in all phases that follow, and when it has ended.
func (k *work) remark(ctx context.Context, text string) {
	first := false
	k.say(func(r *Run) {
		first = k.remarked != text
		k.remarked, r.Detail = text, text
	})
	if first {
		k.Log.WarnContext(ctx, "a rebuild goes on, but not as it should", "run", k.run.ID, "detail", text)
	}
}

// read folds events after a position, up to the head of the plan or until the Filling is full.
func (k *work) read(ctx context.Context, from Events, fill *engine.Filling, after *uint64, f eventstore.Filter) (full bool, err error) {
	if fill.Full() { // still, when it was narrowed
		return true, nil
	}
	read, began := int64(0), time.Now() // since the last rest
	for e, err := range from.ReadAll(ctx, *after, f) {
		if err != nil {
			return false, err
		}
		if e.Position > k.run.plan.Head {
			break
		}
		if err := fill.Add(ctx, e); err != nil {
			return false, err
		}
		*after = e.Position
		if read++; read == engine.FoldAtOnce {
			if err := k.pacer.rest(ctx, read, time.Since(began)); err != nil {
				return false, err
			}
			read, began = 0, time.Now()
		}
		if fill.Full() {
			return true, nil
		}
	}
	return false, k.pacer.rest(ctx, read, time.Since(began))
}

func (k *work) note(ctx context.Context, tx *sql.Tx, slices eventstore.SliceRange, through uint64) error {
	insert, args := "REPLACE INTO projection_slices (run_id, slice, through) VALUES (?, ?, ?)"+strings.Repeat(", (?, ?, ?)", slices.Len()-1), []any{}
	for s := slices.From; s < slices.To; s++ {
		args = append(args, k.run.ID, s, int64(through)) //nolint:gosec // positions stay below 2^63
	}
	if _, err := tx.ExecContext(ctx, insert, args...); err != nil {
		return fmt.Errorf("note which slices are there: %w", err)
	}
	return nil
}

// index makes the indexes that the tables lack: one reading of a full table costs less than an entry in each at every row.
func (k *work) index(ctx context.Context, p engine.Projection) error {
	k.at(Indexing, 0)
	return k.lease.define(ctx, func(ctx context.Context, x reads.Conn) error {
		return engine.MakeIndexes(ctx, x, k.lease.db.Dialect(), p)
	})
}

// there lists the slices of which rows are there, each with the position through which they are, 0 for all of them.
func (k *work) there(ctx context.Context) (map[int]uint64, error) {
	rows, err := k.lease.db.Writer().QueryContext(ctx, "SELECT slice, through FROM projection_slices WHERE run_id = ?", k.run.ID)
	if err != nil {
		return nil, fmt.Errorf("read which slices are there: %w", err)
	}
	defer rows.Close()
	there := map[int]uint64{}
	for rows.Next() {
		var s int
		var through uint64
		if err := rows.Scan(&s, &through); err != nil {
			return nil, fmt.Errorf("read which slices are there: %w", err)
		}
		there[s] = through
	}
	return there, rows.Err()
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
