package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Bulk writes the folds of whole histories into the tables of a version: what a rebuild does. Nobody else may write them
// meanwhile, and each ordering key comes once, in one Filling, from its first event on.
//
// It is the fold of the live engine, in the same unit of work. What differs is that the rows a fold asks for need not be
// looked for: they are absent unless the unit has them. Only a history that does not fit into memory is written down in
// parts, and from then on its rows are loaded again as the live engine does.
type Bulk struct {
	t     *sqlTarget
	d     Decoder
	most  int
	begin func(ctx context.Context, tx *sql.Tx) error
}

// NewBulk makes one. At most so many rows are held in memory by each Filling; begin is the first thing that each of its
// transactions does: the fence.
func NewBulk(db *reads.DB, p Projection, codec *eventstore.Codec, most int, begin func(ctx context.Context, tx *sql.Tx) error) *Bulk {
	return &Bulk{newSQLTarget(db, p, 0), NewDecoder(codec, p), most, begin}
}

// Close lets go of what the database holds for it.
func (b *Bulk) Close() { b.t.close() }

// Filling is one transaction's worth of histories. One goroutine uses it, and ends it by Commit or Close.
type Filling struct {
	b       *Bulk
	unit    *Unit
	pending []Event
	tx      *transaction // once it has begun
	spilled bool         // the tables have rows of ours that the unit has not
	Events  int64        // read so far
	Rows    int64        // written so far
}

// foldAtOnce is how many events are folded together: of a history in parts, so many have their rows loaded by one query.
const foldAtOnce = 500

// New begins a Filling. Its transaction begins when there is something to write.
func (b *Bulk) New() *Filling { return &Filling{b: b, unit: NewUnit()} }

// Full tells whether there is enough for a transaction: it should be committed before the next history begins.
func (f *Filling) Full() bool { return f.spilled || len(f.unit.rows) > f.b.most/2 }

// Add folds an event, in the order of the store. An event of another topic, or of a type that the projection does not use,
// is passed over; one of a type that the catalogue lacks is an error.
func (f *Filling) Add(ctx context.Context, r eventstore.Recorded) error {
	f.Events++
	e, wanted, err := f.b.d.Event(f.b.t.p, r)
	if err != nil || !wanted {
		return err
	}
	if f.pending = append(f.pending, e); len(f.pending) < foldAtOnce {
		return nil
	}
	return f.fold(ctx)
}

func (f *Filling) fold(ctx context.Context) (err error) {
	defer caught(&err)
	todo := &batch{events: f.pending}
	todo.name(f.b.t.p, f.unit)
	if f.spilled {
		one := []*member{{o: &sqlOwner{t: f.b.t, unit: f.unit}, b: todo}}
		for _, table := range f.b.t.tables {
			if err := table.load(ctx, f.tx, one); err != nil {
				return err
			}
		}
	}
	for _, e := range f.pending {
		if err := f.unit.Fold(f.b.t.p, e); err != nil {
			return err
		}
	}
	f.pending = f.pending[:0]
	if len(f.unit.rows) <= f.b.most {
		return nil
	}
	if err := f.write(ctx); err != nil {
		return err
	}
	f.unit, f.spilled = NewUnit(), true
	return nil
}

// write puts what the unit has into the tables.
func (f *Filling) write(ctx context.Context) error {
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
		changed := changes[t.Def()]
		if !f.spilled { // a row that came and went was never there
			changed = slices.DeleteFunc(changed, func(c change) bool { return c.slot.row == nil })
		}
		f.Rows += int64(len(changed))
		if err := f.b.t.tables[t.Def()].write(ctx, f.tx, changed); err != nil {
			return err
		}
	}
	return nil
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
	cause, _ := describe("", err)
	return strings.TrimPrefix(cause, ": ")
}
