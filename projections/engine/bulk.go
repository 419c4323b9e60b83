package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Bulk writes the folds of whole histories into the tables of a version: what a rebuild does. Nobody else may write them
// meanwhile, and each ordering key comes once, in one Filling, from its first event on.
//
// It is the fold of the live engine, in the same unit of work. What differs is that the rows a fold asks for need not be
// looked for: they are absent unless the unit has them. So the tables are written without a look at what they have, on MySQL
// and MariaDB by LOAD DATA. Only a history that does not fit into memory is committed in parts, and from the first on its rows
// are loaded again as the live engine does: by the Filling that goes on, or by another one after it.
type Bulk struct {
	t       *sqlTarget
	d       Decoder
	most    int
	begin   func(ctx context.Context, tx *sql.Tx) error
	inserts atomic.Bool // the server takes no LOAD DATA

	mu     sync.Mutex
	parked map[parkedAt]Parked // never changed: replaced
}

// NewBulk makes one, which knows what was parked before. At most so many rows of about 1 KiB are held in memory by each
// Filling; begin is the first thing that each of its transactions does: the fence.
func NewBulk(ctx context.Context, db *reads.DB, p Projection, codec *eventstore.Codec, most int, begin func(ctx context.Context, tx *sql.Tx) error) (*Bulk, error) {
	before, err := ListParked(ctx, db.Writer(), p.ID())
	if err != nil {
		return nil, err
	}
	b := &Bulk{t: newSQLTarget(db, p, 0), d: NewDecoder(codec, p), most: most, begin: begin, parked: map[parkedAt]Parked{}}
	for _, k := range before {
		b.parked[parkedAt{k.Topic, k.Key}] = k
	}
	return b, nil
}

// Close lets go of what the database holds for it.
func (b *Bulk) Close() { b.t.close() }

// Inserts tells whether the server turned out to take no LOAD DATA LOCAL, so that rows are written by INSERTs.
func (b *Bulk) Inserts() bool { return b.inserts.Load() }

// Skips lists the types that are left out by name: those that the catalogue has and the projection does not use, also under
// the names that they had earlier. One that the catalogue lacks is not among them.
func (b *Bulk) Skips() (types []string) {
	for _, name := range b.d.d.codec.Names() {
		if wanted, err := b.d.d.wanted(name); err == nil && !wanted {
			types = append(types, name)
		}
	}
	return types
}

// Filling is the histories of some keys on their way into the tables. One goroutine uses it, and commits it once when they
// fit into memory. After an error it is of no use.
type Filling struct {
	b       *Bulk
	unit    *Unit
	pending []Event
	parked  map[parkedAt]Parked
	met     []Parked // of these, the ones whose event has come, and which are not written down
	through uint64   // position through which the tables have these histories; 0: they have nothing of them
	last    uint64   // position of the last event added
	after   uint64   // and of the last before those that are pending
	large   int      // KiB of events beyond the first of each, since the unit was empty
	events  int64    // since the last commit
}

// FoldAtOnce is how many events are folded together: of a history in parts, so many have their rows loaded by one query.
const FoldAtOnce = 500

// New begins a Filling. through is the position through which the tables have its histories already, 0 when they have nothing
// of them: the events to add are those after it.
func (b *Bulk) New(through uint64) *Filling {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Filling{b: b, unit: NewUnit(), parked: b.parked, through: through, last: through}
}

// Held is about how much memory is used, in rows of 1 KiB: a row counts as one, and so does each KiB of an event beyond its
// first, which a row may keep.
func (f *Filling) Held() int { return len(f.unit.rows) + f.large }

// Full tells whether the Filling holds what it may: it should be narrowed or committed before the next event is added.
func (f *Filling) Full() bool { return len(f.pending) == 0 && f.Held() > f.b.most }

// Add folds an event, in the order of the store. An event of another topic, or of a type that the projection does not use,
// is passed over; one of a type that the catalogue lacks is an error.
func (f *Filling) Add(ctx context.Context, r eventstore.Recorded) error {
	f.events++
	before := f.last
	f.last = r.Position
	if f.waits(r) {
		return nil
	}
	e, wanted, err := f.b.d.Event(f.b.t.p, r)
	if poison(err) {
		return &culprit{err, parkedAt{wire.TopicOf(r.Stream), r.Key}, r.Position, before, r.Type}
	}
	if err != nil || !wanted {
		return err
	}
	if len(f.pending) == 0 {
		f.after = before
	}
	f.large += (len(r.Data) + len(r.Metadata)) >> 10
	if f.pending = append(f.pending, e); len(f.pending) < FoldAtOnce {
		return nil
	}
	return f.fold(ctx)
}

// Narrow forgets the rows of all keys that are not in these slices: their histories will come in another Filling. It is only
// for one of which nothing was committed.
func (f *Filling) Narrow(to eventstore.SliceRange) {
	held, has := f.Held(), func(key string) bool { return to.Has(eventstore.Slice(key)) }
	narrow := f.unit.only(has)
	f.large = f.large * len(narrow.rows) / max(1, held-f.large)
	f.unit = narrow
	f.met = slices.DeleteFunc(f.met, func(p Parked) bool { return !has(p.Key) })
}

func (f *Filling) fold(ctx context.Context) (err error) {
	at := 0
	defer f.blame(&err, &at)
	defer caught(&err)
	todo := &batch{events: f.pending}
	for i, e := range f.pending {
		if at = i; f.b.t.p.Keys != nil {
			todo.refs = f.unit.missing(f.b.t.p.Keys(e), e.Key, todo.refs)
		}
	}
	at = len(f.pending) // of the rows that are loaded no event is to blame
	if f.through > 0 {
		if err := f.load(ctx, todo); err != nil {
			return err
		}
	}
	for i, e := range f.pending {
		at = i
		if err := f.unit.Fold(f.b.t.p, e); err != nil {
			return err
		}
	}
	f.pending = f.pending[:0]
	return nil
}

// load reads rows that an earlier part has put into the tables. Nobody else writes them, or what is written next is refused.
func (f *Filling) load(ctx context.Context, todo *batch) error {
	if len(todo.refs) == 0 {
		return nil
	}
	return f.transact(ctx, func(tx *transaction) error {
		one := []*member{{o: &sqlOwner{t: f.b.t, unit: f.unit}, b: todo}}
		for _, table := range f.b.t.tables {
			if err := table.load(ctx, tx, one); err != nil {
				return err
			}
		}
		return nil
	})
}

// transact runs a transaction, which is undone unless work commits it.
func (f *Filling) transact(ctx context.Context, work func(tx *transaction) error) error {
	tx, err := f.b.t.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.end()
	defer func() { _ = tx.tx.Rollback() }() // does nothing after a commit
	return work(tx)
}

// Commit writes all rows, and what note adds, or nothing, and answers how many events were added and rows written since the
// last time. An outcome that is unknown is an error: whoever noted something looks for it. It ends the Filling, unless the
// histories did not fit into memory: then they go on from here.
func (f *Filling) Commit(ctx context.Context, note func(ctx context.Context, tx *sql.Tx) error) (events, rows int64, err error) {
	if err := f.fold(ctx); err != nil {
		return 0, 0, err
	}
	err = f.transact(ctx, func(tx *transaction) (err error) {
		if rows, err = f.write(ctx, tx); err != nil {
			return err
		}
		if err := f.park(ctx, tx); err != nil {
			return err
		}
		if err := note(ctx, tx.tx); err != nil {
			return err
		}
		if err := tx.tx.Commit(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	events = f.events
	f.unit, f.large, f.met, f.through, f.events = NewUnit(), 0, nil, f.last, 0
	return events, rows, nil
}

// write puts what the unit has into the tables.
func (f *Filling) write(ctx context.Context, tx *transaction) (rows int64, err error) {
	defer f.suspect(&err)
	if err := f.b.begin(ctx, tx.tx); err != nil {
		return 0, err
	}
	changes := f.unit.changes()
	for _, t := range f.b.t.p.Tables {
		var puts, removes []change
		for _, c := range changes[t.Def()] {
			switch {
			case c.slot.row != nil:
				puts = append(puts, c)
			case f.through > 0: // else it came and went, and was never there
				removes = append(removes, c)
			}
		}
		rows += int64(len(puts) + len(removes))
		if err := f.put(ctx, tx, f.b.t.tables[t.Def()], puts); err != nil {
			return 0, err
		}
		if err := f.b.t.tables[t.Def()].write(ctx, tx, removes); err != nil {
			return 0, err
		}
	}
	return rows, nil
}

// put writes rows that are not in the table, or once a part was committed, that may be.
func (f *Filling) put(ctx context.Context, tx *transaction, t *tableSQL, rows []change) error {
	if len(rows) == 0 {
		return nil
	}
	if t.dialect == reads.MySQL && !f.b.inserts.Load() {
		err := t.loadData(ctx, tx, f.through > 0, rows)
		if !errors.Is(err, reads.ErrNoLocal) {
			return err
		}
		f.b.inserts.Store(true)
	}
	if f.through > 0 {
		return t.insertRows(ctx, tx, rows, t.onDup)
	}
	return t.insertRows(ctx, tx, rows, "")
}

// Lasting tells whether an error of a Filling comes from the events or the release, so that trying again is in vain.
func Lasting(err error) bool {
	var unknown *eventstore.UnknownTypeError
	return stubborn(err) || errors.As(err, &unknown)
}

// Explain is an error in one line, without what it quotes of events.
func Explain(err error) string {
	var unknown *eventstore.UnknownTypeError
	if errors.As(err, &unknown) {
		return unknown.Error() // a type is no person's word
	}
	cause, _ := describe("", err)
	return strings.TrimPrefix(cause, ": ")
}
