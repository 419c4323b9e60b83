package rebuild

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/projections/reads"
)

// errLost says that another worker has the run by now.
var errLost = errors.New("another worker has taken the run over")

// lease is a worker's hold of a run. Nothing is written without it.
type lease struct {
	db    *reads.DB
	of    string // Run.leased
	run   string
	claim string
	epoch int64
}

// reserve makes a new run the only one of its projection, or aside of that of its version. Until it has ended there can be no
// other; and a version is not dropped under one that looks at it.
func reserve(ctx context.Context, tx *sql.Tx, dialect reads.Dialect, r Run) error {
	of := []string{r.leased()}
	if r.Kind == Drop {
		of = append(of, r.VersionID())
	}
	for _, name := range of {
		holder, err := holderOf(ctx, tx, dialect, name)
		if err != nil {
			return err
		}
		if holder != "" {
			return busy(ctx, tx, holder)
		}
	}
	if r.aside() { // who drops it has locked, and waited for, the version's lease: it is known by now
		var holder string
		err := tx.QueryRowContext(ctx, "SELECT run_id FROM projection_leases WHERE projection = ?", r.Projection).Scan(&holder)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("reserve %s: %w", r.leased(), err)
		}
		if holder != "" {
			if other, err := getRun(ctx, tx, holder); err != nil || other.Kind == Drop && other.Version == r.Version {
				return cmp.Or(err, busy(ctx, tx, holder))
			}
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE projection_leases SET run_id = ?, claim = '', epoch = epoch + 1 WHERE projection = ?", r.ID, r.leased()); err != nil {
		return fmt.Errorf("reserve %s: %w", r.leased(), err)
	}
	return insertRun(ctx, tx, r)
}

// holderOf is the run that has a lease, "" when none has, and will be none until the transaction has ended.
func holderOf(ctx context.Context, tx *sql.Tx, dialect reads.Dialect, name string) (holder string, err error) {
	insert, lock := "INSERT INTO projection_leases (projection, run_id, claim, epoch) VALUES (?, '', '', 0) ON CONFLICT DO NOTHING", ""
	if dialect == reads.MySQL {
		insert, lock = "INSERT IGNORE INTO projection_leases (projection, run_id, claim, epoch) VALUES (?, '', '', 0)", " FOR UPDATE"
	}
	if _, err := tx.ExecContext(ctx, insert, name); err != nil {
		return "", fmt.Errorf("reserve %s: %w", name, err)
	}
	if err := tx.QueryRowContext(ctx, "SELECT run_id FROM projection_leases WHERE projection = ?"+lock, name).Scan(&holder); err != nil {
		return "", fmt.Errorf("reserve %s: %w", name, err)
	}
	return holder, nil
}

// busy says for which run another has to wait.
func busy(ctx context.Context, tx *sql.Tx, holder string) error {
	r, err := getRun(ctx, tx, holder)
	if err != nil {
		return err
	}
	return &RefusedError{Code: "projection.busy", Why: fmt.Sprintf("the %s of %s, run %s, has not ended: wait for it, or cancel it", r.Kind, r.VersionID(), r.ID)}
}

// take makes this worker the run's, and refuses whoever was before. taken is false when another was quicker.
func take(ctx context.Context, db *reads.DB, r Run) (l lease, taken bool, err error) {
	l = lease{db: db, of: r.leased(), run: r.ID, claim: rand.Text()}
	err = db.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var holder string
		if err := tx.QueryRowContext(ctx, "SELECT run_id, epoch FROM projection_leases WHERE projection = ?", l.of).Scan(&holder, &l.epoch); err != nil {
			return err
		}
		if holder != r.ID {
			return nil
		}
		n, err := affected(tx.ExecContext(ctx, "UPDATE projection_leases SET claim = ?, epoch = epoch + 1 WHERE projection = ? AND run_id = ? AND epoch = ?",
			l.claim, l.of, r.ID, l.epoch))
		if err != nil || n != 1 {
			return err
		}
		l.epoch++
		taken = true
		_, err = tx.ExecContext(ctx, "UPDATE projection_runs SET state = ?, beats = beats + 1, started_at = CASE WHEN started_at = 0 THEN ? ELSE started_at END WHERE run_id = ?",
			Running, time.Now().UnixMicro(), r.ID)
		return err
	})
	if err != nil {
		return l, false, fmt.Errorf("take run %s: %w", r.ID, err)
	}
	return l, taken, nil
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// hold is the first statement of each transaction: the lease is ours until it has ended. Those that hold it do not wait for
// one another; whoever takes it over waits for them.
func (l lease) hold(ctx context.Context, tx *sql.Tx) error {
	lock := ""
	if l.db.Dialect() == reads.MySQL {
		lock = " LOCK IN SHARE MODE"
	}
	var claim string
	var epoch int64
	if err := tx.QueryRowContext(ctx, "SELECT claim, epoch FROM projection_leases WHERE projection = ?"+lock, l.of).Scan(&claim, &epoch); err != nil {
		return fmt.Errorf("look at the lease: %w", err)
	}
	if claim != l.claim || epoch != l.epoch {
		return errLost
	}
	return nil
}

// write runs a transaction under the lease.
func (l lease) write(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return l.db.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := l.hold(ctx, tx); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

// define runs statements that make or drop tables. On a server no transaction holds those back: the lease is looked at under a
// name that one connection has, and which they are sent on. Whoever takes the lease over waits for the name before it makes
// or drops tables in turn; a worker that froze meanwhile has lost its connection by then.
func (l lease) define(ctx context.Context, fn func(ctx context.Context, x reads.Conn) error) error {
	if l.db.Dialect() == reads.SQLite {
		return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error { return fn(ctx, tx) })
	}
	return l.db.Only(ctx, "rebuild/"+l.of, func(ctx context.Context, x reads.Conn) error {
		if err := l.write(ctx, func(context.Context, *sql.Tx) error { return nil }); err != nil {
			return err
		}
		return fn(ctx, x)
	})
}

// tell notes how far the run is, and hears whether it is to be cancelled.
func (l lease) tell(ctx context.Context, r Run) (cancel bool, err error) {
	err = l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE projection_runs SET beats = beats + 1, phase = ?, done = ?, total = ?, events = ?, row_count = ?, rate = ?, eta = ?, detail = ? WHERE run_id = ?",
			r.Phase, r.Done, r.Total, r.Events, r.Rows, r.Rate, micros(r.ETA), r.Detail, l.run)
		if err != nil {
			return fmt.Errorf("note how far run %s is: %w", l.run, err)
		}
		if err = l.wanted(ctx, tx); errors.Is(err, errCancelled) {
			cancel, err = true, nil
		}
		return err
	})
	return cancel, err
}

// wanted is errCancelled when somebody asked for the run to be given up, in the transaction that makes its work count.
func (l lease) wanted(ctx context.Context, tx *sql.Tx) error {
	var cancel bool
	if err := tx.QueryRowContext(ctx, "SELECT cancel FROM projection_runs WHERE run_id = ?", l.run).Scan(&cancel); err != nil {
		return fmt.Errorf("look whether run %s is wanted: %w", l.run, err)
	}
	if cancel {
		return errCancelled
	}
	return nil
}

// end notes what became of the run and lets the projection go, in one transaction with what belongs to it.
func (l lease) end(ctx context.Context, r Run, result []byte, with func(ctx context.Context, tx *sql.Tx) error) error {
	return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if with != nil {
			if err := with(ctx, tx); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "UPDATE projection_runs SET state = ?, phase = ?, detail = ?, result = ?, done = ?, total = ?, events = ?, row_count = ?, rate = ?, eta = 0, ended_at = ? WHERE run_id = ?",
			r.State, r.Phase, r.Detail, string(result), r.Done, r.Total, r.Events, r.Rows, r.Rate, time.Now().UnixMicro(), l.run)
		if err == nil {
			_, err = tx.ExecContext(ctx, "UPDATE projection_leases SET run_id = '', claim = '' WHERE projection = ?", l.of)
		}
		if err != nil {
			return fmt.Errorf("end run %s: %w", l.run, err)
		}
		return nil
	})
}
