package audit

import (
	"context"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// State is what a stream came to at a moment: what its decisions were made by.
type State struct {
	Stream   string         `json:"stream"`
	At       At             `json:"at"`
	Revision int64          `json:"revision" doc:"Of the stream's last event by then"`
	Last     *Cause         `json:"last" doc:"That event, with who caused it; null when the fold stopped at the first"`
	State    map[string]any `json:"state" doc:"As its decisions knew it; holds, reservations and time off by their IDs. Personal texts are opened"`
	Unopened
	Stopped *Stopped `json:"stopped,omitempty" doc:"The fold could not go on at this event: the state is of those before it"`
}

// State folds a stream through a moment.
func (p *Past) State(ctx context.Context, stream string, m Moment) (State, error) {
	kind, known := aggregateOf(stream)
	if !known {
		return State{}, errStream(stream)
	}
	place, err := p.place(ctx, m, stream)
	if err != nil {
		return State{}, err
	}
	s := &streamSubject{aggregate: kind, codec: p.Codec, state: kind.zero}
	t, err := p.streamHistory(ctx, stream).fold(s, place, watch{})
	if err != nil {
		return State{}, err
	}
	if t.last == nil && t.stopped == nil {
		return State{}, notYet(m, t.first, errStream(stream))
	}
	out := State{Stream: stream, At: at(place), Revision: int64(eventstore.NoStream), Stopped: t.stopped}
	if t.last != nil {
		cause := causeOf(*t.last)
		out.Revision, out.Last = int64(t.last.Revision), &cause
	}
	o := opening{texts: p.Texts}
	if out.State, err = o.tree(ctx, s); err != nil {
		return State{}, err
	}
	for _, list := range kind.lists {
		if out.State[list.name] == nil {
			out.State[list.name] = map[string]any{}
		}
	}
	out.Unopened = o.unopened
	return out, nil
}

// tree is a subject as one object, opened.
func (o *opening) tree(ctx context.Context, s subject) (map[string]any, error) {
	root := map[string]any{}
	for part := range s.touched() {
		v, err := part.show()
		if err == nil {
			v, err = o.open(ctx, pointer(part.path...), v)
		}
		if err != nil {
			return nil, err
		}
		in := root
		for _, name := range part.path[:len(part.path)-1] {
			within, there := in[name].(map[string]any)
			if !there {
				within = map[string]any{}
				in[name] = within
			}
			in = within
		}
		in[part.path[len(part.path)-1]] = v
	}
	return root, nil
}

// notYet refuses a moment before the first event; none is what is said where there is none at all.
func notYet(m Moment, first *eventstore.Recorded, none error) error {
	if first == nil {
		return none
	}
	return domain.Refuse(errBefore.Code, "%s: its first event is of %s, at position %d",
		m.location, first.RecordedAt.Format(time.RFC3339Nano), first.Position)
}
