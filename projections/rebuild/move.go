package rebuild

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// allowedLag is how much older what a version shows may be than what serves, for reads to be moved to it.
const allowedLag = time.Second

// move points reads at another version: one row, so a read is answered from one version or the other, and the way back is
// as short. A read that is under way keeps the version it began with, by its snapshot.
func (d *Desk) move(ctx context.Context, q Request) (r Run, err error) {
	p, explicit, err := d.find(q.Projection)
	if err != nil {
		return r, err
	}
	now := time.Now().UTC()
	r = Run{ID: uuid.NewString(), Projection: p.Name, Kind: q.Kind, State: Done, AskedBy: q.By, AskedAt: now, StartedAt: now, Options: q.Options}
	if (q.Force || q.AcceptParked) && q.Reason == "" {
		return r, refused("to force it, or to accept parked keys, give the reason: it is kept")
	}
	lock := ""
	if d.DB.Dialect() == reads.MySQL {
		lock = " FOR UPDATE"
	}
	unfilled := ""
	if q.Kind == Switch { // a way back is not held up: the tables answer where a view does not
		unfilled = d.unfilled(ctx, p)
	}
	err = d.DB.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var previous int
		err := tx.QueryRowContext(ctx, "SELECT version, previous FROM projection_pointers WHERE projection = ?"+lock, p.Name).Scan(&r.Against, &previous)
		if errors.Is(err, sql.ErrNoRows) {
			return refused("%s has not begun: there is nothing to move reads from", p.Name)
		}
		if err != nil {
			return fmt.Errorf("read the pointer of %s: %w", p.Name, err)
		}
		if q.Kind == Rollback && !explicit {
			if previous == 0 {
				return refused("reads of %s were never moved: there is nothing to go back to", p.Name)
			}
			var known bool
			if p, known = d.version(p.Name, previous); !known {
				return refused("this release does not know version %d, to which a rollback would go", previous)
			}
		}
		r.Version = p.Version
		if r.Version == r.Against {
			return refused("%s serves already", p.ID())
		}
		why, err := unfit(ctx, tx, p, r.Against, q.Kind)
		if err != nil {
			return err
		}
		if why == "" {
			why = unfilled
		}
		if why != "" && !q.Force {
			return refused("%s; --force with a --reason does it all the same", why)
		}
		parked, err := waiting(ctx, tx, p, q.Kind)
		if err != nil {
			return err
		}
		if parked != "" && !q.AcceptParked {
			return refused("%s; --accept-parked with a --reason does it all the same", parked)
		}
		if q.Kind == Rollback && why == "" { // the way back is open, but not silent
			if why, err = lastFound(ctx, tx, p); err != nil {
				return err
			}
		}
		if r.Detail = strings.TrimPrefix(strings.TrimSuffix(why+"; "+parked, "; "), "; "); r.Detail != "" {
			r.Reason = q.Reason
		}
		_, err = tx.ExecContext(ctx, "UPDATE projection_pointers SET version = ?, previous = ? WHERE projection = ?", r.Version, r.Against, p.Name)
		if err != nil {
			return fmt.Errorf("move reads to %s: %w", p.ID(), err)
		}
		if _, err = tx.ExecContext(ctx, "UPDATE projection_versions SET served = 1 WHERE projection = ? AND version = ?", p.Name, r.Against); err != nil {
			return fmt.Errorf("note that version %d of %s has served: %w", r.Against, p.Name, err)
		}
		r.EndedAt = time.Now().UTC()
		return insertRun(ctx, tx, r)
	})
	return r, err
}

// lastFound tells what the last verification of a version found wrong, "" when nothing.
func lastFound(ctx context.Context, tx *sql.Tx, p engine.Projection) (string, error) {
	last, err := queryRuns(ctx, tx, "WHERE projection = ? AND version = ? AND kind = ? AND state = ? ORDER BY ended_at DESC LIMIT 1", p.Name, p.Version, Verify, Done)
	if err != nil || len(last) == 0 || last[0].Report == nil || last[0].Report.Equal() {
		return "", err
	}
	return "its last verification found " + last[0].Detail, nil
}

// proved tells whether a version was found equal to another. A rollback may go to one that has served, too: it has projected
// ever since.
func proved(ctx context.Context, tx *sql.Tx, p engine.Projection, kind Kind) (is bool, err error) {
	var run string
	var served bool
	err = tx.QueryRowContext(ctx, "SELECT verified_run, served FROM projection_versions WHERE projection = ? AND version = ?", p.Name, p.Version).Scan(&run, &served)
	if err != nil {
		return false, fmt.Errorf("read what was verified of %s: %w", p.ID(), err)
	}
	return run != "" || served && kind == Rollback, nil
}

// waiting tells of parked keys, "" when there are none. The way back is not barred by them: a version that served has kept
// whatever was wrong with it.
func waiting(ctx context.Context, tx *sql.Tx, p engine.Projection, kind Kind) (string, error) {
	if kind != Switch {
		return "", nil
	}
	parked, err := engine.ListParked(ctx, tx, p.ID())
	if err != nil || len(parked) == 0 {
		return "", err
	}
	return fmt.Sprintf("%d keys are parked in %s (salon projections parked %s)", len(parked), p.ID(), p.ID()), nil
}

// unfit tells why reads should not be moved to a version, "" when they may. What is not live is refused in any case.
func unfit(ctx context.Context, tx *sql.Tx, p engine.Projection, from int, kind Kind) (why string, err error) {
	state, err := engine.StateOf(ctx, tx, p)
	if err != nil {
		return "", err
	}
	if state != engine.Live {
		return "", notLive(p, state)
	}
	known, err := proved(ctx, tx, p, kind)
	if err != nil {
		return "", err
	}
	if !known {
		return fmt.Sprintf("%s was not verified, or differs (salon projections verify %s@%d)", p.ID(), p.Name, p.Version), nil
	}
	serving := engine.Projection{Name: p.Name, Version: from}.ID()
	places, err := engine.PlacesOf(ctx, tx, []string{p.ID(), serving})
	if err != nil {
		return "", err
	}
	type part struct {
		topic string
		n     int32
	}
	to := map[part]engine.Place{}
	for _, at := range places {
		if at.Projection == p.ID() {
			to[part{at.Topic, at.Part}] = at
		}
	}
	for _, at := range places {
		if at.Projection != serving {
			continue
		}
		// By offsets of the log: positions may differ where the two show the same. One that was rebuilt stands at the store's
		// head, the other at the last record of its partition. Records may be markers, so they do not tell of a lag by themselves.
		there, found := to[part{at.Topic, at.Part}]
		lag := at.LastRecordedAt.Sub(there.LastRecordedAt)
		if at.NextOffset > 0 && (!found || there.NextOffset < at.NextOffset && lag > allowedLag) {
			return fmt.Sprintf("%s lags: in %s/%d it is at offset %d, %s at %d", p.ID(), at.Topic, at.Part, there.NextOffset, serving, at.NextOffset), nil
		}
	}
	return "", nil
}
