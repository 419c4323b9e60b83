package rebuild

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// drop removes a version that does not serve.
func (k *work) drop(ctx context.Context, p engine.Projection) error {
	k.at(Removing, 0)
	if err := k.remove(ctx, p); err != nil {
		return err
	}
	return k.finish(ctx, func(r *Run) { r.State = Done }, nil)
}

// remnants removes what a rebuild has made so far. Other runs make nothing.
func (k *work) remnants(ctx context.Context) error {
	if k.run.Kind != Rebuild || k.run.Options.Key != "" {
		return nil
	}
	p, _, err := k.Desk.find(k.id())
	if err != nil {
		return err
	}
	state, err := engine.StateOf(ctx, k.lease.db.Writer(), p)
	if err != nil || state.Kept() && k.run.plan == nil {
		return err // it came to life otherwise
	}
	return k.remove(ctx, p)
}

// remove takes a version away: first its owners, then its rows, then the word that there was one. It may be called again
// wherever it ended.
func (k *work) remove(ctx context.Context, p engine.Projection) error {
	there := true
	err := k.lease.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		lock := ""
		if k.lease.db.Dialect() == reads.MySQL {
			lock = " LOCK IN SHARE MODE" // reads are not moved to it meanwhile
		}
		var serves int
		err := tx.QueryRowContext(ctx, "SELECT version FROM projection_pointers WHERE projection = ?"+lock, p.Name).Scan(&serves)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("read the pointer of %s: %w", p.Name, err)
		}
		if serves == p.Version {
			return refused("%s serves by now: it stays", p.ID())
		}
		state, err := engine.StateOf(ctx, tx, p)
		if err != nil {
			return err
		}
		if there = state != ""; !there {
			return nil
		}
		if state != engine.Dropping {
			if err := engine.SetState(ctx, tx, p, state, engine.Dropping); err != nil {
				return err
			}
		}
		if err := engine.Forget(ctx, tx, p); err != nil {
			return err
		}
		return k.forgetSlices(ctx, tx)
	})
	if err != nil || !there {
		return err
	}
	if err := k.lease.define(ctx, func(ctx context.Context, x reads.Conn) error { return engine.DropTables(ctx, x, p) }); err != nil {
		return err
	}
	if err := k.removeViews(ctx, p); err != nil {
		return err
	}
	return k.lease.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM projection_versions WHERE projection = ? AND version = ? AND state = ?", p.Name, p.Version, engine.Dropping)
		if err != nil {
			return fmt.Errorf("forget %s: %w", p.ID(), err)
		}
		return nil
	})
}
