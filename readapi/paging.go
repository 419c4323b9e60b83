package readapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/calendar"
)

// Paging is what every list accepts; embed it in an operation's input.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"How many items at most"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next_cursor of the page before"`
}

// Page is a list's answer.
type Page[T any] struct {
	Items      []T     `json:"items" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"null on the last page"`
}

// page makes the answer of rows that were queried with a limit of one more than asked for: that one says whether there
// is a next page. keyset names where the page after a row begins.
func page[R, T any](rows []R, limit int, item func(R) (T, error), keyset func(R) any) (Page[T], error) {
	p := Page[T]{Items: []T{}}
	if len(rows) > limit {
		rows = rows[:limit]
		c := encodeCursor(keyset(rows[limit-1]))
		p.NextCursor = &c
	}
	for _, r := range rows {
		i, err := item(r)
		if err != nil {
			return p, err
		}
		p.Items = append(p.Items, i)
	}
	return p, nil
}

func encodeCursor(keyset any) string {
	b, err := json.Marshal(keyset)
	if err != nil {
		panic("readapi: cursor: " + err.Error()) // keysets are strings and numbers
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor reads a cursor into keyset; ok is false for the first page.
func decodeCursor(cursor string, keyset any) (ok bool, err error) {
	if cursor == "" {
		return false, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		err = d.Decode(keyset)
	}
	if err != nil {
		return false, badCursor()
	}
	return true, nil
}

func badCursor() error { return problem.Invalid("query.cursor", "is not a cursor of this list") }

// defaultZone is where days are counted when no salon says otherwise.
const defaultZone = "Asia/Seoul"

// Between is a span of time that a list can be cut to; embed it in an operation's input.
type Between struct {
	From string `query:"from" maxLength:"40" doc:"RFC 3339 time, or a date: from its first moment" example:"2026-11-24"`
	To   string `query:"to" maxLength:"40" doc:"RFC 3339 time (not included), or a date: through its last moment"`
}

func isDate(s string) bool { _, err := time.Parse(time.DateOnly, s); return err == nil }

// in reads [from, to) with days counted in zone; an end that was not given is the zero time.
func (b Between) in(zone *time.Location) (from, to time.Time, err error) {
	if from, err = instant("query.from", b.From, zone, 0); err != nil {
		return from, to, err
	}
	if to, err = instant("query.to", b.To, zone, 1); err != nil {
		return from, to, err
	}
	if !from.IsZero() && !to.IsZero() && to.Before(from) {
		return from, to, problem.Invalid("query.to", "is before from")
	}
	return from, to, nil
}

// The times that the read models can hold.
var (
	earliest = time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)

// instant reads a time, or the first moment of a date and so many days later.
func instant(location, s string, zone *time.Location, days int) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if isDate(s) {
		t, err = calendar.DayStart(s, days, zone)
	}
	if err != nil || t.Before(earliest) || t.After(latest) {
		return t, problem.Invalid(location, "is neither a date nor an RFC 3339 time between 1970 and 9998")
	}
	return t.UTC(), nil
}

// conditions are the AND of a WHERE clause.
type conditions struct {
	parts []string
	args  []any
}

func (c *conditions) add(part string, args ...any) {
	c.parts = append(c.parts, part)
	c.args = append(c.args, args...)
}

func (c *conditions) where() string {
	if len(c.parts) == 0 {
		return ""
	}
	return "WHERE " + strings.Join(c.parts, " AND ")
}
