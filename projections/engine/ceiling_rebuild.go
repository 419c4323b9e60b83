package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/reads"
)

// PlainRebuild is what a program does that builds a version's tables once, for `salon bench rebuild`: it decodes the events as
// they come, folds them all in memory, and writes the rows by one LOAD DATA a table (by INSERTs on SQLite), in the order of their
// keys, before it makes the indexes. It knows no slices, no lease, no bound of its memory and no second try.
func PlainRebuild(ctx context.Context, db *reads.DB, p Projection, codec *eventstore.Codec, events iter.Seq2[eventstore.Recorded, error]) (rows int, err error) {
	u, d := NewUnit(), NewDecoder(codec, p)
	for r, err := range events {
		if err != nil {
			return 0, err
		}
		e, wanted, err := d.Event(p, r)
		if err != nil {
			return 0, err
		}
		if wanted {
			if err := u.Replay(p, e); err != nil {
				return 0, err
			}
		}
	}
	if err := MakeBareTables(ctx, db.Writer(), db.Dialect(), p); err != nil {
		return 0, err
	}
	t := newSQLTarget(db, p, 0)
	defer t.close()
	tx, err := t.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.end()
	for d, changed := range u.changes() {
		rows += len(changed)
		if db.Dialect() == reads.MySQL {
			err = t.tables[d].loadData(ctx, tx, false, changed)
		} else {
			err = t.tables[d].insertRows(ctx, tx, changed, "")
		}
		if err != nil {
			return 0, errors.Join(err, tx.tx.Rollback())
		}
	}
	if err := tx.tx.Commit(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	return rows, MakeIndexes(ctx, db.Writer(), db.Dialect(), p)
}
