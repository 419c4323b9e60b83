package audit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/calendar"
)

// Query is which events are looked for; of several conditions all must hold. The streams of those who looked and did
// (admin-…) are left out unless they are asked for, by their stream, type or command.
type Query struct {
	Stream      string
	Key         string
	Type        string
	Actor       string // "customer:ana"
	Correlation string
	Command     string // ID
	From, To    string // a time, a day of Asia/Seoul, position:N; To counts
	Limit       int
	Cursor      string
}

// about is the query as it is recorded.
func (q Query) about() string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"stream", q.Stream}, {"key", q.Key}, {"type", q.Type}, {"actor", q.Actor}, {"correlation_id", q.Correlation}, {"command_id", q.Command},
		{"from", q.From}, {"to", q.To}, {"cursor", q.Cursor},
	} {
		if p.value != "" {
			parts = append(parts, p.name+"="+p.value)
		}
	}
	return strings.Join(parts, "&")
}

// EventPage is events that were found, oldest first.
type EventPage struct {
	Items      []StoredEvent `json:"items" nullable:"false"`
	NextCursor *string       `json:"next_cursor" doc:"null on the last page. A page looks at a bounded number of events: it may have fewer items than the limit, or none, and go on"`
	// LookedThrough and IndexedThrough are for those who must know what an answer is worth.
	LookedThrough  uint64  `json:"looked_through" doc:"Position through which every event has been looked at"`
	IndexedThrough *uint64 `json:"indexed_through" doc:"Position through which this store's index over actors, types, commands and correlations is; what follows was looked for in the events themselves. null: this store has none"`
}

// StoredEvent is an event as it is stored, of a type that this release knows or not.
type StoredEvent struct {
	Position   uint64    `json:"position"`
	Stream     string    `json:"stream"`
	Revision   int64     `json:"revision"`
	ID         uuid.UUID `json:"id" format:"uuid"`
	Type       string    `json:"type"`
	Key        string    `json:"key" doc:"Ordering key"`
	RecordedAt time.Time `json:"recorded_at"`
	Known      bool      `json:"known" doc:"Whether this release knows the type"`
	Data       any       `json:"data" doc:"As stored, with personal texts opened; base64 where it is not JSON"`
	Metadata   any       `json:"metadata" doc:"As stored; base64 where it is not JSON"`
	Hash       string    `json:"hash" doc:"SHA-256 of the stored content, hex"`
	Unopened
}

// MostEvents bounds a page, and mostLooked how many events one looks at.
const (
	MostEvents = 100
	mostLooked = 4096
)

// query is a Query that was read.
type query struct {
	Query

	after, end uint64 // positions: behind the one, up to the other
	revision   int64  // of the stream, from which on
	admins     bool   // their streams, too
}

// cursor is where a page goes on. Sum is of it and the query: a cursor of another list is refused.
type cursor struct {
	Position uint64 `json:"p"`
	Revision int64  `json:"r"`
	End      uint64 `json:"e"`
	Sum      string `json:"s"`
}

func (c cursor) sum(q Query) string {
	q.Cursor, q.Limit = "", 0
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %q", c.Position, c.Revision, c.End, []string{
		q.Stream, q.Key, q.Type, q.Actor, q.Correlation, q.Command, q.From, q.To,
	}))
	return hex.EncodeToString(sum[:8])
}

func (c cursor) text(q Query) (string, error) {
	c.Sum = c.sum(q)
	b, err := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(b), err
}

func invalid(format string, args ...any) error {
	return domain.Refuse("request.invalid", format, args...)
}

// read checks a query and finds its ends. The end of a list is where the store ended when its first page was read.
func (p *Past) read(ctx context.Context, q Query) (query, error) {
	out := query{Query: q}
	if q.Limit < 1 || q.Limit > MostEvents {
		return out, invalid("limit: want 1 to %d", MostEvents)
	}
	if role, sub, ok := strings.Cut(q.Actor, ":"); q.Actor != "" && (!ok || role == "" || sub == "") {
		return out, invalid("actor: want role:sub, as customer:ana")
	}
	if q.Command != "" {
		var ok bool
		if out.Command, ok = commandText(q.Command); !ok {
			return out, invalid("command_id: want a UUID")
		}
	}
	out.admins = strings.HasPrefix(q.Stream, "admin-") || q.Type == (admin.Called{}).EventType() || q.Command != ""
	if q.Cursor != "" {
		var c cursor
		b, err := base64.RawURLEncoding.Strict().DecodeString(q.Cursor)
		if err != nil || json.Unmarshal(b, &c) != nil || c.Sum != c.sum(q) {
			return out, invalid("cursor: is not a cursor of this list")
		}
		out.after, out.revision, out.end = c.Position, c.Revision, c.End
		return out, nil
	}
	var err error
	if q.From != "" {
		if out.after, err = p.bound(ctx, "from", q.From, 0); err != nil {
			return out, err
		}
	}
	if q.To == "" {
		head, err := p.Store.Head(ctx)
		out.end = head.Position
		return out, err
	}
	out.end, err = p.bound(ctx, "to", q.To, 1)
	if err == nil && q.From != "" && out.end < out.after {
		err = invalid("to: is before from")
	}
	return out, err
}

// seoul is where days are counted.
const seoul = "Asia/Seoul"

// bound is the last position before what begins with from (days 0), or through what ends with to (days 1).
func (p *Past) bound(ctx context.Context, location, text string, days int) (uint64, error) {
	if _, err := time.Parse(time.DateOnly, text); err == nil {
		zone, err := time.LoadLocation(seoul)
		if err != nil {
			return 0, err
		}
		at, err := calendar.DayStart(text, days, zone)
		if err != nil {
			return 0, invalid("%s: there is no such day", location)
		}
		place, err := p.Store.LastPlace(ctx, math.MaxUint64, at.Add(-time.Microsecond))
		return place.Position, err
	}
	m, err := ParseMoment(location, text)
	if err != nil {
		return 0, err
	}
	if days == 0 && m.kind == byTime {
		m.instant = m.instant.Add(-time.Microsecond) // what was recorded at that time is in it
	}
	if days == 1 && m.kind == byTime { // one to come is the end
		place, err := p.Store.LastPlace(ctx, math.MaxUint64, m.instant)
		return place.Position, err
	}
	place, err := p.place(ctx, m, "")
	if err == nil && days == 0 && m.kind != byTime && place.Position > 0 { // what stands there is in it, too
		place, err = p.Store.LastPlace(ctx, place.Position-1, endOfTime)
	}
	return place.Position, err
}

// matches holds an event to every condition, however it was found.
func (q *query) matches(r eventstore.Recorded) bool {
	if q.Stream != "" && r.Stream != q.Stream || q.Key != "" && r.Key != q.Key || q.Type != "" && r.Type != q.Type ||
		!q.admins && strings.HasPrefix(r.Stream, "admin-") {
		return false
	}
	if q.Actor == "" && q.Command == "" && q.Correlation == "" {
		return true
	}
	m, err := eventstore.DecodeMetadata(r.Metadata)
	return err == nil && (q.Actor == "" || m.Actor.Subject() == q.Actor) && (q.Command == "" || m.CommandID.String() == q.Command) &&
		(q.Correlation == "" || m.CorrelationID == q.Correlation)
}

// values are what the index is asked for: of the conditions, what the fewest events have. None: the store itself knows its
// streams and keys, and everything is in its order.
func (q *query) values() []int64 {
	switch {
	case q.Command != "":
		return []int64{eventstore.LookupValue(byCommand, q.Command)}
	case q.Correlation != "":
		values := []int64{eventstore.LookupValue(byCorrelation, q.Correlation)}
		if id, isID := commandText(q.Correlation); isID { // a correlation that is the command's ID is noted as that alone
			values = append(values, eventstore.LookupValue(byCommand, id))
		}
		return values
	case q.Stream != "" || q.Key != "":
	case q.Actor != "":
		return []int64{eventstore.LookupValue(byActor, q.Actor)}
	case q.Type != "":
		return []int64{eventstore.LookupValue(byType, q.Type)}
	}
	return nil
}

// Events lists events.
func (p *Past) Events(ctx context.Context, asked Query) (EventPage, error) {
	q, err := p.read(ctx, asked)
	if err != nil {
		return EventPage{}, err
	}
	out := EventPage{Items: []StoredEvent{}, LookedThrough: q.end}
	events := p.inOrder(ctx, &q)
	if lookups, has := p.Store.(eventstore.Lookups); has {
		through, err := lookups.LookupsThrough(ctx)
		if err != nil {
			return EventPage{}, err
		}
		out.IndexedThrough = &through
		if values := q.values(); len(values) > 0 {
			events = p.lookedUp(ctx, lookups, values, q.after, min(through, q.end))
		}
	}
	looked, at, next, there := 0, cursor{q.after, q.revision, q.end, ""}, false, false
	for r, err := range events {
		if err != nil {
			return EventPage{}, fmt.Errorf("read events: %w", err)
		}
		if there = true; r.Position > q.end {
			break
		}
		if len(out.Items) == q.Limit || looked == mostLooked {
			next = true
			break
		}
		looked++
		at.Position, at.Revision = max(r.Position, q.after), int64(r.Revision)+1
		if r.Position <= q.after || !q.matches(r) {
			continue
		}
		e, err := p.stored(ctx, r)
		if err != nil {
			return EventPage{}, err
		}
		out.Items = append(out.Items, e)
	}
	if q.Stream != "" && q.Cursor == "" && !there && q.Command == "" && q.Correlation == "" {
		return EventPage{}, errStream(q.Stream)
	}
	if next {
		text, err := at.text(asked)
		out.NextCursor, out.LookedThrough = &text, at.Position
		return out, err
	}
	return out, nil
}

// inOrder are the events as the store itself finds them. Those of a stream begin where the page before ended, or with its
// first: the position tells them apart.
func (p *Past) inOrder(ctx context.Context, q *query) iter.Seq2[eventstore.Recorded, error] {
	if q.Stream != "" {
		return p.Store.ReadStream(ctx, q.Stream, eventstore.Revision(q.revision))
	}
	return p.Store.ReadAll(ctx, q.after, eventstore.Filter{Key: q.Key})
}

// lookupsAtOnce is how many events are read together.
const lookupsAtOnce = 128

// lookedUp are the events behind a position at which one of the values was noted, and after the index's end every event.
func (p *Past) lookedUp(ctx context.Context, lookups eventstore.Lookups, values []int64, after, through uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for at := after; at < through; {
			positions, last, err := merged(ctx, lookups, values, at, through)
			var events []eventstore.Recorded
			if err == nil && len(positions) > 0 {
				events, err = lookups.EventsAt(ctx, positions)
			}
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			for _, r := range events {
				if !yield(r, nil) {
					return
				}
			}
			at = last
		}
		for r, err := range p.Store.ReadAll(ctx, max(after, through), eventstore.Filter{}) {
			if !yield(r, err) {
				return
			}
		}
	}
}

// merged are the next positions of several values; last is through which all of theirs are among them.
func merged(ctx context.Context, lookups eventstore.Lookups, values []int64, after, through uint64) (positions []uint64, last uint64, err error) {
	last = through
	for _, value := range values {
		some, err := lookups.Lookup(ctx, value, after, lookupsAtOnce)
		if err != nil {
			return nil, 0, err
		}
		if len(some) == lookupsAtOnce {
			last = min(last, some[len(some)-1])
		}
		positions = append(positions, some...)
	}
	kept := positions[:0]
	for _, at := range positions {
		if at <= last {
			kept = append(kept, at)
		}
	}
	return kept, last, nil
}

// stored is an event as it is shown.
func (p *Past) stored(ctx context.Context, r eventstore.Recorded) (StoredEvent, error) {
	newest := p.Codec.Newest(r.Type)
	out := StoredEvent{
		Position: r.Position, Stream: r.Stream, Revision: int64(r.Revision), ID: r.ID, Type: r.Type, Key: r.Key, RecordedAt: r.RecordedAt,
		Known: p.Codec.Knows(newest), Metadata: raw(r.Metadata), Hash: hex.EncodeToString(r.Hash[:]),
	}
	o := opening{texts: p.Texts}
	var err error
	out.Data, err = o.open(ctx, "/data", raw(r.Data))
	out.Unopened = o.unopened
	return out, err
}

// raw is stored bytes as JSON, or what they are.
func raw(b []byte) any {
	v, err := valueOf(json.RawMessage(b))
	if err != nil {
		return base64.StdEncoding.EncodeToString(b)
	}
	return v
}
