package esdb

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

var _ eventstore.Ledger = (*Store)(nil)

// sealStream has a seal for each block, appended behind the one before: the first of two sealers is taken.
const (
	sealStream = ownStream + "seals"
	sealType   = "salon.seal.v1"
	sealsPage  = 8 // an outline may have hundreds of kilobytes
)

// lookers is how many commands are looked up at once.
const lookers = 8

// CommandsOf implements eventstore.Ledger. Each command is looked up by itself, as there is no other way.
func (s *Store) CommandsOf(ctx context.Context, ids []uuid.UUID, _ uint64) ([]eventstore.Accepted, error) {
	found := make([]*eventstore.Accepted, len(ids))
	group, within := errgroup.WithContext(ctx) // which ends with the group; ctx says whether the caller left
	group.SetLimit(lookers)
	for i, id := range ids {
		group.Go(func() error {
			what, _, c, err := s.look(within, id)
			if err != nil || what != accepted {
				return err
			}
			last, err := s.event(within, c.Stream, c.LastRevision)
			if err == nil && last != nil {
				found[i] = &eventstore.Accepted{Command: c, RecordedAt: last.RecordedAt}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, s.unavailable(ctx, "read commands", err)
	}
	out := make([]eventstore.Accepted, 0, len(ids))
	for _, c := range found {
		if c != nil {
			out = append(out, *c)
		}
	}
	return out, nil
}

// Silent implements eventstore.Ledger. A command without events is its claim, and its number the claim's position in the
// log, which is read from there.
func (s *Store) Silent(ctx context.Context, after uint64) iter.Seq2[eventstore.Accepted, error] {
	s.mu.Lock()
	at := after
	if s.quiet.after == after {
		at = max(at, s.quiet.through) // it was read to there, and there was none
	}
	s.mu.Unlock()
	none := true
	return eventstore.Paged(func() (page []eventstore.Accepted, more bool, err error) {
		var from esdb.AllPosition = esdb.Start{}
		if at > 0 {
			from = esdb.Position{Commit: at, Prepare: at} // the event there comes, too
		}
		p, err := s.log(ctx, esdb.Forwards, from, pageSize)
		if err != nil {
			return nil, false, s.unavailable(ctx, "read commands", err)
		}
		for _, e := range p.events {
			if e.Position.Commit <= at && at > 0 {
				continue
			}
			at = e.Position.Commit
			c, err := s.silent(ctx, e)
			if err != nil {
				return nil, false, err
			}
			if c != nil {
				none = false
				page = append(page, *c)
			}
		}
		if none {
			s.mu.Lock()
			s.quiet.after, s.quiet.through = after, at
			s.mu.Unlock()
		}
		return page, p.more, nil
	})
}

// silent reads an event of the log as the claim that accepted a command without events; nil when it is none.
func (s *Store) silent(ctx context.Context, e *esdb.RecordedEvent) (*eventstore.Accepted, error) {
	name, ok := strings.CutPrefix(e.StreamID, s.namespace+claimStream)
	if !ok || e.EventType != claimType {
		return nil, nil
	}
	id, err := uuid.Parse(name)
	if err != nil {
		return nil, nil //nolint:nilerr // a stream of that name is nobody's claim
	}
	var c claim
	if err := json.Unmarshal(e.Data, &c); err != nil {
		return nil, damage("the claim of command %s: %v", id, err)
	}
	if c.Events > 0 || c.Withdrawn {
		return nil, nil
	}
	what, last, command, err := s.look(ctx, id)
	if err != nil {
		return nil, s.unavailable(ctx, "read commands", err)
	}
	if what != accepted || last.Events > 0 || last.at != int64(e.EventNumber) { //nolint:gosec // the server counts from 0
		return nil, nil
	}
	at := e.CreatedDate
	if c.RecordedAt != nil {
		at = *c.RecordedAt
	}
	return &eventstore.Accepted{Command: command, RecordedAt: eventstore.Micros(at), Silent: e.Position.Commit}, nil
}

// Seals implements eventstore.Ledger.
func (s *Store) Seals(ctx context.Context, after uint64) iter.Seq2[eventstore.Seal, error] {
	return eventstore.Paged(func() (page []eventstore.Seal, more bool, err error) {
		p, err := s.events(ctx, s.namespace+sealStream, esdb.Forwards, esdb.Revision(after), sealsPage)
		if err != nil {
			return nil, false, s.unavailable(ctx, "read seals", err)
		}
		for _, e := range p.events {
			seal, err := sealOf(e)
			if err != nil {
				return nil, false, err
			}
			page, after = append(page, seal), seal.Block
		}
		return page, p.more && len(page) > 0, nil
	})
}

// sealOf reads a seal: its note and, in the metadata, two numbers and the outline.
func sealOf(e *esdb.RecordedEvent) (eventstore.Seal, error) {
	if len(e.UserMetadata) < 16 {
		return eventstore.Seal{}, damage("seal %d cannot be read", e.EventNumber+1)
	}
	return eventstore.Seal{
		Block: e.EventNumber + 1, Through: binary.BigEndian.Uint64(e.UserMetadata), SilentThrough: binary.BigEndian.Uint64(e.UserMetadata[8:]),
		Note: e.Data, Outline: e.UserMetadata[16:],
	}, nil
}

// LastSeal implements eventstore.Ledger.
func (s *Store) LastSeal(ctx context.Context) (eventstore.Seal, error) {
	e, err := s.last(ctx, sealStream)
	if err != nil {
		return eventstore.Seal{}, s.unavailable(ctx, "read the last seal", err)
	}
	if e == nil {
		return eventstore.Seal{}, nil
	}
	return sealOf(e)
}

// AddSeal implements eventstore.Ledger. When the answer was lost, the next call finds the seal there.
func (s *Store) AddSeal(ctx context.Context, seal eventstore.Seal) error {
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	if seal.Block > 1 {
		expected = esdb.Revision(seal.Block - 2)
	}
	rest := binary.BigEndian.AppendUint64(nil, seal.Through)
	rest = append(binary.BigEndian.AppendUint64(rest, seal.SilentThrough), seal.Outline...)
	_, err := s.write(ctx, s.namespace+sealStream, expected, esdb.EventData{
		EventID: uuid.New(), EventType: sealType, ContentType: esdb.ContentTypeBinary, Data: seal.Note, Metadata: rest,
	})
	switch {
	case wrongVersion(err):
		return fmt.Errorf("block %d: %w", seal.Block, eventstore.ErrSealed)
	case err != nil:
		return s.unavailable(ctx, "keep a seal", err)
	}
	return nil
}
