package rebuild

import (
	"context"
	"fmt"

	"github.com/dangdangsalon/salon/projections/engine"
)

// key makes the rows of one ordering key again in a version that is live, and in its views. It may be done again wherever it
// ended.
func (k *work) key(ctx context.Context, p engine.Projection) error {
	k.at(Loading, 0)
	r := engine.Refold{Projection: p, DB: k.lease.db, Redis: k.Desk.Views.Redis, Codec: k.Codec, Store: k.Store, Key: k.run.Options.Key, Fence: k.lease.hold}
	done, err := r.SQL(ctx)
	if err != nil {
		return fmt.Errorf("make the rows of %q again: %w", r.Key, err)
	}
	for _, v := range k.Desk.viewsOf(p) {
		r.Projection = v
		if err := r.View(ctx); err != nil {
			return fmt.Errorf("make the rows of %q again in %s: %w", r.Key, v.ID(), err)
		}
	}
	return k.finish(ctx, func(run *Run) {
		run.State, run.Events, run.Rows = Done, done.Events, done.Rows
		switch {
		case done.Events == 0:
			run.Detail = "no event that " + p.ID() + " uses has this key: whatever rows had it are gone"
		case done.Parked:
			run.Detail = "the key is still parked: salon projections parked " + p.ID()
		case done.Unparked:
			run.Detail = "the key was parked, and is not any more"
		}
	}, nil)
}
