package audit

import (
	"context"
	"fmt"

	"github.com/dangdangsalon/salon/projections/admin"
)

// Desk is Past for one caller, each of whose calls is on disk before it is answered. Over HTTP, over the socket of a data
// folder and from the command line everybody comes through here.
type Desk struct {
	of     *Past
	record admin.Record
}

// NewDesk makes the desk of one caller.
func NewDesk(of *Past, record admin.Record) Desk { return Desk{of, record} }

// moments reads what a caller means by two parameters, and notes the call. A call that is malformed is not noted.
func (d Desk) moments(ctx context.Context, operation, about, first, firstText, second, secondText string) (a, b Moment, err error) {
	if a, err = ParseMoment(first, firstText); err != nil {
		return a, b, err
	}
	about += "?" + first + "=" + firstText
	if second != "" {
		if b, err = ParseMoment(second, secondText); err != nil {
			return a, b, err
		}
		about += "&" + second + "=" + secondText
	}
	return a, b, d.note(ctx, operation, about)
}

func (d Desk) note(ctx context.Context, operation, about string) error {
	if err := d.record(ctx, operation, about); err != nil {
		return fmt.Errorf("%w: %w", admin.ErrNotRecorded, err)
	}
	return nil
}

// State is [Past.State].
func (d Desk) State(ctx context.Context, stream, at string) (State, error) {
	m, _, err := d.moments(ctx, "state-of-stream", stream, "at", at, "", "")
	if err != nil {
		return State{}, err
	}
	return d.of.State(ctx, stream, m)
}

// Diff is [Past.Diff].
func (d Desk) Diff(ctx context.Context, stream, from, to string, limit int) (Diff, error) {
	a, b, err := d.moments(ctx, "diff-of-stream", stream, "from", from, "to", to)
	if err != nil {
		return Diff{}, err
	}
	return d.of.Diff(ctx, stream, a, b, limit)
}

// Rows is [Past.Rows].
func (d Desk) Rows(ctx context.Context, projection, name, at string, limit int) (Rows, error) {
	m, _, err := d.moments(ctx, "state-of-rows", projection+"/"+name, "at", at, "", "")
	if err != nil {
		return Rows{}, err
	}
	return d.of.Rows(ctx, projection, name, m, limit)
}

// RowsDiff is [Past.RowsDiff].
func (d Desk) RowsDiff(ctx context.Context, projection, name, from, to string, limit int) (Diff, error) {
	a, b, err := d.moments(ctx, "diff-of-rows", projection+"/"+name, "from", from, "to", to)
	if err != nil {
		return Diff{}, err
	}
	return d.of.RowsDiff(ctx, projection, name, a, b, limit)
}

// Events is [Past.Events]. Each page is a call.
func (d Desk) Events(ctx context.Context, q Query) (EventPage, error) {
	if err := d.note(ctx, "list-events", q.about()); err != nil {
		return EventPage{}, err
	}
	return d.of.Events(ctx, q)
}

// Event is [Past.Event].
func (d Desk) Event(ctx context.Context, which string) (StoredEvent, error) {
	if err := d.note(ctx, "show-event", which); err != nil {
		return StoredEvent{}, err
	}
	return d.of.Event(ctx, which)
}

// Tree is [Past.Tree].
func (d Desk) Tree(ctx context.Context, commandID string) (Tree, error) {
	if err := d.note(ctx, "tree-of-command", commandID); err != nil {
		return Tree{}, err
	}
	return d.of.Tree(ctx, commandID)
}
