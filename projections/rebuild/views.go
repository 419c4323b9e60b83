package rebuild

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
)

// A view in Redis follows the tables behind it: it has their versions, their state and their pointer. So a switch moves both
// by one row, and what is asked of a view is to be asked of what is behind.

// viewsOf are the views of a version.
func (d *Desk) viewsOf(p engine.Projection) (out []engine.Projection) {
	for _, v := range d.Of {
		if at, known := v.At(p.Version); known && v.Behind == p.Name {
			out = append(out, at)
		}
	}
	return out
}

// unfilled tells which view of a version does not answer reads yet, "" when all do. It is no fault of what is read: the tables
// answer until then, but more slowly.
func (d *Desk) unfilled(ctx context.Context, p engine.Projection) string {
	for _, v := range d.viewsOf(p) {
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		filled, of, err := d.Views.Filled(asking, v)
		cancel()
		if err != nil {
			return fmt.Sprintf("whether the view %s is filled cannot be told: %s", v.ID(), engine.Explain(err))
		}
		if filled < of {
			return fmt.Sprintf("the view %s is filled in %d of %d partitions", v.ID(), filled, of)
		}
	}
	return ""
}

// fill waits until the projectors of the version's views have filled them from its tables.
func (k *work) fill(ctx context.Context, p engine.Projection) error {
	views := k.Desk.viewsOf(p)
	if len(views) == 0 {
		return nil
	}
	k.at(Filling, 0)
	tick := time.NewTicker(look / 5)
	defer tick.Stop()
	for {
		var filled, total int
		for _, v := range views {
			n, of, err := k.Desk.Views.Filled(ctx, v)
			if err != nil {
				return err
			}
			filled, total = filled+n, total+of
		}
		k.say(func(r *Run) { r.Total, r.Done = int64(total), int64(filled) })
		if filled == total {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// removeViews removes the views of a version that is being dropped. A worker that was replaced right after it looked at its
// lease may remove one portion more: should the version live again by then, its owners see what is missing, and fill it.
func (k *work) removeViews(ctx context.Context, p engine.Projection) error {
	for _, v := range k.Desk.viewsOf(p) {
		err := k.Desk.Views.Remove(ctx, v, func(ctx context.Context) error {
			if k.At != nil {
				k.At(Removing)
			}
			return k.lease.write(ctx, func(context.Context, *sql.Tx) error { return nil })
		})
		if err != nil {
			return err
		}
	}
	return nil
}
