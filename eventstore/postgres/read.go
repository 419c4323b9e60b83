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
	// window is how many positions one query looks at that has no index for what it looks for: it answers in a moment,
	// also when none of them is wanted.
	window = 16_384
)

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if !eventstore.IsText(stream) {
		return nothing // a name that the server would refuse: no stream has it
	}
	next := max(from, 0)
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		page, more, err := s.page(ctx, "SELECT "+columns+" FROM events WHERE stream = $1 AND revision >= $2 ORDER BY revision LIMIT $3", stream, next, pageSize)
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
	next := from
	return eventstore.Pages(ctx, func(ctx context.Context) ([]eventstore.Recorded, bool, error) {
		page, more, err := s.page(ctx, "SELECT "+columns+" FROM events WHERE stream = $1 AND revision <= $2 ORDER BY revision DESC LIMIT $3", stream, next, pageSize)
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
	where, args, indexed := conditions(f)
	query := "SELECT " + columns + " FROM events WHERE position > $1 AND position <= $2" + where + " ORDER BY position LIMIT $3"
	from, end := min(after, math.MaxInt64), uint64(math.MaxInt64)
	return eventstore.Pages(ctx, func(ctx context.Context) (page []eventstore.Recorded, more bool, err error) {
		through := end
		if !indexed {
			if end == math.MaxInt64 {
				if end, err = s.position(ctx); err != nil {
					return nil, false, unavailable("read events", err)
				}
			}
			through = min(from+window, end)
		}
		page, more, err = s.page(ctx, query, append([]any{from, through, pageSize}, args...)...)
		switch {
		case err != nil:
		case more:
			from = page[len(page)-1].Position
		case through < end:
			from, more = through, true
		}
		return page, more, err
	})
}

// conditions are a filter as SQL, its parameters from $4 on. indexed says that an index leads to the events, or that all
// are wanted.
func conditions(f eventstore.Filter) (where string, args []any, indexed bool) {
	var b strings.Builder
	add := func(condition string, arg any) {
		args = append(args, arg)
		fmt.Fprintf(&b, " AND "+condition, 3+len(args))
	}
	indexed = f.StreamPrefix == "" && len(f.Types) == 0 && !f.First
	if f.Slice != nil {
		add("slice = $%d", *f.Slice)
		indexed = true
	}
	if f.Key != "" {
		add("slice = $%d", eventstore.Slice(f.Key))
		add("key = $%d", f.Key)
		indexed = true
	}
	if f.StreamPrefix != "" {
		add("starts_with(stream, $%d)", f.StreamPrefix)
	}
	if len(f.Types) > 0 {
		add("type = ANY($%d)", f.Types)
	}
	if f.First {
		b.WriteString(" AND revision = 0")
	}
	return b.String(), args, indexed
}

// page reads one page. more is false when the end was found; a page that may have more is not empty.
func (s *Store) page(ctx context.Context, query string, args ...any) (page []eventstore.Recorded, more bool, err error) {
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
		if len(page) == pageSize/8 {
			page = slices.Grow(page, pageSize-len(page)) // it will be a whole one
		}
		page = append(page, eventstore.Recorded{})
		r := &page[len(page)-1]
		// The ID as plain bytes: the driver would have a uuid.UUID read its text.
		if err := rows.Scan(&r.Position, &stream, &r.Revision, (*[16]byte)(&r.ID), &eventType, &key, &r.RecordedAt, &metadata, &data, &hash); err != nil {
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
	return page, size >= pageBytes || len(page) == pageSize, nil
}
