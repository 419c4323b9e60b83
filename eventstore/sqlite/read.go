package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

const columns = "position, stream, revision, id, type, key, recorded_at, metadata, data, hash"

// A page ends after so many events, or so many bytes: that bounds its memory, and how long one read holds its connection
// and its view of the file. A long one would keep the write-ahead log from being folded back.
const (
	pageSize  = 512
	pageBytes = 4 << 20
	// window is how many positions one query looks at that has no index for what it looks for.
	window = 16_384
)

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	next := max(from, 0)
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		page, more, err := s.page(ctx, "SELECT "+columns+" FROM events WHERE stream = ? AND revision >= ? ORDER BY revision LIMIT ?", stream, next, pageSize)
		if more {
			next = page[len(page)-1].Revision + 1
		}
		return page, more, err
	})
}

// ReadStreamBack implements eventstore.Store.
func (s *Store) ReadStreamBack(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	next := from
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		page, more, err := s.page(ctx, "SELECT "+columns+" FROM events WHERE stream = ? AND revision <= ? ORDER BY revision DESC LIMIT ?", stream, next, pageSize)
		if more {
			next = page[len(page)-1].Revision - 1
		}
		return page, more, err
	})
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	where, args, indexed := conditions(f)
	query := "SELECT " + columns + " FROM events WHERE position > ? AND position <= ?" + where + " ORDER BY position LIMIT ?"
	from, end := int64(min(after, math.MaxInt64)), int64(-1) //nolint:gosec // cut
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		through := int64(math.MaxInt64)
		if !indexed {
			if end < 0 {
				head, err := s.Head(ctx)
				if err != nil {
					return nil, false, err
				}
				end = int64(head.Position) //nolint:gosec // it was an INTEGER
			}
			through = min(from+window, end)
		}
		all := append([]any{from, through}, args...)
		page, more, err := s.page(ctx, query, append(all, pageSize)...)
		switch {
		case err != nil:
		case more:
			from = int64(page[len(page)-1].Position) //nolint:gosec // it was an INTEGER
		case through < end:
			from, more = through, true
		}
		return page, more, err
	})
}

// conditions are a filter as SQL. indexed says that an index leads to the events, or that all are wanted.
func conditions(f eventstore.Filter) (where string, args []any, indexed bool) {
	var b strings.Builder
	add := func(condition string, values ...any) {
		b.WriteString(" AND " + condition)
		args = append(args, values...)
	}
	indexed = f.StreamPrefix == "" && len(f.Types) == 0 && !f.First
	if f.Slice != nil {
		add("slice = ?", *f.Slice)
		indexed = true
	}
	if f.Key != "" {
		add("slice = ? AND key = ?", eventstore.Slice(f.Key), f.Key)
		indexed = true
	}
	if f.StreamPrefix != "" {
		add("substr(CAST(stream AS BLOB), 1, ?) = ?", len(f.StreamPrefix), []byte(f.StreamPrefix))
	}
	if len(f.Types) > 0 {
		types := make([]any, len(f.Types))
		for i, t := range f.Types {
			types[i] = t
		}
		add("type IN (?"+strings.Repeat(", ?", len(types)-1)+")", types...)
	}
	if f.First {
		add("revision = 0")
	}
	return b.String(), args, indexed
}

// page reads one page. more is false when the end was found; a page that may have more is not empty.
func (s *Store) page(ctx context.Context, query string, args ...any) (page []eventstore.Recorded, more bool, err error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err == nil {
		defer rows.Close()
		page, more, err = scan(rows)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		err = fmt.Errorf("%w: read events: %w", eventstore.ErrUnavailable, err)
	}
	return page, more, err
}

func scan(rows *sql.Rows) (page []eventstore.Recorded, more bool, err error) {
	size := 0
	// The driver's own bytes, until the next row: names that repeat are kept once, and an event's bytes are one piece.
	var stream, id, eventType, key, metadata, data, hash sql.RawBytes
	var at int64
	last := &eventstore.Recorded{}
	for size < pageBytes && rows.Next() {
		page = append(page, eventstore.Recorded{})
		r := &page[len(page)-1]
		if err := rows.Scan(&r.Position, &stream, &r.Revision, &id, &eventType, &key, &at, &metadata, &data, &hash); err != nil {
			return nil, false, err
		}
		copy(r.ID[:], id)
		copy(r.Hash[:], hash)
		r.Stream, r.Type, r.Key = eventstore.Repeated(last.Stream, stream), eventstore.Repeated(last.Type, eventType), eventstore.Repeated(last.Key, key)
		r.Metadata, r.Data = eventstore.Piece(metadata, data)
		r.RecordedAt = time.UnixMicro(at).UTC()
		size += len(r.Metadata) + len(r.Data)
		last = r
	}
	if err := rows.Err(); err != nil {
		return nil, false, err
	}
	return page, size >= pageBytes || len(page) == pageSize, nil
}
