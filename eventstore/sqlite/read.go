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
	// scanned is how many positions one query looks at that has no index for what it looks for.
	scanned = 16_384
)

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	next, size := max(from, 0), eventstore.PageSizes(pageSize)
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		most := size()
		page, more, err := s.page(ctx, most, "SELECT "+columns+" FROM events WHERE stream = ? AND revision >= ? ORDER BY revision LIMIT ?", stream, next, most)
		if more {
			next = page[len(page)-1].Revision + 1
		}
		return page, more, err
	})
}

// ReadStreamBack implements eventstore.Store.
func (s *Store) ReadStreamBack(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	next, size := from, eventstore.PageSizes(pageSize)
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		most := size()
		page, more, err := s.page(ctx, most, "SELECT "+columns+" FROM events WHERE stream = ? AND revision <= ? ORDER BY revision DESC LIMIT ?", stream, next, most)
		if more {
			next = page[len(page)-1].Revision - 1
		}
		return page, more, err
	})
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return s.readAll(ctx, after, math.MaxInt64, f)
}

// ReadRange implements eventstore.Ranged.
func (s *Store) ReadRange(ctx context.Context, after, through uint64) iter.Seq2[eventstore.Recorded, error] {
	return s.readAll(ctx, after, through, eventstore.Filter{})
}

func (s *Store) readAll(ctx context.Context, after, last uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	where, args, window := conditions(f)
	query := "SELECT " + columns + " FROM events WHERE position > ? AND position <= ?" + where + " LIMIT ?"
	from, end := int64(min(after, math.MaxInt64)), int64(min(last, math.MaxInt64)) //nolint:gosec // cut
	most, size := pageSize, eventstore.PageSizes(pageSize)
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		if f.Key != "" {
			most = size()
		}
		through := end
		if window > 0 {
			if end == math.MaxInt64 {
				head, err := s.Head(ctx)
				if err != nil {
					return nil, false, err
				}
				end = int64(head.Position) //nolint:gosec // it was an INTEGER
			}
			through = min(from+window, end)
		}
		all := append([]any{from, through}, args...)
		page, more, err := s.page(ctx, most, query, append(all, most)...)
		switch {
		case err != nil:
		case more:
			from = int64(page[len(page)-1].Position) //nolint:gosec // it was an INTEGER
			more = from < end
		case through < end:
			from, more = through, true
		}
		return page, more, err
	})
}

// conditions are a filter as SQL with its order. window is how many positions one query may look at, 0 for all: where an
// index leads to the events in their order, or all are wanted.
func conditions(f eventstore.Filter) (where string, args []any, window int64) {
	var b strings.Builder
	add := func(condition string, values ...any) {
		b.WriteString(" AND " + condition)
		args = append(args, values...)
	}
	list := func(n int) string { return "(?" + strings.Repeat(", ?", n-1) + ")" }
	order := " ORDER BY position"
	if f.StreamPrefix != "" || len(f.Types) > 0 || len(f.Without) > 0 || f.First {
		window = scanned
	}
	switch n := f.Slices.Len(); {
	case f.Key != "":
		add("slice = ? AND key = ?", eventstore.Slice(f.Key), f.Key)
		window = 0
	case n == 1:
		add("slice = ?", f.Slices.From)
		window = 0
	case f.Slices.Scanned():
		add("+slice >= ? AND +slice < ?", f.Slices.From, f.Slices.To) // the sign hides the column from the index
		window = scanned
	case n > 0:
		// About a page: by the index, slice by slice, then sorted.
		of := make([]any, n)
		for i := range of {
			of[i] = f.Slices.From + i
		}
		add("slice IN "+list(n), of...)
		order, window = " ORDER BY +position", pageSize*eventstore.Slices/int64(n)
	}
	if f.Key != "" && f.Slices.Len() > 0 {
		add("slice >= ? AND slice < ?", f.Slices.From, f.Slices.To)
	}
	if f.StreamPrefix != "" {
		add("substr(CAST(stream AS BLOB), 1, ?) = ?", len(f.StreamPrefix), []byte(f.StreamPrefix))
	}
	for _, types := range []struct {
		in    string
		names []string
	}{{"type IN ", f.Types}, {"type NOT IN ", f.Without}} {
		if len(types.names) > 0 {
			names := make([]any, len(types.names))
			for i, t := range types.names {
				names[i] = t
			}
			add(types.in+list(len(names)), names...)
		}
	}
	if f.First {
		add("revision = 0")
	}
	return b.String() + order, args, window
}

// page reads one page, of most events. more is false when the end was found; a page that may have more is not empty.
func (s *Store) page(ctx context.Context, most int, query string, args ...any) (page []eventstore.Recorded, more bool, err error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err == nil {
		defer rows.Close()
		page, more, err = scan(rows, most)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		err = fmt.Errorf("%w: read events: %w", eventstore.ErrUnavailable, err)
	}
	return page, more, err
}

func scan(rows *sql.Rows, most int) (page []eventstore.Recorded, more bool, err error) {
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
	return page, size >= pageBytes || len(page) == most, nil
}
