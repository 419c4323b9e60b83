package engine

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/projections/reads"
)

// target is where a projection's rows and offsets live.
type target interface {
	// claim takes a partition: whoever had it before is refused from now on. logEnd is where the partition's log ends.
	claim(ctx context.Context, topic string, part int32, logEnd int64) (owner, error)
}

// owner is one claim of one partition. One goroutine uses it; after an error it is dead.
type owner interface {
	// progress is how far the claim is.
	progress() Progress
	// apply folds a planned batch and writes rows and progress together, or nothing, and returns how many of its
	// records are done. ErrFenced: somebody else has the partition.
	apply(ctx context.Context, b *batch) (records int, err error)
}

type sqlTarget struct {
	db        *reads.DB
	p         Projection
	tables    map[*Def]*tableSQL
	cacheRows int

	mu    sync.Mutex // SQLite only: the statements of the one writer
	stmts map[string]*sql.Stmt
}

func newSQLTarget(db *reads.DB, p Projection, cacheRows int) *sqlTarget {
	t := &sqlTarget{db: db, p: p, cacheRows: cacheRows, tables: map[*Def]*tableSQL{}, stmts: map[string]*sql.Stmt{}}
	for _, table := range p.Tables {
		t.tables[table.Def()] = newTableSQL(table.Def(), db.Dialect(), p.Version)
	}
	return t
}

func (t *sqlTarget) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.stmts {
		s.Close()
	}
	clear(t.stmts)
}

func (t *sqlTarget) claim(ctx context.Context, topic string, part int32, _ int64) (owner, error) {
	o := &sqlOwner{t: t, topic: topic, part: part, unit: NewUnit()}
	take := "INSERT INTO projection_offsets (projection, topic, part, epoch, claim, commit_seq, next_offset, last_pos, last_recorded_at, incarnation, updated_at) " +
		"VALUES (?, ?, ?, 1, ?, 0, 0, 0, 0, '', ?) "
	if t.db.Dialect() == reads.MySQL {
		take += "ON DUPLICATE KEY UPDATE epoch = epoch + 1, claim = VALUES(claim), updated_at = VALUES(updated_at)"
	} else {
		take += "ON CONFLICT (projection, topic, part) DO UPDATE SET epoch = epoch + 1, claim = excluded.claim, updated_at = excluded.updated_at"
	}
	err := t.db.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, take, t.p.ID(), topic, part, rand.Text(), time.Now().UnixMicro()); err != nil {
			return err
		}
		var found bool
		var err error
		if o.at, found, err = Offset(ctx, tx, t.p.ID(), topic, part); err == nil && !found {
			err = errors.New("the row is not there")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim %s of %s/%d: %w", t.p.ID(), topic, part, err)
	}
	return o, nil
}

type sqlOwner struct {
	t     *sqlTarget
	topic string
	part  int32
	at    Progress
	unit  *Unit // rows that this claim wrote or read
}

func (o *sqlOwner) progress() Progress { return o.at }

const fence = "UPDATE projection_offsets SET commit_seq = commit_seq + 1, next_offset = ?, last_pos = ?, last_recorded_at = ?, incarnation = ?, updated_at = ? " +
	"WHERE projection = ? AND topic = ? AND part = ? AND claim = ? AND epoch = ? AND commit_seq = ? AND next_offset = ?"

func (o *sqlOwner) apply(ctx context.Context, b *batch) (int, error) {
	tx, err := o.t.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.end()
	if err := o.fold(ctx, tx, b); err != nil {
		tx.tx.Rollback() // 1205 ends only the statement: the transaction must never be used again
		return 0, err
	}
	next := b.after
	next.Epoch, next.Claim, next.Seq = o.at.Epoch, o.at.Claim, o.at.Seq+1
	if err := tx.tx.Commit(); err != nil {
		if err := o.resolve(ctx, err); err != nil {
			return 0, err
		}
		o.unit = NewUnit()
	}
	o.at = next
	o.unit.settle(o.t.cacheRows)
	return len(b.records), nil
}

// fold is the inside of the transaction: the fence, then the rows.
func (o *sqlOwner) fold(ctx context.Context, tx *transaction, b *batch) error {
	var at int64
	if !b.after.LastRecordedAt.IsZero() {
		at = b.after.LastRecordedAt.UnixMicro()
	}
	n, err := tx.update(ctx, fence, b.after.NextOffset, int64(b.after.LastPos), at, b.after.Incarnation, time.Now().UnixMicro(), //nolint:gosec // positions stay below 2^63
		o.t.p.ID(), o.topic, o.part, o.at.Claim, o.at.Epoch, o.at.Seq, o.at.NextOffset)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if n != 1 {
		return ErrFenced
	}
	if len(b.events) == 0 {
		return nil
	}
	b.name(o.t.p, o.unit, b.events)
	for d, table := range o.t.tables {
		var refs []Ref
		for _, r := range b.refs {
			if r.table == d {
				refs = append(refs, r.Ref)
			}
		}
		if err := table.load(ctx, tx, o.unit, refs); err != nil {
			return err
		}
	}
	for _, e := range b.events {
		if err := o.unit.Fold(o.t.p, e); err != nil {
			return err
		}
	}
	changes := o.unit.changes()
	for _, table := range o.t.p.Tables {
		if err := o.t.tables[table.Def()].write(ctx, tx, changes[table.Def()]); err != nil {
			return err
		}
	}
	return nil
}

// resolve finds out whether a commit whose answer was lost took place. It reads under the row's lock, so it waits for
// a commit that is still on its way.
func (o *sqlOwner) resolve(ctx context.Context, lost error) error {
	var now Progress
	err := o.t.db.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		query := "SELECT " + offsetColumns + " FROM projection_offsets WHERE projection = ? AND topic = ? AND part = ?"
		if o.t.db.Dialect() == reads.MySQL {
			query += " FOR UPDATE"
		}
		var err error
		now, err = scanProgress(tx.QueryRowContext(ctx, query, o.t.p.ID(), o.topic, o.part).Scan)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("commit, outcome unknown: %w", errors.Join(lost, err))
	case now.Claim != o.at.Claim || now.Epoch != o.at.Epoch:
		return ErrFenced
	case now.Seq == o.at.Seq+1:
		return nil
	}
	return fmt.Errorf("commit: %w", lost)
}

// transaction is a write transaction whose statements are prepared once where that pays: on SQLite, whose compiler is
// the larger part of a small statement. On MySQL the driver puts the values into the text, one round trip each.
type transaction struct {
	t      *sqlTarget
	tx     *sql.Tx
	unseen []string
}

func (t *sqlTarget) begin(ctx context.Context) (*transaction, error) {
	tx, err := t.db.Writer().BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return &transaction{t: t, tx: tx}, nil
}

func (x *transaction) prepared(ctx context.Context, query string) *sql.Stmt {
	if x.t.db.Dialect() != reads.SQLite {
		return nil
	}
	x.t.mu.Lock()
	s := x.t.stmts[query]
	x.t.mu.Unlock()
	if s == nil {
		x.unseen = append(x.unseen, query)
		return nil
	}
	return x.tx.StmtContext(ctx, s)
}

// end prepares what was used for the first time: not before, since the transaction holds the one connection.
func (x *transaction) end() {
	for _, q := range x.unseen {
		s, err := x.t.db.Writer().PrepareContext(context.Background(), q) //nolint:sqlclosecheck // kept for the next transaction; sqlTarget.close closes it
		if err != nil {
			continue // it works unprepared as well
		}
		x.t.mu.Lock()
		if old := x.t.stmts[q]; old != nil {
			old.Close()
		}
		x.t.stmts[q] = s
		x.t.mu.Unlock()
	}
}

func (x *transaction) exec(ctx context.Context, query string, args ...any) error {
	_, err := x.update(ctx, query, args...)
	return err
}

func (x *transaction) update(ctx context.Context, query string, args ...any) (int64, error) {
	var r sql.Result
	var err error
	if s := x.prepared(ctx, query); s != nil { //nolint:sqlclosecheck // ends with its transaction
		r, err = s.ExecContext(ctx, args...)
	} else {
		r, err = x.tx.ExecContext(ctx, query, args...)
	}
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (x *transaction) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := x.prepared(ctx, query); s != nil { //nolint:sqlclosecheck // ends with its transaction
		return s.QueryContext(ctx, args...)
	}
	return x.tx.QueryContext(ctx, query, args...)
}
