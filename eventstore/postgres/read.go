package postgres

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/dangdangsalon/salon/eventstore"
)

const columns = "position, stream, revision, id, type, key, recorded_at, metadata, data, hash"

// A page ends after so many events, or so many bytes: that bounds its memory and how long it holds a connection.
const (
	pageSize  = 2048
	pageBytes = 4 << 20
	// scanned is how many positions one query looks at that has no index for what it looks for: it answers in a moment,
	// also when none of them is wanted.
	scanned = 16_384
)

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if !eventstore.IsText(stream) {
		return nothing // a name that the server would refuse: no stream has it
	}
	next, size := max(from, 0), eventstore.PageSizes(pageSize)
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		most := size()
		page, more, err := s.page(ctx, most, "SELECT "+columns+" FROM events WHERE stream = $1 AND revision >= $2 ORDER BY revision LIMIT $3", stream, next, most)
		if more {
			next = page[len(page)-1].Revision + 1
		}
		return page, more, err
	})
}

// ReadStreamBack implements eventstore.Store.
func (s *Store) ReadStreamBack(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if !eventstore.IsText(stream) {
		return nothing
	}
	next, size := from, eventstore.PageSizes(pageSize)
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		most := size()
		page, more, err := s.page(ctx, most, "SELECT "+columns+" FROM events WHERE stream = $1 AND revision <= $2 ORDER BY revision DESC LIMIT $3", stream, next, most)
		if more {
			next = page[len(page)-1].Revision - 1
		}
		return page, more, err
	})
}

func nothing(func(eventstore.Recorded, error) bool) {}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	if !eventstore.IsText(f.StreamPrefix + f.Key + strings.Join(f.Types, "")) {
		return nothing
	}
	return s.readAll(ctx, after, math.MaxInt64, f)
}

// ReadRange implements eventstore.Ranged.
func (s *Store) ReadRange(ctx context.Context, after, through uint64) iter.Seq2[eventstore.Recorded, error] {
	return s.readAll(ctx, after, min(through, math.MaxInt64), eventstore.Filter{})
}

func (s *Store) readAll(ctx context.Context, after, end uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	where, args, window := conditions(f)
	query := "SELECT " + columns + " FROM events WHERE position > $1 AND position <= $2" + where + " LIMIT $3"
	from, most, size := min(after, math.MaxInt64), pageSize, eventstore.PageSizes(pageSize)
	return eventstore.Pages(ctx, func(ctx context.Context) (page []eventstore.Recorded, more bool, err error) {
		through := end
		if window > 0 {
			if end == math.MaxInt64 {
				if end, err = s.position(ctx); err != nil {
					return nil, false, unavailable("read events", err)
				}
			}
			through = min(from+window, end)
		}
		if f.Key != "" {
			most = size()
		}
		page, more, err = s.page(ctx, most, query, append([]any{from, through, most}, args...)...)
		switch {
		case err != nil:
		case more:
			from = page[len(page)-1].Position
			more = from < end
		case through < end:
			from, more = through, true
		}
		return page, more, err
	})
}

// conditions are a filter as SQL with its order, its parameters from $4 on. window is how many positions one query may look
// at, 0 for all: where an index leads to the events in their order, or all are wanted.
func conditions(f eventstore.Filter) (where string, args []any, window uint64) {
	var b strings.Builder
	add := func(condition string, arg any) {
		args = append(args, arg)
		fmt.Fprintf(&b, " AND "+condition, 3+len(args))
	}
	order := " ORDER BY position"
	if f.StreamPrefix != "" || len(f.Types) > 0 || len(f.Without) > 0 || f.First {
		window = scanned
	}
	switch n := f.Slices.Len(); {
	case f.Key != "":
		add("slice = $%d", eventstore.Slice(f.Key))
		add("key = $%d", f.Key)
		window = 0
	case n == 1:
		add("slice = $%d", f.Slices.From)
		window = 0
	case f.Slices.Scanned():
		// The sum hides the column from the planner, who might take the index for so many.
		add("slice + 0 >= $%d", f.Slices.From)
		add("slice + 0 < $%d", f.Slices.To)
		window = scanned
	case n > 0:
		// About a page: by the index, slice by slice, then sorted. Here the sum hides an order that the primary key has, too.
		of := make([]int16, n)
		for i := range of {
			of[i] = int16(f.Slices.From + i) //nolint:gosec // below 1,024
		}
		add("slice = ANY($%d)", of)
		order, window = " ORDER BY position + 0", pageSize*eventstore.Slices/uint64(n) //nolint:gosec // not negative
	}
	if f.Key != "" && f.Slices.Len() > 0 {
		add("slice >= $%d", f.Slices.From)
		add("slice < $%d", f.Slices.To)
	}
	if f.StreamPrefix != "" {
		add("starts_with(stream, $%d)", f.StreamPrefix)
	}
	if len(f.Types) > 0 {
		add("type = ANY($%d)", f.Types)
	}
	if len(f.Without) > 0 {
		add("type <> ALL($%d)", f.Without)
	}
	if f.First {
		b.WriteString(" AND revision = 0")
	}
	return b.String() + order, args, window
}

// page reads one page, of most events. more is false when the end was found; a page that may have more is not empty.
func (s *Store) page(ctx context.Context, most int, query string, args ...any) (page []eventstore.Recorded, more bool, err error) {
	rows, err := s.read.Query(ctx, query, args...)
	if err != nil {
		return nil, false, unavailable("read events", err)
	}
	defer rows.Close()
	size := 0
	// The driver's own bytes, until the next row. Of a page that is garbage in a moment, the collector's part was half the
	// work: so names that repeat are kept once, and an event's bytes are one piece.
	var stream, eventType, key, metadata, data, hash pgtype.DriverBytes
	last := &eventstore.Recorded{}
	for size < pageBytes && rows.Next() {
		if len(page) == most/8 {
			page = slices.Grow(page, most-len(page)) // it will be a whole one
		}
		page = append(page, eventstore.Recorded{})
		r := &page[len(page)-1]
		// The ID as plain bytes: the driver would have a uuid.UUID read its text.
		if err := rows.Scan(&r.Position, &stream, (*int64)(&r.Revision), (*[16]byte)(&r.ID), &eventType, &key, &r.RecordedAt, &metadata, &data, &hash); err != nil {
			return nil, false, fmt.Errorf("read events: %w", err)
		}
		r.Stream, r.Type, r.Key = eventstore.Repeated(last.Stream, stream), eventstore.Repeated(last.Type, eventType), eventstore.Repeated(last.Key, key)
		r.Metadata, r.Data = eventstore.Piece(metadata, data)
		r.RecordedAt = r.RecordedAt.UTC()
		copy(r.Hash[:], hash)
		size += len(r.Metadata) + len(r.Data)
		last = r
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, false, unavailable("read events", err)
	}
	return page, size >= pageBytes || len(page) == most, nil
}
