package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Refold makes the rows of one ordering key again, as the fold of exactly the events that its partitions have: what somebody
// changed by hand is gone, and a parked key goes on if it folds now.
//
// Whoever owns the partitions is refused from the transaction on, since what it remembers of the key may be wrong, and takes
// them back at once. An event that fails leaves everything as it was; of a key that is parked it is where the key waits now.
type Refold struct {
	Projection Projection
	DB         *reads.DB
	Redis      redis.UniversalClient // of a view
	Codec      *eventstore.Codec
	Store      Source
	Key        string
	// Fence is the first thing that the transaction of an SQL projection does.
	Fence func(ctx context.Context, tx *sql.Tx) error
}

// Refolded is what was done.
type Refolded struct {
	Events, Rows int64
	Unparked     bool
	Parked       bool // still, or at another event
}

// borrowed begins the claim under which a key's rows are made again; the owner's follows. So the owner knows that nobody took
// the partition to keep it.
const borrowed = "key/"

// errBorrowed is ErrFenced without anybody who would be disturbed by a claim.
var errBorrowed = errors.New("the rows of a key were made again: the partition is to be claimed anew")

func borrow(claim string) string { return borrowed + strings.TrimPrefix(claim, borrowed) }

// fenced is the error of an owner who finds another claim in place of its own.
func fenced(ours, now string) error {
	if now == borrow(ours) {
		return errBorrowed
	}
	return ErrFenced
}

// refold is a key's rows in the making.
type refold struct {
	Refold
	d     Decoder
	unit  *Unit
	until map[string]uint64 // by topic: how far it has come
	ends  map[string]Parked // by topic: where the key waits, once an event has failed
	out   Refolded
}

// SQL makes the rows of an SQL projection.
func (r Refold) SQL(ctx context.Context) (Refolded, error) {
	t := newSQLTarget(r.DB, r.Projection, 0)
	defer t.close()
	parts := map[string]int32{}
	for _, topic := range r.Projection.Topics {
		n, err := Partitions(ctx, r.DB.Reader(), topic)
		if err != nil {
			return Refolded{}, err
		}
		if n == 0 {
			return Refolded{}, fmt.Errorf("topic %s was not seen yet: does a projector run?", topic)
		}
		parts[topic] = PartitionOf(r.Key, n)
	}
	f := &refold{Refold: r, d: NewDecoder(r.Codec, r.Projection), ends: map[string]Parked{}}
	for {
		f.unit, f.until, f.out = NewUnit(), map[string]uint64{}, Refolded{}
		again, err := f.attempt(ctx, t, parts)
		if !again {
			return f.out, err
		}
	}
}

// attempt folds the key; again says that an event failed at which it is to end. Most of it is done before the transaction,
// which holds the partitions up.
func (f *refold) attempt(ctx context.Context, t *sqlTarget, parts map[string]int32) (again bool, err error) {
	before := map[string]uint64{}
	for topic, part := range parts {
		at, _, err := Offset(ctx, f.DB.Reader(), f.Projection.ID(), topic, part)
		if err != nil {
			return false, err
		}
		before[topic] = at.LastPos
	}
	failed, err := f.through(ctx, before)
	if err != nil && failed == nil {
		return false, err
	}
	tx, err2 := t.begin(ctx)
	if err2 != nil {
		return false, err2
	}
	defer tx.end()
	defer func() { _ = tx.tx.Rollback() }() // does nothing after a commit
	if err := f.Fence(ctx, tx.tx); err != nil {
		return false, err
	}
	at, parked, err2 := f.take(ctx, tx, parts)
	if err2 != nil {
		return false, err2
	}
	if failed == nil {
		if failed, err = f.through(ctx, at); err != nil && failed == nil {
			return false, err
		}
	}
	for topic := range f.ends {
		if _, waits := parked[topic]; !waits {
			f.ends = map[string]Parked{} // its owner got further than we did
			return true, nil
		}
	}
	if failed != nil {
		topic := wire.TopicOf(failed.Stream)
		p, waits := parked[topic]
		if !waits {
			return false, err // it stays as it is
		}
		if p.AfterPos >= failed.Position {
			p.AfterPos = 0
		}
		p.FromPos, p.EventType, p.Attempts = failed.Position, failed.Type, p.Attempts+1
		p.Cause, p.Detail = describe(p.EventType, err)
		f.ends[topic] = p
		return true, nil
	}
	if err := f.write(ctx, t, tx); err != nil {
		return false, err
	}
	for topic, was := range parked {
		change := &parkChange{was: &was, ended: true}
		if now, still := f.ends[topic]; still {
			change.now, f.out.Parked = &now, true
		} else {
			f.out.Unparked = true
		}
		if err := change.write(ctx, tx); err != nil {
			return false, err
		}
	}
	if err := tx.tx.Commit(); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	return false, nil
}

// through folds the events of the key up to a position of each topic. failed is the event that an error is about.
func (f *refold) through(ctx context.Context, to map[string]uint64) (failed *eventstore.Recorded, err error) {
	from, last := ^uint64(0), uint64(0)
	for topic, at := range to {
		if f.until[topic] < at {
			from, last = min(from, f.until[topic]), max(last, at)
		}
	}
	if last == 0 {
		return nil, nil
	}
	for e, err := range f.Store.ReadAll(ctx, from, eventstore.Filter{Key: f.Key}) {
		if err != nil {
			return nil, fmt.Errorf("read the events of %q: %w", f.Key, err)
		}
		if e.Position > last {
			break
		}
		topic := wire.TopicOf(e.Stream)
		if p, ends := f.ends[topic]; e.Position <= f.until[topic] || e.Position > to[topic] || ends && e.Position >= p.FromPos {
			continue
		}
		event, wanted, err := f.d.Event(f.Projection, e)
		if err == nil && wanted {
			f.out.Events++
			err = f.unit.Replay(f.Projection, event)
		}
		if poison(err) {
			return &e, err
		}
		if err != nil {
			return nil, err
		}
	}
	for topic, at := range to {
		f.until[topic] = max(f.until[topic], at)
	}
	return nil, nil
}

// take takes the key's partitions over for this transaction: nobody else writes them, and where they stand is where they will.
func (f *refold) take(ctx context.Context, tx *transaction, parts map[string]int32) (at map[string]uint64, parked map[string]Parked, err error) {
	share, lock := "", ""
	if f.DB.Dialect() == reads.MySQL {
		share, lock = " LOCK IN SHARE MODE", " FOR UPDATE"
	}
	id := f.Projection.ID()
	if state, err := stateOf(ctx, tx.tx, f.Projection, share); err != nil {
		return nil, nil, err
	} else if state != Live {
		return nil, nil, fmt.Errorf("%s: %w", id, ErrNotLive)
	}
	at, parked = map[string]uint64{}, map[string]Parked{}
	topics := slices.Sorted(slices.Values(f.Projection.Topics)) // in one order, for the locks
	for _, topic := range topics {
		now, err := scanProgress(tx.tx.QueryRowContext(ctx,
			"SELECT "+offsetColumns+" FROM projection_offsets WHERE projection = ? AND topic = ? AND part = ?"+lock, id, topic, parts[topic]).Scan)
		if err != nil {
			return nil, nil, fmt.Errorf("take %s/%d of %s: %w", topic, parts[topic], id, err)
		}
		_, err = tx.update(ctx, "UPDATE projection_offsets SET epoch = epoch + 1, claim = ?, updated_at = ? WHERE projection = ? AND topic = ? AND part = ?",
			borrow(now.Claim), time.Now().UnixMicro(), id, topic, parts[topic])
		if err != nil {
			return nil, nil, fmt.Errorf("take %s/%d of %s: %w", topic, parts[topic], id, err)
		}
		waiting, err := partitionParked(ctx, tx.tx, id, topic, parts[topic])
		if err != nil {
			return nil, nil, err
		}
		if p, waits := waiting[f.Key]; waits {
			parked[topic] = p
		}
		at[topic] = now.LastPos
	}
	return at, parked, nil
}

// write puts the key's rows in place of those that are there.
func (f *refold) write(ctx context.Context, t *sqlTarget, tx *transaction) error {
	changes := f.unit.changes()
	for _, table := range f.Projection.Tables {
		d := t.tables[table.Def()]
		if err := tx.exec(ctx, "DELETE FROM "+d.name+" WHERE ordering_key = ?", f.Key); err != nil {
			return fmt.Errorf("delete from %s: %w", d.name, err)
		}
		rows := slices.DeleteFunc(changes[table.Def()], func(c change) bool { return c.slot.row == nil })
		if err := d.write(ctx, tx, rows); err != nil {
			return err
		}
		f.out.Rows += int64(len(rows))
	}
	return nil
}

// View makes the rows of a view, up to where the view itself is. A partition that is not whole is left to its owner, who fills
// it from the tables behind.
func (r Refold) View(ctx context.Context) error {
	for _, topic := range r.Projection.Topics {
		n, err := Partitions(ctx, r.DB.Reader(), topic)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		k := redisKeys{r.Projection, topic, PartitionOf(r.Key, n)}
		for tries := 1; ; tries++ {
			err := r.viewPart(ctx, k)
			if err == nil {
				break
			}
			if tries == viewTries || !errors.Is(err, ErrFenced) && !errors.Is(err, errBorrowed) {
				return err
			}
		}
	}
	return nil
}

// viewTries is how often a view's partition is claimed: its owner claims it back, maybe before we have written.
const viewTries = 20

func (r Refold) viewPart(ctx context.Context, k redisKeys) error {
	f := &refold{Refold: r, d: NewDecoder(r.Codec, r.Projection), unit: NewUnit(), until: map[string]uint64{}, ends: map[string]Parked{}}
	at, found, err := ViewPlace(ctx, r.Redis, r.Projection, k.topic, k.part)
	if err != nil || !found {
		return err
	}
	if _, err := f.through(ctx, map[string]uint64{k.topic: at.LastPos}); err != nil {
		return err
	}
	t := newRedisTarget(r.Redis, r.Projection, 0)
	t.db, t.as = r.DB, borrow(at.Claim)
	claimed, err := t.claim(ctx, k.topic, k.part, 0)
	if err != nil {
		return err
	}
	o := claimed.(*redisOwner)
	if o.missing() != "" {
		return nil
	}
	if _, err := f.through(ctx, map[string]uint64{k.topic: o.at.LastPos}); err != nil {
		return err
	}
	for _, table := range r.Projection.Tables {
		d := table.Def()
		there, err := r.Redis.HKeys(ctx, k.rows(d, r.Key)).Result()
		if err != nil {
			return fmt.Errorf("read %s: %w", k.rows(d, r.Key), err)
		}
		for _, row := range there {
			id := rowID{d, row}
			if s := f.unit.rows[id]; s == nil || s.row == nil && !s.dirty {
				f.unit.rows[id] = &slot{ordering: r.Key, dirty: true}
				f.unit.changed = append(f.unit.changed, id)
			}
		}
	}
	b := &batch{topic: k.topic, part: k.part, owner: o, after: o.at}
	if p, waits := o.waiting[r.Key]; waits {
		b.change = &parkChange{was: &p}
	}
	o.unit = f.unit
	if _, err = o.apply(ctx, b); err == nil && o.unit != f.unit {
		err = errBorrowed // rows that were in nobody's index were removed instead: once more
	}
	return err
}
