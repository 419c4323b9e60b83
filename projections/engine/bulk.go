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
// and MariaDB by LOAD DATA. Only a history that does not fit into memory is written down in parts, and from then on its rows
// are loaded again as the live engine does.
type Bulk struct {
	t       *sqlTarget
	d       Decoder
	most    int
	begin   func(ctx context.Context, tx *sql.Tx) error
	inserts atomic.Bool // the server takes no LOAD DATA

	mu     sync.Mutex
	parked map[parkedAt]Parked // never changed: replaced
	before int                 // how many were parked by a worker before this one
}

// NewBulk makes one. At most so many rows of about 1 KiB are held in memory by each Filling; begin is the first thing that
// each of its transactions does: the fence.
func NewBulk(db *reads.DB, p Projection, codec *eventstore.Codec, most int, begin func(ctx context.Context, tx *sql.Tx) error) *Bulk {
	return &Bulk{t: newSQLTarget(db, p, 0), d: NewDecoder(codec, p), most: most, begin: begin}
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

// Filling is one transaction's worth of histories. One goroutine uses it, and ends it by Commit or Close.
type Filling struct {
	b       *Bulk
	unit    *Unit
	pending []Event
	parked  map[parkedAt]Parked
	met     []Parked     // of these, the ones whose event has come
	last    uint64       // position of the last event added
	after   uint64       // and of the last before those that are pending
	large   int          // KiB of events beyond the first of each, since the unit was empty
	tx      *transaction // once it has begun
	spilled bool         // the tables have rows of ours that the unit has not
	Events  int64        // read so far
	Rows    int64        // written so far
}

// FoldAtOnce is how many events are folded together: of a history in parts, so many have their rows loaded by one query.
const FoldAtOnce = 500

// New begins a Filling. Its transaction begins when there is something to write.
func (b *Bulk) New() *Filling {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Filling{b: b, unit: NewUnit(), parked: b.parked}
}

// Held is about how much memory is used, in rows of 1 KiB: a row counts as one, and so does each KiB of an event beyond its
// first, which a row may keep.
func (f *Filling) Held() int { return len(f.unit.rows) + f.large }

// Full tells whether the Filling holds what it may: it should be committed, narrowed or spilled before the next event is added.
func (f *Filling) Full() bool { return len(f.pending) == 0 && f.Held() > f.b.most }

// Add folds an event, in the order of the store. An event of another topic, or of a type that the projection does not use,
// is passed over; one of a type that the catalogue lacks is an error.
func (f *Filling) Add(ctx context.Context, r eventstore.Recorded) error {
	f.Events++
	if f.waits(r) {
		return nil
	}
	before := f.last
	f.last = r.Position
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
// for one that was not spilled.
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
	if f.spilled {
		one := []*member{{o: &sqlOwner{t: f.b.t, unit: f.unit}, b: todo}}
		for _, table := range f.b.t.tables {
			if err := table.load(ctx, f.tx, one); err != nil {
				return err
			}
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

// Spill writes down what is held, so that there is room for the rest of a history that alone is too large.
func (f *Filling) Spill(ctx context.Context) error {
	if err := f.write(ctx); err != nil {
		return err
	}
	f.unit, f.large, f.spilled = NewUnit(), 0, true
	return nil
}

// write puts what the unit has into the tables.
func (f *Filling) write(ctx context.Context) (err error) {
	defer f.suspect(&err)
	if f.tx == nil {
		tx, err := f.b.t.begin(ctx)
		if err != nil {
			return err
		}
		f.tx = tx
		if err := f.b.begin(ctx, tx.tx); err != nil {
			return err
		}
	}
	changes := f.unit.changes()
	for _, t := range f.b.t.p.Tables {
		var puts, removes []change
		for _, c := range changes[t.Def()] {
			switch {
			case c.slot.row != nil:
				puts = append(puts, c)
			case f.spilled: // else it came and went, and was never there
				removes = append(removes, c)
			}
		}
		f.Rows += int64(len(puts) + len(removes))
		if err := f.put(ctx, f.b.t.tables[t.Def()], puts); err != nil {
			return err
		}
		if err := f.b.t.tables[t.Def()].write(ctx, f.tx, removes); err != nil {
			return err
		}
	}
	return nil
}

// put writes rows that are not in the table, or once the Filling was spilled, that may be.
func (f *Filling) put(ctx context.Context, t *tableSQL, rows []change) error {
	if len(rows) == 0 {
		return nil
	}
	if t.dialect == reads.MySQL && !f.b.inserts.Load() {
		err := t.loadData(ctx, f.tx, f.spilled, rows)
		if !errors.Is(err, reads.ErrNoLocal) {
			return err
		}
		f.b.inserts.Store(true)
	}
	if f.spilled {
		return t.insertRows(ctx, f.tx, rows, t.onDup)
	}
	return t.insertRows(ctx, f.tx, rows, "")
}

// Commit writes all rows, and what note adds, or nothing. An outcome that is unknown is an error: whoever noted something
// looks for it.
func (f *Filling) Commit(ctx context.Context, note func(ctx context.Context, tx *sql.Tx) error) error {
	defer f.Close()
	if err := f.fold(ctx); err != nil {
		return err
	}
	if err := f.write(ctx); err != nil {
		return err
	}
	if err := f.park(ctx); err != nil {
		return err
	}
	if err := note(ctx, f.tx.tx); err != nil {
		return err
	}
	if err := f.tx.tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Close gives up what was not committed. It may be called twice.
func (f *Filling) Close() {
	if f.tx != nil {
		_ = f.tx.tx.Rollback() // does nothing after a commit
		f.tx.end()
		f.tx = nil
	}
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
