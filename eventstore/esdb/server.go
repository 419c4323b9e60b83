package esdb

import (
	"context"
	"errors"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// Few calls of the client are used; each is here, once.

// write appends to a stream of the server.
func (s *Store) write(ctx context.Context, stream string, expected esdb.ExpectedRevision, events ...esdb.EventData) (*esdb.WriteResult, error) {
	return call(ctx, s, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.AppendToStream(ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: expected, RequiresLeader: true, Deadline: &s.timeout}, events...)
	})
}

// keep lets the server forget all but a stream's last events: nobody can read them any more, and its next scavenge
// removes them from the disk.
func (s *Store) keep(ctx context.Context, stream string, count uint64) error {
	meta := esdb.StreamMetadata{}
	meta.SetMaxCount(count)
	_, err := call(ctx, s, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.SetStreamMetadata(ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}, RequiresLeader: true, Deadline: &s.timeout}, meta)
	})
	return err
}

func wrongVersion(err error) bool { return codeOf(err) == esdb.ErrorCodeWrongExpectedVersion }

// pageBytes ends a page early: it bounds what is in memory.
const pageBytes = 4 << 20

// page is what one read gave. more is false when it found the end.
type page struct {
	events []*esdb.RecordedEvent
	more   bool
}

// events reads up to count events of a stream. A stream that does not exist is empty.
func (s *Store) events(ctx context.Context, stream string, way esdb.Direction, from esdb.StreamPosition, count uint64) (page, error) {
	return call(ctx, s, func(ctx context.Context, c *esdb.Client) (page, error) {
		read, err := c.ReadStream(ctx, stream, esdb.ReadStreamOptions{Direction: way, From: from, RequiresLeader: true, Deadline: &s.timeout}, count)
		return receive(read, err, count)
	})
}

// log reads up to count events of the server's log.
func (s *Store) log(ctx context.Context, way esdb.Direction, from esdb.AllPosition, count uint64) (page, error) {
	return call(ctx, s, func(ctx context.Context, c *esdb.Client) (page, error) {
		read, err := c.ReadAll(ctx, esdb.ReadAllOptions{Direction: way, From: from, RequiresLeader: true, Deadline: &s.timeout}, count)
		return receive(read, err, count)
	})
}

func receive(read *esdb.ReadStream, err error, count uint64) (out page, _ error) {
	if err != nil {
		return out, err
	}
	defer read.Close()
	for size := 0; size < pageBytes && uint64(len(out.events)) < count; {
		e, err := read.Recv()
		switch {
		case errors.Is(err, io.EOF), missing(err):
			return out, nil
		case err != nil:
			return page{}, err
		}
		event := e.OriginalEvent()
		size += len(event.Data) + len(event.UserMetadata)
		out.events = append(out.events, event)
	}
	out.more = true
	return out, nil
}

// last reads the last event of a stream of ours; nil when there is none.
func (s *Store) last(ctx context.Context, stream string) (*esdb.RecordedEvent, error) {
	p, err := s.events(ctx, s.namespace+stream, esdb.Backwards, esdb.End{}, 1)
	if err != nil || len(p.events) == 0 {
		return nil, err
	}
	return p.events[0], nil
}
