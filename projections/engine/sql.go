package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// parked are the keys that wait, by ordering key: read with the claim, and changed by apply alone.
	parked() map[string]Parked
	// asked lists the keys that somebody wants to be tried again, the longest waiting first.
	asked(ctx context.Context) ([]string, error)
	// apply folds a planned batch and writes rows and progress together, or nothing, and returns how many of its
	// records are done. ErrFenced: somebody else has the partition. After an error that is poison the owner lives on.
	apply(ctx context.Context, b *batch) (records int, err error)
}

type sqlTarget struct {
	db        *reads.DB
	p         Projection
	tables    map[*Def]*tableSQL
	cacheRows int
	group     *group // nil on SQLite, which has one writer: its small transactions cost little

	mu    sync.Mutex // SQLite only: the statements of the one writer
	stmts map[string]*sql.Stmt
}

func newSQLTarget(db *reads.DB, p Projection, cacheRows int) *sqlTarget {
	t := &sqlTarget{db: db, p: p, cacheRows: cacheRows, tables: map[*Def]*tableSQL{}, stmts: map[string]*sql.Stmt{}}
	if db.Dialect() == reads.MySQL {
		t.group = &group{}
	}
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
	lock := ""
	if t.db.Dialect() == reads.MySQL {
		lock = " LOCK IN SHARE MODE" // against a drop: it changes the state first
	}
	err := t.db.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if state, err := stateOf(ctx, tx, t.p, lock); err != nil {
			return err
		} else if state != Live {
			return ErrNotLive
		}
		if _, err := tx.ExecContext(ctx, take, t.p.ID(), topic, part, rand.Text(), time.Now().UnixMicro()); err != nil {
			return err
		}
		var found bool
		var err error
		if o.at, found, err = Offset(ctx, tx, t.p.ID(), topic, part); err == nil && !found {
			err = errors.New("the row is not there")
		}
		if err != nil {
			return err
		}
		o.waiting, err = partitionParked(ctx, tx, t.p.ID(), topic, part)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim %s of %s/%d: %w", t.p.ID(), topic, part, err)
	}
	return o, nil
}

type sqlOwner struct {
	t       *sqlTarget
	topic   string
	part    int32
	at      Progress
	waiting map[string]Parked
	unit    *Unit // rows that this claim wrote or read
}

func (o *sqlOwner) progress() Progress { return o.at }

func (o *sqlOwner) parked() map[string]Parked { return o.waiting }

func (o *sqlOwner) asked(ctx context.Context) (keys []string, err error) {
	all, err := queryParked(ctx, o.t.db.Writer(), "WHERE projection = ? AND topic = ? AND part = ? AND retry_at > 0 ORDER BY retry_at, ordering_key",
		o.t.p.ID(), o.topic, o.part)
	for _, p := range all {
		if _, ours := o.waiting[p.Key]; ours {
			keys = append(keys, p.Key)
		}
	}
	return keys, err
}

func (o *sqlOwner) apply(ctx context.Context, b *batch) (int, error) {
	m := &member{o: o, b: b, ctx: ctx, outcome: outcome{alone: true}}
	if o.t.group != nil && b.joins() {
		m.outcome = o.t.group.commit(m)
	}
	if m.alone {
		m.lost, m.err = commit(ctx, []*member{m})
	}
	if errors.Is(m.err, ErrFenced) {
		return 0, o.fenced(ctx)
	}
	if m.err != nil {
		return 0, m.err
	}
	next := b.after
	next.Epoch, next.Claim, next.Seq = o.at.Epoch, o.at.Claim, o.at.Seq+1
	if m.lost != nil {
		if err := o.resolve(ctx, m.lost); err != nil {
			return 0, err
		}
		o.unit = NewUnit()
	}
	o.at = next
	b.change.done(o.waiting)
	o.unit.settle(o.t.cacheRows)
	return len(b.records), nil
}

// fold is what batches of one topic do in a transaction: the fence, then what changes of a parked key, then the rows.
func (t *sqlTarget) fold(ctx context.Context, tx *transaction, members []*member) (err error) {
	defer caught(&err)
	if err := t.fence(ctx, tx, members); err != nil {
		return err
	}
	for _, m := range members {
		if err := m.b.change.write(ctx, tx); err != nil {
			return err
		}
		m.b.name(t.p, m.o.unit)
	}
	for _, table := range t.tables {
		if err := table.load(ctx, tx, members); err != nil {
			return err
		}
	}
	changes := map[*Def][]change{}
	for _, m := range members {
		for _, e := range m.b.events {
			if err := m.o.unit.Fold(t.p, e); err != nil {
				return err
			}
		}
		for d, c := range m.o.unit.changes() {
			changes[d] = append(changes[d], c...)
		}
	}
	for _, table := range t.p.Tables {
		all := changes[table.Def()]
		if len(members) > 1 { // each member's are in order already
			slices.SortFunc(all, func(a, b change) int { return cmp.Compare(a.key, b.key) })
		}
		if err := t.tables[table.Def()].write(ctx, tx, all); err != nil {
			return err
		}
	}
	return nil
}

const fence = "UPDATE projection_offsets SET commit_seq = commit_seq + 1, next_offset = ?, last_pos = ?, last_recorded_at = ?, incarnation = ?, updated_at = ? " +
	"WHERE projection = ? AND topic = ? AND part = ? AND claim = ? AND epoch = ? AND commit_seq = ? AND next_offset = ?"

// fence moves the members' progress, if each of them still owns its partition.
func (t *sqlTarget) fence(ctx context.Context, tx *transaction, members []*member) error {
	query, args := fence, []any(nil)
	for _, v := range members[0].b.values() {
		args = append(args, v)
	}
	if len(members) > 1 {
		query, args = fenceOf(members)
	}
	args = append(args, time.Now().UnixMicro())
	for _, m := range members {
		args = append(args, t.p.ID(), m.o.topic, m.o.part, m.o.at.Claim, m.o.at.Epoch, m.o.at.Seq, m.o.at.NextOffset)
	}
	n, err := tx.update(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if n != int64(len(members)) {
		return ErrFenced
	}
	return nil
}

// fenceOf is the fence of several partitions of one topic as one statement, and the values that it sets before the
// time. Each row is named by its whole primary key: a scan would wait for rows of other projections.
func fenceOf(members []*member) (query string, args []any) {
	before, where, _ := strings.Cut(fence, "WHERE ")
	set := strings.Replace(before, "= ?, updated_at", "= CASE part"+strings.Repeat(" WHEN ? THEN ?", len(members))+" END, updated_at", 1)
	for _, column := range []string{"next_offset", "last_pos", "last_recorded_at"} {
		set = strings.Replace(set, column+" = ?", column+" = CASE part"+strings.Repeat(" WHEN ? THEN ?", len(members))+" END", 1)
	}
	for i := range members[0].b.values() {
		for _, m := range members {
			args = append(args, m.o.part, m.b.values()[i])
		}
	}
	return set + "WHERE (" + where + ")" + strings.Repeat(" OR ("+where+")", len(members)-1), args
}

// values are what a batch makes of its partition's progress, in the order of the fence.
func (b *batch) values() [4]any {
	var at int64
	if !b.after.LastRecordedAt.IsZero() {
		at = b.after.LastRecordedAt.UnixMicro()
	}
	return [4]any{b.after.NextOffset, int64(b.after.LastPos), at, b.after.Incarnation} //nolint:gosec // positions stay below 2^63
}

// fenced tells by whom the fence was closed.
func (o *sqlOwner) fenced(ctx context.Context) error {
	now, found, err := Offset(ctx, o.t.db.Reader(), o.t.p.ID(), o.topic, o.part)
	if err != nil || !found {
		return ErrFenced
	}
	return fenced(o.at.Claim, now.Claim)
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
		return fenced(o.at.Claim, now.Claim)
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
