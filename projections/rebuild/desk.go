package rebuild

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Desk takes what is asked of projections' versions, and tells what became of it. Any node may have one.
type Desk struct {
	DB *reads.DB
	Of []engine.Projection // the newest version of each, with its Earlier ones
	// Views reaches the views among them. Without a Redis a version that has views is neither built nor dropped.
	Views engine.Views
}

// Request is what is asked.
type Request struct {
	Kind       Kind   `json:"kind"`
	Projection string `json:"projection"` // "reservations", "reservations@2" or "reservations_v2"
	By         string `json:"by"`

	Options
}

// Unconfirmed is the code of a drop that may be done once it is confirmed.
const Unconfirmed = "projection.unconfirmed"

// RefusedError is something that must not be done as things are. Code is stable.
type RefusedError struct{ Code, Why string }

func (e *RefusedError) Error() string { return e.Why }

func refused(format string, args ...any) error {
	return &RefusedError{"projection.refused", fmt.Sprintf(format, args...)}
}

// Ask notes a run, or does at once what takes a moment: a switch, rollback, pause or resume. The error is ErrUnknown for
// what there is not, an OptionError for what does not go together, or a RefusedError for what must not be done as things are.
func (d *Desk) Ask(ctx context.Context, q Request) (Run, error) {
	p, explicit, err := d.find(q.Projection)
	if err != nil {
		return Run{}, err
	}
	if p.Behind != "" {
		return Run{}, refused("%s is a view of %s: it is built, moved and dropped with it", p.Name, p.Origin().ID())
	}
	if err := q.consistent(); err != nil {
		return Run{}, err
	}
	if q.Kind == Switch || q.Kind == Rollback {
		return d.move(ctx, q)
	}
	if q.Kind == Pause || q.Kind == Resume {
		return d.pause(ctx, q)
	}
	r := Run{ID: uuid.NewString(), Projection: p.Name, Kind: q.Kind, Version: p.Version, State: Asked, AskedBy: q.By, Reason: q.Reason, AskedAt: time.Now().UTC(), Options: q.Options}
	if r.Options.Sample > 0 && r.Options.Seed == 0 {
		r.Options.Seed = rand.Uint32() //nolint:gosec // it draws a sample
	}
	err = d.DB.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		serves, _, err := engine.ActiveVersion(ctx, tx, p.Name)
		if err != nil {
			return err
		}
		if !explicit && (r.Options.Fresh || r.Options.Key != "") {
			if p, err = d.serving(ctx, tx, p.Name); err != nil {
				return err
			}
			r.Version = p.Version
		}
		state, err := engine.StateOf(ctx, tx, p)
		if err != nil {
			return err
		}
		switch q.Kind {
		case Rebuild:
			if q.Key != "" && state != engine.Live {
				return notLive(p, state)
			}
			if q.Key == "" && state.Kept() {
				return refused("%s is live already, or paused: a changed fold is a new version; to build this one anew, let another serve, and drop it first", p.ID())
			}
		case Verify:
			if q.Fresh {
				if state != engine.Live {
					return notLive(p, state)
				}
				break
			}
			if r.Against = q.Against; r.Against == 0 {
				r.Against = serves
			}
			if err := d.comparable(ctx, tx, p, r.Against, state); err != nil {
				return err
			}
		case Drop:
			switch {
			case !explicit:
				return refused("say which version to drop: %s@N", p.Name)
			case state == "":
				return refused("there is nothing of %s", p.ID())
			case serves == p.Version:
				return refused("%s serves: switch to another version first", p.ID())
			case q.Confirm != p.ID():
				return &RefusedError{Unconfirmed, fmt.Sprintf("to drop %s with all its rows, confirm it by its name: %s", p.ID(), p.ID())}
			}
		default:
			return fmt.Errorf("%w: nothing is called %q", ErrUnknown, q.Kind)
		}
		return reserve(ctx, tx, d.DB.Dialect(), r)
	})
	return r, err
}

func (d *Desk) comparable(ctx context.Context, q reads.Queryer, p engine.Projection, against int, state engine.State) error {
	other, known := d.version(p.Name, against)
	if !known {
		return fmt.Errorf("%w: this release has no version %d of %s", ErrUnknown, against, p.Name)
	}
	if against == p.Version {
		return refused("%s would be compared with itself: name the version to verify, or another with --against", p.ID())
	}
	beside, err := engine.StateOf(ctx, q, other)
	if err != nil {
		return err
	}
	for _, v := range []struct {
		p engine.Projection
		s engine.State
	}{{p, state}, {other, beside}} {
		if v.s != engine.Live {
			return notLive(v.p, v.s)
		}
	}
	return nil
}

// Run tells how a run is. The error is ErrUnknown when there is none.
func (d *Desk) Run(ctx context.Context, id string) (Run, error) {
	return getRun(ctx, d.DB.Reader(), id)
}

// Runs lists the runs of a projection, or of the version that is named, the newest first.
func (d *Desk) Runs(ctx context.Context, name string) ([]Run, error) {
	p, explicit, err := d.find(name)
	if err != nil {
		return nil, err
	}
	where, args := "WHERE projection = ?", []any{p.Name}
	if explicit {
		where, args = where+" AND version = ?", append(args, p.Version)
	}
	return queryRuns(ctx, d.DB.Reader(), where+" ORDER BY asked_at DESC, run_id LIMIT 100", args...)
}

// LastRebuilds are the last run of each version that built it, by Run.VersionID.
func (d *Desk) LastRebuilds(ctx context.Context) (map[string]Run, error) {
	all, err := queryRuns(ctx, d.DB.Reader(), "WHERE kind = ? AND state = ? ORDER BY ended_at", Rebuild, Done)
	if err != nil {
		return nil, err
	}
	out := map[string]Run{}
	for _, r := range all {
		if r.Options.Key == "" {
			out[r.VersionID()] = r
		}
	}
	return out, nil
}

// Cancel asks that a run be given up: what it made is removed. A run that has ended is refused.
func (d *Desk) Cancel(ctx context.Context, id string) (Run, error) {
	n, err := affected(d.DB.Writer().ExecContext(ctx, "UPDATE projection_runs SET cancel = 1 WHERE run_id = ? AND state IN (?, ?)", id, Asked, Running))
	if err != nil {
		return Run{}, fmt.Errorf("cancel run %s: %w", id, err)
	}
	r, err := d.Run(ctx, id)
	if err == nil && n == 0 {
		err = refused("run %s has ended: it is %s", id, r.State)
	}
	return r, err
}

// find finds a version: reservations is the newest that this release has, reservations@1 and reservations_v1 that one.
func (d *Desk) find(name string) (p engine.Projection, explicit bool, err error) {
	base, version, explicit := strings.Cut(name, "@")
	for _, p := range d.Of {
		if p.Name == base && !explicit {
			return p, false, nil
		}
		n, err := strconv.Atoi(version)
		if at, found := p.At(n); p.Name == base && err == nil && found {
			return at, true, nil
		}
		if i := slices.IndexFunc(p.Versions(), func(v engine.Projection) bool { return v.ID() == name }); i >= 0 {
			return p.Versions()[i], true, nil
		}
	}
	return p, explicit, fmt.Errorf("%w: this release has no projection, or no version, called %q", ErrUnknown, name)
}

// notLive refuses what needs a version that is kept up to date, and says what to do about it.
func notLive(p engine.Projection, state engine.State) error {
	switch state {
	case engine.Paused:
		return refused("%s is paused, not live: salon projections resume %s@%d", p.ID(), p.Name, p.Version)
	case engine.Building:
		return refused("%s is not live yet: a rebuild is at work (salon projections runs %s)", p.ID(), p.Name)
	case engine.Dropping:
		return refused("%s is not live any more: it is being dropped", p.ID())
	}
	return refused("%s is not live: rebuild it first (salon projections rebuild %s@%d)", p.ID(), p.Name, p.Version)
}

// Concerns tells whether a run is of the projection, or of the version, that a name stands for.
func (d *Desk) Concerns(name string, r Run) bool {
	p, explicit, err := d.find(name)
	return err == nil && p.Name == r.Projection && (!explicit || p.Version == r.Version)
}

// serving is the version that answers reads, as this release has it.
func (d *Desk) serving(ctx context.Context, q reads.Queryer, name string) (p engine.Projection, err error) {
	serves, found, err := engine.ActiveVersion(ctx, q, name)
	if err != nil {
		return p, err
	}
	if !found {
		return p, refused("%s has not begun", name)
	}
	p, known := d.version(name, serves)
	if !known {
		return p, refused("this release does not know version %d of %s, which serves", serves, name)
	}
	return p, nil
}

// version is a version of a projection as this release has it. Only the newest knows the others, and it may be asked of any.
func (d *Desk) version(name string, version int) (p engine.Projection, known bool) {
	p, _, err := d.find(engine.Projection{Name: name, Version: version}.ID())
	return p, err == nil
}
