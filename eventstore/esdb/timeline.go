package esdb

import (
	"context"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/dangdangsalon/salon/eventstore"
)

// LastPlace implements eventstore.Timeline. The server has no index over times, and reads from positions alone that it
// gave: so the log is read backwards from its end, which takes the longer the longer ago the moment is.
func (s *Store) LastPlace(ctx context.Context, position uint64, at time.Time) (eventstore.Place, error) {
	var from esdb.AllPosition = esdb.End{}
	for count := uint64(8); ; count = min(8*count, pageSize) {
		p, err := s.log(ctx, esdb.Backwards, from, count)
		if err != nil {
			return eventstore.Place{}, s.unavailable(ctx, "find a moment", err)
		}
		for _, e := range p.events {
			from = esdb.Position{Commit: e.Position.Commit, Prepare: e.Position.Commit} // the event there does not come again
			if _, ok := s.ours(e); !ok || e.Position.Commit > position {
				continue
			}
			r, err := s.read(e)
			if err != nil {
				return eventstore.Place{}, err
			}
			if !r.RecordedAt.After(at) {
				return eventstore.Place{Position: r.Position, At: r.RecordedAt}, nil
			}
		}
		if !p.more {
			return eventstore.Place{}, nil
		}
	}
}
