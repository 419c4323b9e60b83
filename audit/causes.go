package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// Tree is what a command came of, and what came of it.
type Tree struct {
	// CausedBy are the events and commands above, the nearest first: none above what a person asked for.
	CausedBy []Cause `json:"caused_by" nullable:"false"`
	// CauseNotFound is said where the chain breaks off.
	CauseNotFound string `json:"cause_not_found,omitempty" doc:"ID of the event that caused the topmost of these, which was not found: a store without an index is searched in one stream alone"`
	Caused
	LookedThrough uint64 `json:"looked_through" doc:"Position through which effects were looked for"`
	More          bool   `json:"more,omitempty" doc:"There are more effects than are listed, or than were looked for"`
}

// Caused is a command with its events, and with the commands that each of them made the system issue.
type Caused struct {
	Command CommandNode `json:"command"`
	Events  []EventNode `json:"events" nullable:"false" doc:"None: the command was accepted, and changed nothing"`
}

// CommandNode is a command.
type CommandNode struct {
	Command
	Actor         Actor     `json:"actor"`
	Stream        string    `json:"stream"`
	CorrelationID string    `json:"correlation_id,omitempty"`
	At            time.Time `json:"at,omitzero" doc:"When its events were recorded"`
}

// EventNode is an event and what it caused.
type EventNode struct {
	Event
	Stream   string    `json:"stream"`
	Revision int64     `json:"revision"`
	At       time.Time `json:"at"`
	Commands []Caused  `json:"commands" nullable:"false"`
}

// The bounds of a tree.
const (
	mostNodes    = 1000   // commands below
	mostAbove    = 100    // causes above
	mostScanned  = 20_000 // events that a store without an index is looked through for effects
	mostOfStream = 4096   // events of its stream that a cause is looked for in, without an index
)

// Tree follows a command up to what a person asked for, and down through what the system did because of it.
func (p *Past) Tree(ctx context.Context, commandID string) (Tree, error) {
	id, err := uuid.Parse(commandID)
	if err != nil {
		return Tree{}, invalid("command_id: want a UUID")
	}
	events, err := p.eventsOf(ctx, id)
	if err != nil {
		return Tree{}, err
	}
	out := Tree{CausedBy: []Cause{}}
	c := &causes{Past: p, seen: map[uuid.UUID]bool{}, tree: &out}
	if len(events) > 0 {
		if err := c.begin(ctx, events[0].Position); err != nil {
			return Tree{}, err
		}
		if err := c.above(ctx, events[0]); err != nil {
			return Tree{}, err
		}
	}
	out.Caused, err = c.below(ctx, id, events)
	return out, err
}

// eventsOf are the events of an accepted command. The store remembers where it ended.
func (p *Past) eventsOf(ctx context.Context, id uuid.UUID) ([]eventstore.Recorded, error) {
	command, found, err := p.Store.Command(ctx, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, domain.Refuse("command.unknown", "there is no accepted command %s", id)
	}
	var events []eventstore.Recorded
	for r, err := range p.Store.ReadStreamBack(ctx, command.Stream, command.LastRevision) {
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", command.Stream, err)
		}
		if m, err := eventstore.DecodeMetadata(r.Metadata); err != nil || m.CommandID != id {
			break
		}
		events = append(events, r)
	}
	slices.Reverse(events)
	return events, nil
}

// causes is a tree in the making.
type causes struct {
	*Past

	tree    *Tree
	lookups eventstore.Lookups // nil: the store has none
	through uint64             // of the index
	// recent are the commands that events behind the index, or all of a store without one, are of, by what caused them.
	recent map[string][]uuid.UUID
	seen   map[uuid.UUID]bool
}

// begin looks at what no index knows yet.
func (c *causes) begin(ctx context.Context, from uint64) (err error) {
	after := from
	if lookups, has := c.Store.(eventstore.Lookups); has {
		c.lookups = lookups
		if c.through, err = lookups.LookupsThrough(ctx); err != nil {
			return err
		}
		after = max(after, c.through)
	}
	c.recent, c.tree.LookedThrough = map[string][]uuid.UUID{}, after
	looked := 0
	for r, err := range c.Store.ReadAll(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return fmt.Errorf("look for effects: %w", err)
		}
		if looked++; looked > mostScanned {
			c.tree.More = true
			return nil
		}
		c.tree.LookedThrough = r.Position
		c.note(r)
	}
	return nil
}

func (c *causes) note(r eventstore.Recorded) {
	m, err := eventstore.DecodeMetadata(r.Metadata)
	if err == nil && m.CausationID != m.CommandID.String() && !slices.Contains(c.recent[m.CausationID], m.CommandID) {
		c.recent[m.CausationID] = append(c.recent[m.CausationID], m.CommandID)
	}
}

// above follows the causes of an event's command.
func (c *causes) above(ctx context.Context, of eventstore.Recorded) error {
	for range mostAbove {
		m, err := eventstore.DecodeMetadata(of.Metadata)
		if err != nil || m.CausationID == m.CommandID.String() {
			return nil //nolint:nilerr // it tells of no cause
		}
		id, err := uuid.Parse(m.CausationID)
		if err != nil {
			return nil //nolint:nilerr // nor does this
		}
		cause, found, err := c.byID(ctx, id, of)
		if err != nil {
			return err
		}
		if !found {
			c.tree.CauseNotFound = m.CausationID
			return nil
		}
		c.tree.CausedBy = append(c.tree.CausedBy, causeOf(cause))
		of = cause
	}
	return nil
}

// byID finds an event that came before another: by the index and behind its end, or without one in the other's stream,
// where most causes are.
func (c *causes) byID(ctx context.Context, id uuid.UUID, before eventstore.Recorded) (eventstore.Recorded, bool, error) {
	events, most := c.Store.ReadStreamBack(ctx, before.Stream, before.Revision), mostOfStream
	if c.lookups != nil {
		events, most = c.lookedUp(ctx, c.lookups, []int64{eventstore.LookupValue(byID, id.String())}, 0, c.through), mostScanned
	}
	looked := 0
	for r, err := range events {
		if err != nil {
			return r, false, fmt.Errorf("look for a cause: %w", err)
		}
		if r.ID == id {
			return r, true, nil
		}
		if looked++; looked == most {
			break
		}
	}
	return eventstore.Recorded{}, false, nil
}

// eventsBy are the first events that the index has for a value: as many as a tree may have.
func (c *causes) eventsBy(ctx context.Context, kind, text string) ([]eventstore.Recorded, error) {
	positions, err := c.lookups.Lookup(ctx, eventstore.LookupValue(kind, text), 0, mostNodes)
	if err != nil || len(positions) == 0 {
		return nil, err
	}
	return c.lookups.EventsAt(ctx, positions)
}

// below is a command with all that came of it.
func (c *causes) below(ctx context.Context, id uuid.UUID, events []eventstore.Recorded) (Caused, error) {
	c.seen[id] = true
	out := Caused{Command: CommandNode{Command: Command{ID: id}}, Events: []EventNode{}}
	if len(events) == 0 { // it changed nothing
		command, _, err := c.Store.Command(ctx, id)
		out.Command.Stream, out.Command.Actor = command.Stream, actorOf(command.Actor)
		return out, err
	}
	first := causeOf(events[0])
	out.Command = CommandNode{Command: first.Command, Actor: first.Actor, Stream: events[0].Stream, At: first.At}
	if m, err := eventstore.DecodeMetadata(events[0].Metadata); err == nil {
		out.Command.CorrelationID = m.CorrelationID
	}
	for _, r := range events {
		node := EventNode{Event: causeOf(r).Event, Stream: r.Stream, Revision: int64(r.Revision), At: r.RecordedAt, Commands: []Caused{}}
		commands, err := c.causedBy(ctx, r.ID)
		if err != nil {
			return out, err
		}
		for _, id := range commands {
			if c.seen[id] {
				continue
			}
			if len(c.seen) == mostNodes {
				c.tree.More = true
				break
			}
			events, err := c.eventsOf(ctx, id)
			if err != nil && !errors.Is(err, domain.Refusal{Code: "command.unknown"}) { // its event says that there was one
				return out, err
			}
			caused, err := c.below(ctx, id, events)
			if err != nil {
				return out, err
			}
			node.Commands = append(node.Commands, caused)
		}
		out.Events = append(out.Events, node)
	}
	return out, nil
}

func actorOf(subject string) Actor {
	for i := range subject {
		if subject[i] == ':' {
			return Actor{ID: subject[i+1:], Role: subject[:i]}
		}
	}
	return Actor{ID: subject}
}

// causedBy are the commands that an event made the system issue, in the order of their events.
func (c *causes) causedBy(ctx context.Context, id uuid.UUID) ([]uuid.UUID, error) {
	var out []uuid.UUID
	add := func(id uuid.UUID) {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	if c.lookups != nil {
		found, err := c.eventsBy(ctx, byCausation, id.String())
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			if m, err := eventstore.DecodeMetadata(r.Metadata); err == nil && m.CausationID == id.String() {
				add(m.CommandID)
			}
		}
	}
	for _, id := range c.recent[id.String()] {
		add(id)
	}
	return out, nil
}

// Event finds one event, by its position or its ID.
func (p *Past) Event(ctx context.Context, which string) (StoredEvent, error) {
	unknown := domain.Refuse("event.unknown", "there is no event %.80q", which)
	if position, err := strconv.ParseUint(which, 10, 63); err == nil {
		return p.eventAt(ctx, position, unknown)
	}
	id, err := uuid.Parse(which)
	if err != nil {
		return StoredEvent{}, invalid("event: want a position or an ID")
	}
	lookups, has := p.Store.(eventstore.Lookups)
	if !has {
		return StoredEvent{}, domain.Refuse("event.not_indexed", "this store finds events by position, not by ID: list those of its stream")
	}
	through, err := lookups.LookupsThrough(ctx)
	if err != nil {
		return StoredEvent{}, err
	}
	looked := 0
	for r, err := range p.lookedUp(ctx, lookups, []int64{eventstore.LookupValue(byID, id.String())}, 0, through) {
		if err != nil {
			return StoredEvent{}, err
		}
		if r.ID == id {
			return p.stored(ctx, r)
		}
		if looked++; looked == mostScanned {
			return StoredEvent{}, errBehind
		}
	}
	return StoredEvent{}, unknown
}

// errBehind says that the index is too far behind to tell.
var errBehind = errors.Join(eventstore.ErrUnavailable, errors.New("the index over events is far behind the store: try again when it has caught up"))

func (p *Past) eventAt(ctx context.Context, position uint64, unknown error) (StoredEvent, error) {
	place, err := p.Store.LastPlace(ctx, position, endOfTime)
	if err != nil {
		return StoredEvent{}, err
	}
	if place.Position != position || position == 0 {
		return StoredEvent{}, unknown
	}
	before, err := p.Store.LastPlace(ctx, position-1, endOfTime)
	if err != nil {
		return StoredEvent{}, err
	}
	for r, err := range p.Store.ReadAll(ctx, min(before.Position, math.MaxInt64), eventstore.Filter{}) {
		if err != nil {
			return StoredEvent{}, err
		}
		return p.stored(ctx, r)
	}
	return StoredEvent{}, unknown
}
