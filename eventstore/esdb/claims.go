package esdb

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// claim is one record of a command's stream.
type claim struct {
	Stream   string              `json:"stream"`
	Revision eventstore.Revision `json:"revision"` // the events come behind it; without events, the answer's
	Events   int                 `json:"events"`
	// Of a command without events, whose acceptance this record is. The events tell it of the others.
	Position    uint64 `json:"position,omitempty"`
	RequestHash []byte `json:"request_hash,omitempty"`
	Actor       string `json:"actor,omitempty"`
	// RecordedAt is when it was accepted where it was loaded from; else the record tells it.
	RecordedAt *time.Time `json:"recorded_at,omitempty"`
	// Withdrawn says that the claim before this record is dead: its events were refused.
	Withdrawn bool `json:"withdrawn,omitempty"`

	at   int64     // revision in the command's stream
	made time.Time // by the server's clock
}

// nothing stands in a command's stream before its first record.
const unclaimed int64 = -1

// standing is what is known of a command.
type standing int

const (
	free     standing = iota // no claim, or a dead one
	inFlight                 // its events may still arrive
	accepted
)

// record writes a record behind the one that stands at prior, and tells where it stands itself: in the command's stream,
// and in the log.
func (s *Store) record(ctx context.Context, id uuid.UUID, prior int64, c claim) (at int64, position uint64, err error) {
	data, err := json.Marshal(c)
	if err != nil {
		return 0, 0, fmt.Errorf("encode a claim: %w", err)
	}
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	if prior != unclaimed {
		expected = esdb.Revision(uint64(prior)) //nolint:gosec // not negative here
	}
	done, err := s.send(ctx, s.namespace+claimStream+id.String(), expected, esdb.EventData{
		EventID: uuid.New(), EventType: claimType, ContentType: esdb.ContentTypeJson, Data: data,
	})
	if err != nil {
		return 0, 0, err
	}
	return int64(done.NextExpectedVersion), done.CommitPosition, nil //nolint:gosec // the server counts from 0
}

// look reads a command's last record and what became of it. The records before need no look: each was dead, or for the
// same place, when the next was written.
func (s *Store) look(ctx context.Context, id uuid.UUID) (standing, claim, eventstore.Command, error) {
	var command eventstore.Command
	c := claim{at: unclaimed}
	e, err := s.last(ctx, claimStream+id.String())
	if err != nil || e == nil {
		return free, c, command, err
	}
	if err := json.Unmarshal(e.Data, &c); err != nil {
		return free, c, command, damage("the claim of command %s: %v", id, err)
	}
	c.at, c.made = int64(e.EventNumber), e.CreatedDate //nolint:gosec // the server counts from 0
	switch {
	case c.Withdrawn:
		return free, c, command, nil
	case c.Events == 0:
		what, err := s.stood(ctx, c.Stream, c.Revision, e.Position.Commit)
		return what, c, eventstore.Command{
			ID: id, RequestHash: c.RequestHash, Actor: c.Actor, Stream: c.Stream, LastRevision: c.Revision, Position: c.Position,
		}, err
	}
	command, what, err := s.landed(ctx, id, c.Stream, c.Revision)
	return what, c, command, err
}

// stood looks whether the stream's end was at the revision when the log was at the position: a command without events is
// accepted at the moment of its claim, if it was. That is so, or not, for ever.
func (s *Store) stood(ctx context.Context, stream string, end eventstore.Revision, position uint64) (standing, error) {
	next, err := s.event(ctx, stream, end+1)
	switch {
	case err != nil:
		return inFlight, err
	case next != nil && next.Position < position:
		return free, nil
	}
	return accepted, nil
}

// landed looks what follows the revision of a stream: the command's own event, another one, or nothing yet.
func (s *Store) landed(ctx context.Context, id uuid.UUID, stream string, behind eventstore.Revision) (eventstore.Command, standing, error) {
	first, err := s.event(ctx, stream, behind+1)
	switch {
	case err != nil:
		return eventstore.Command{}, inFlight, err
	case first == nil:
		return eventstore.Command{}, inFlight, nil
	case first.ID != eventstore.EventID(id, stream, 0):
		return eventstore.Command{}, free, nil
	}
	last := first
	if first.events > 1 {
		if last, err = s.event(ctx, stream, behind+eventstore.Revision(first.events)); err == nil && last == nil {
			err = damage("command %s lacks the last of its %d events in %s", id, first.events, stream)
		}
		if err != nil {
			return eventstore.Command{}, inFlight, err
		}
	}
	return eventstore.Command{
		ID: id, RequestHash: first.requestHash, Actor: first.actor, Stream: stream, LastRevision: last.Revision, Position: last.Position,
	}, accepted, nil
}

// event reads one event of ours; nil when it is not there.
func (s *Store) event(ctx context.Context, stream string, at eventstore.Revision) (*stored, error) {
	p, err := s.events(ctx, s.namespace+stream, esdb.Forwards, esdb.Revision(uint64(at)), 1) //nolint:gosec // not negative
	if err != nil || len(p.events) == 0 {
		return nil, err
	}
	e, err := s.read(p.events[0])
	if err != nil {
		return nil, err
	}
	if e.Revision != at {
		return nil, damage("%s@%d was deleted on the server, where nothing may be", stream, at)
	}
	s.note(e.Position, e.RecordedAt)
	return &e, nil
}

// Command implements eventstore.Store.
func (s *Store) Command(ctx context.Context, id uuid.UUID) (eventstore.Command, bool, error) {
	what, _, command, err := s.look(ctx, id)
	if err != nil {
		return eventstore.Command{ID: id}, false, s.unavailable(ctx, "find command", err)
	}
	if what != accepted {
		return eventstore.Command{ID: id}, false, nil
	}
	return command, true, nil
}
