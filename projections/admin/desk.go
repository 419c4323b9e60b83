package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

// Record notes a call on disk before it is answered. Operation is the operation's ID in the API, about what it was
// asked of ("reservations/kim"). After an error nothing is answered and nothing done.
type Record func(ctx context.Context, operation, about string) error

// ErrNotRecorded is a call that could not be noted, and so was not answered.
var ErrNotRecorded = errors.New("the call cannot be recorded, so nothing was done")

// Desk is Projections for one caller, each of whose calls is recorded first. Over HTTP, over the socket of a data
// folder and from the command line everybody comes through here.
type Desk struct {
	of     *Projections
	record Record
}

// NewDesk makes the desk of one caller.
func NewDesk(of *Projections, record Record) Desk { return Desk{of, record} }

func (d Desk) note(ctx context.Context, operation, about string) error {
	if err := d.record(ctx, operation, about); err != nil {
		return fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	return nil
}

// List is [Projections.List].
func (d Desk) List(ctx context.Context) (Overview, error) {
	if err := d.note(ctx, "list-projections", ""); err != nil {
		return Overview{}, err
	}
	return d.of.List(ctx)
}

// Parked is [Projections.Parked].
func (d Desk) Parked(ctx context.Context, name string) ([]engine.Parked, error) {
	if err := d.note(ctx, "list-parked", name); err != nil {
		return nil, err
	}
	return d.of.Parked(ctx, name)
}

// Retry is [Projections.Retry].
func (d Desk) Retry(ctx context.Context, name, key string) error {
	if err := d.note(ctx, "retry-parked", name+"/"+key); err != nil {
		return err
	}
	return d.of.Retry(ctx, name, key)
}

// RetryByCause is [Projections.RetryByCause].
func (d Desk) RetryByCause(ctx context.Context, name, cause string) (int, error) {
	if err := d.note(ctx, "retry-parked-by-cause", name+": "+cause); err != nil {
		return 0, err
	}
	return d.of.RetryByCause(ctx, name, cause)
}

// Ask is rebuild.Desk.Ask.
func (d Desk) Ask(ctx context.Context, q rebuild.Request) (rebuild.Run, error) {
	if err := d.note(ctx, string(q.Kind)+"-projection", q.Projection); err != nil {
		return rebuild.Run{}, err
	}
	return d.of.Versions.Ask(ctx, q)
}

// Follow is rebuild.Desk.Run for who has asked for the run, and looks at it again and again: the asking is on record.
func (d Desk) Follow(ctx context.Context, id string) (rebuild.Run, error) {
	return d.of.Versions.Run(ctx, id)
}

// Run tells how a run of a projection, or of a version, is.
func (d Desk) Run(ctx context.Context, name, id string) (rebuild.Run, error) {
	if err := d.note(ctx, "get-run", name+"/"+id); err != nil {
		return rebuild.Run{}, err
	}
	return d.find(ctx, name, id)
}

// Runs is rebuild.Desk.Runs.
func (d Desk) Runs(ctx context.Context, name string) ([]rebuild.Run, error) {
	if err := d.note(ctx, "list-runs", name); err != nil {
		return nil, err
	}
	return d.of.Versions.Runs(ctx, name)
}

// Cancel is rebuild.Desk.Cancel; without a name, of whichever projection the run is.
func (d Desk) Cancel(ctx context.Context, name, id string) (rebuild.Run, error) {
	if err := d.note(ctx, "cancel-run", strings.TrimPrefix(name+"/"+id, "/")); err != nil {
		return rebuild.Run{}, err
	}
	if name != "" {
		if _, err := d.find(ctx, name, id); err != nil {
			return rebuild.Run{}, err
		}
	}
	return d.of.Versions.Cancel(ctx, id)
}

// find finds a run of the projection that is named.
func (d Desk) find(ctx context.Context, name, id string) (rebuild.Run, error) {
	r, err := d.of.Versions.Run(ctx, id)
	if err == nil && !d.of.Versions.Concerns(name, r) {
		return rebuild.Run{}, fmt.Errorf("%w: no run of %s is called %q", rebuild.ErrUnknown, name, id)
	}
	return r, err
}
