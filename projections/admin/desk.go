package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/dangdangsalon/salon/projections/engine"
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
