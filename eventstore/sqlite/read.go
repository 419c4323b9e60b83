package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

const columns = "position, stream, revision, id, type, key, recorded_at, metadata, data, hash"

// A page ends after so many events, or so many bytes: that bounds its memory, and how long one read holds its connection
// and its view of the file. A long one would keep the write-ahead log from being folded back.
const (
	pageSize  = 512
	pageBytes = 4 << 20
)

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	next := max(from, 0)
	return s.pages(ctx, func() (*sql.Rows, error) {
		return s.read.QueryContext(ctx, "SELECT "+columns+" FROM events WHERE stream = ? AND revision >= ? ORDER BY revision LIMIT ?", stream, next, pageSize)
	}, func(r eventstore.Recorded) { next = r.Revision + 1 })
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after uint64) iter.Seq2[eventstore.Recorded, error] {
	after = min(after, math.MaxInt64)
	return s.pages(ctx, func() (*sql.Rows, error) {
		return s.read.QueryContext(ctx, "SELECT "+columns+" FROM events WHERE position > ? ORDER BY position LIMIT ?", int64(after), pageSize) //nolint:gosec // cut above
	}, func(r eventstore.Recorded) { after = r.Position })
}

// pages reads page by page: a page is complete in memory before its first event is yielded, so no connection is held
// while the caller works.
func (s *Store) pages(ctx context.Context, query func() (*sql.Rows, error), passed func(eventstore.Recorded)) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for {
			page, more, err := readPage(query)
			if err != nil {
				if ctx.Err() != nil {
					err = ctx.Err()
				} else {
					err = fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
				}
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

// readPage reads one page. more is false when the end was found.
func readPage(query func() (*sql.Rows, error)) (page []eventstore.Recorded, more bool, err error) {
	rows, err := query()
	if err != nil {
		return nil, false, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	size := 0
	for size < pageBytes && rows.Next() {
		var r eventstore.Recorded
		var id, hash []byte
		var at int64
		if err := rows.Scan(&r.Position, &r.Stream, &r.Revision, &id, &r.Type, &r.Key, &at, &r.Metadata, &r.Data, &hash); err != nil {
			return nil, false, fmt.Errorf("read events: %w", err)
		}
		copy(r.ID[:], id)
		copy(r.Hash[:], hash)
		r.RecordedAt = time.UnixMicro(at).UTC()
		size += len(r.Metadata) + len(r.Data)
		page = append(page, r)
	}
	if err := rows.Err(); err != nil {
		return nil, false, fmt.Errorf("read events: %w", err)
	}
	return page, size >= pageBytes || len(page) == pageSize, nil
}
