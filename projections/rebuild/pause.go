package rebuild

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/projections/engine"
)

// pause lets a version's projectors stand still, or go on: the one that serves, unless another is named. Its rows, offsets
// and parked keys stay as they are, and so does what reads show; whoever reads with a token of later hears that it is behind.
// Projectors notice within half a second.
func (d *Desk) pause(ctx context.Context, q Request) (Run, error) {
	p, explicit, err := d.find(q.Projection)
	if err != nil {
		return Run{}, err
	}
	now := time.Now().UTC()
	r := Run{ID: uuid.NewString(), Projection: p.Name, Kind: q.Kind, State: Done, AskedBy: q.By, Reason: q.Reason, AskedAt: now, StartedAt: now, Options: q.Options}
	from, to := engine.Live, engine.Paused
	if q.Kind == Resume {
		from, to = to, from
	}
	err = d.DB.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if !explicit {
			if p, err = d.serving(ctx, tx, p.Name); err != nil {
				return err
			}
		}
		r.Version = p.Version
		state, err := engine.StateOf(ctx, tx, p)
		if err != nil {
			return err
		}
		switch {
		case state == from:
		case q.Kind == Pause:
			return notLive(p, state)
		default:
			return refused("%s is not paused", p.ID())
		}
		if err := engine.SetState(ctx, tx, p, from, to); err != nil {
			return err
		}
		r.EndedAt = time.Now().UTC()
		return insertRun(ctx, tx, r)
	})
	return r, err
}
