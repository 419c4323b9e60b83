package postgres

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/dangdangsalon/salon/eventstore"
)

const columns = "position, stream, revision, id, type, key, recorded_at, metadata, data, hash"

// A page ends after so many events, or so many bytes: that bounds its memory and how long it holds a connection.
const (
	pageSize  = 512
	pageBytes = 4 << 20
)

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if !eventstore.IsText(stream) {
		return func(func(eventstore.Recorded, error) bool) {} // a name that the server would refuse: no stream has it
	}
	next := max(from, 0)
	return pages(func() ([]eventstore.Recorded, bool, error) {
		return s.page(ctx, "SELECT "+columns+" FROM events WHERE stream = $1 AND revision >= $2 ORDER BY revision LIMIT $3", stream, next, pageSize)
	}, func(r eventstore.Recorded) { next = r.Revision + 1 })
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after uint64) iter.Seq2[eventstore.Recorded, error] {
	after = min(after, math.MaxInt64)
	return pages(func() ([]eventstore.Recorded, bool, error) {
		return s.page(ctx, "SELECT "+columns+" FROM events WHERE position > $1 ORDER BY position LIMIT $2", after, pageSize)
	}, func(r eventstore.Recorded) { after = r.Position })
}

// pages reads page by page: a page is complete in memory before its first event is yielded, so no connection is held
// while the caller works.
func pages(next func() (page []eventstore.Recorded, more bool, err error), passed func(eventstore.Recorded)) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			page, more, err := next()
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				passed(r)
			}
			if !more {
				return
			}
		}
	}
}

// page reads one page. more is false when the end was found.
func (s *Store) page(ctx context.Context, query string, args ...any) (page []eventstore.Recorded, more bool, err error) {
	rows, err := s.read.Query(ctx, query, args...)
	if err != nil {
		return nil, false, unavailable("read events", err)
	}
	defer rows.Close()
	size := 0
	for size < pageBytes && rows.Next() {
		var r eventstore.Recorded
		var hash []byte
		if err := rows.Scan(&r.Position, &r.Stream, &r.Revision, &r.ID, &r.Type, &r.Key, &r.RecordedAt, &r.Metadata, &r.Data, &hash); err != nil {
			return nil, false, fmt.Errorf("read events: %w", err)
		}
		r.RecordedAt = r.RecordedAt.UTC()
		copy(r.Hash[:], hash)
		size += len(r.Metadata) + len(r.Data)
		page = append(page, r)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, false, unavailable("read events", err)
	}
	return page, size >= pageBytes || len(page) == pageSize, nil
}
