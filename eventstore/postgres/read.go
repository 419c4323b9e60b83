package postgres

import (
	"context"
	"iter"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/dangdangsalon/salon/eventstore"
)

const columns = "position, stream, revision, id, type, key, recorded_at, metadata, data, hash"

// pageSize bounds a page's memory and how long it holds a connection.
const pageSize = 512

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if !eventstore.IsText(stream) {
		return func(func(eventstore.Recorded, error) bool) {} // a name that the server would refuse: no stream has it
	}
	next := max(from, 0)
	return pages(func() ([]eventstore.Recorded, error) {
		return s.page(ctx, "SELECT "+columns+" FROM events WHERE stream = $1 AND revision >= $2 ORDER BY revision LIMIT $3", stream, next, pageSize)
	}, func(r eventstore.Recorded) { next = r.Revision + 1 })
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after uint64) iter.Seq2[eventstore.Recorded, error] {
	after = min(after, math.MaxInt64)
	return pages(func() ([]eventstore.Recorded, error) {
		return s.page(ctx, "SELECT "+columns+" FROM events WHERE position > $1 ORDER BY position LIMIT $2", after, pageSize)
	}, func(r eventstore.Recorded) { after = r.Position })
}

// pages reads page by page: a page is complete in memory before its first event is yielded, so no connection is held
// while the caller works.
func pages(next func() ([]eventstore.Recorded, error), passed func(eventstore.Recorded)) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			page, err := next()
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
			if len(page) < pageSize {
				return
			}
		}
	}
}

func (s *Store) page(ctx context.Context, query string, args ...any) ([]eventstore.Recorded, error) {
	rows, err := s.read.Query(ctx, query, args...)
	if err != nil {
		return nil, unavailable("read events", err)
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (eventstore.Recorded, error) {
		var r eventstore.Recorded
		var hash []byte
		err := row.Scan(&r.Position, &r.Stream, &r.Revision, &r.ID, &r.Type, &r.Key, &r.RecordedAt, &r.Metadata, &r.Data, &hash)
		r.RecordedAt = r.RecordedAt.UTC()
		copy(r.Hash[:], hash)
		return r, err
	})
	if err != nil {
		return nil, unavailable("read events", err)
	}
	return page, nil
}
