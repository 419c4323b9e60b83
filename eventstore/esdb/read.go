package esdb

import (
	"context"
	"iter"
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/dangdangsalon/salon/eventstore"
)

// pageSize is how many events one read asks for, at most.
const pageSize = 512

func nothing(func(eventstore.Recorded, error) bool) {}

// readable reports whether a stream of that name can have events.
func readable(stream string) bool {
	return stream != "" && len(stream) <= eventstore.MaxNameBytes && eventstore.IsText(stream) && !reserved(stream)
}

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if !readable(stream) {
		return nothing
	}
	next := max(from, 0)
	return s.pages(ctx, stream, esdb.Forwards, func() esdb.StreamPosition { return esdb.Revision(uint64(next)) }, func(last eventstore.Revision) bool { //nolint:gosec // not negative
		next = last + 1
		return true
	})
}

// ReadStreamBack implements eventstore.Store.
func (s *Store) ReadStreamBack(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if !readable(stream) || from < 0 {
		return nothing
	}
	next := from
	return s.pages(ctx, stream, esdb.Backwards, func() esdb.StreamPosition {
		if next == eventstore.LastRevision {
			return esdb.End{}
		}
		return esdb.Revision(uint64(next)) //nolint:gosec // not negative
	}, func(last eventstore.Revision) bool {
		next = last - 1
		return next >= 0
	})
}

// pages reads a stream. on is told the last revision of each page and answers whether there can be more.
func (s *Store) pages(ctx context.Context, stream string, way esdb.Direction, from func() esdb.StreamPosition, on func(last eventstore.Revision) bool) iter.Seq2[eventstore.Recorded, error] {
	return eventstore.Pages(ctx, func(ctx context.Context) (out []eventstore.Recorded, more bool, err error) {
		p, err := s.events(ctx, s.namespace+stream, way, from(), pageSize)
		if err != nil {
			return nil, false, s.unavailable(ctx, "read events", err)
		}
		for _, e := range p.events {
			r, err := s.read(e)
			if err != nil {
				return nil, false, err
			}
			s.note(r.Position, r.RecordedAt)
			out = append(out, r.Recorded)
		}
		return out, p.more && len(out) > 0 && on(out[len(out)-1].Revision), nil
	})
}

// ReadAll implements eventstore.Store. The client's reads take no filter, so the events that nobody wants come over the
// network, too; of each append that is one, its claim.
func (s *Store) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	if after >= math.MaxInt64 {
		return nothing
	}
	return eventstore.Pages(ctx, func(ctx context.Context) (out []eventstore.Recorded, more bool, err error) {
		var from esdb.AllPosition = esdb.Start{}
		if after > 0 {
			from = esdb.Position{Commit: after, Prepare: after} // the event there comes, too
		}
		p, err := s.log(ctx, esdb.Forwards, from, pageSize)
		if err != nil {
			return nil, false, s.unavailable(ctx, "read events", err)
		}
		for _, e := range p.events {
			if e.Position.Commit <= after && after > 0 {
				continue
			}
			after = e.Position.Commit
			if _, ok := s.ours(e); !ok {
				continue
			}
			r, err := s.read(e)
			if err != nil {
				return nil, false, err
			}
			s.note(r.Position, r.RecordedAt)
			if f.Matches(r.Recorded) {
				out = append(out, r.Recorded)
			}
		}
		return out, p.more, nil
	})
}

// Head implements eventstore.Store. The log is read backwards from its end, to the first event of ours or to where it is
// known; the first head of a store that has been idle for long may take several pages.
func (s *Store) Head(ctx context.Context) (eventstore.Head, error) {
	s.mu.Lock()
	scanned := s.scanned
	s.mu.Unlock()
	var from esdb.AllPosition = esdb.End{}
	var end uint64
	for count := uint64(8); ; count = min(8*count, pageSize) {
		p, err := s.log(ctx, esdb.Backwards, from, count)
		if err != nil {
			return eventstore.Head{}, s.unavailable(ctx, "read the head", err)
		}
		done := !p.more
		for _, e := range p.events {
			at := e.Position.Commit
			end = max(end, at)
			from = esdb.Position{Commit: at, Prepare: at} // the event there does not come again
			if _, ok := s.ours(e); ok {
				r, err := s.read(e)
				if err != nil {
					return eventstore.Head{}, err
				}
				s.note(r.Position, r.RecordedAt)
				done = true
			}
			if done = done || at <= scanned; done {
				break
			}
		}
		if done {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.scanned = max(s.scanned, end)
			head := s.head
			head.Incarnation = s.incarnation
			return head, nil
		}
	}
}
