// Package wire is how a stored event looks as a Kafka record: topic, key, headers, value. The relay writes it;
// projections, reactors and the live gateway read it.
//
// Headers are CloudEvents 1.0 in binary mode (ce_…) plus those by which a reader proves that it has missed nothing:
// pos, the event's position, and prev, the position of the event before it in the same partition (0 for the first).
// First occurrences are complete and ascending (G3): pos ≤ last is a duplicate, prev > last is a hole.
package wire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// The topics.
const (
	BookingTopic = "salon.booking.v1"
	ChatTopic    = "salon.chat.v1"
)

// Topics lists what the relay writes.
func Topics() []string { return []string{BookingTopic, ChatTopic} }

// TopicOf is the topic that carries a stream's events; "" for streams that are not relayed (admin-…).
func TopicOf(stream string) string {
	category, _, _ := strings.Cut(stream, "-")
	switch category {
	case "groomer", "inbox":
		return BookingTopic
	case "chat", "chatread":
		return ChatTopic
	}
	return ""
}

// Header is one Kafka header; the value is text.
type Header struct{ Key, Value string }

// Record is what travels.
type Record struct {
	Pos, Prev   uint64
	Incarnation string // of the store
	Event       eventstore.Recorded
}

// The header names.
const (
	headerPos         = "pos"
	headerPrev        = "prev"
	headerIncarnation = "incarnation"
	headerStream      = "stream"
	headerRevision    = "revision"
	headerKey         = "key"
	headerMetadata    = "metadata"
	headerHash        = "hash"
)

// The header names of a marker, besides those it shares with an event.
const (
	headerMarker       = "marker" // "1"; events lack it
	headerPosStream    = "pos_stream"
	headerPosRevision  = "pos_revision"
	headerPosID        = "pos_id"
	headerPrevStream   = "prev_stream"
	headerPrevRevision = "prev_revision"
	headerPrevID       = "prev_id"
)

// Place names a stored event. The zero value names none: the beginning of the store.
type Place struct {
	Position uint64
	Stream   string
	Revision eventstore.Revision
	ID       uuid.UUID
}

// PlaceOf names an event.
func PlaceOf(e eventstore.Recorded) Place {
	return Place{Position: e.Position, Stream: e.Stream, Revision: e.Revision, ID: e.ID}
}

// Marker says how far a relay has come, in one partition: it has read the store through At, and whatever of that belongs
// to the partition is in the log before this record. It is no event and stands outside the chain of prev.
//
// A partition without events learns from it that there is nothing to wait for, a relay's start where to go on, and
// both that the store is still the one whose events these were.
type Marker struct {
	Incarnation string // of the store
	At          Place  // the last event that the relay has read, of any partition
	Prev        Place  // the partition's last event; the zero value when it has none
}

// IsMarker tells a marker from an event.
func IsMarker(get func(string) string) bool { return get(headerMarker) == "1" }

// Headers spells a marker's headers. It has neither key nor value.
func (m Marker) Headers() []Header {
	h := []Header{
		{headerMarker, "1"},
		{headerPos, strconv.FormatUint(m.At.Position, 10)},
		{headerPrev, strconv.FormatUint(m.Prev.Position, 10)},
		{headerIncarnation, m.Incarnation},
	}
	if m.At.Position > 0 {
		h = append(h, Header{headerPosStream, m.At.Stream}, Header{headerPosRevision, strconv.FormatInt(int64(m.At.Revision), 10)}, Header{headerPosID, m.At.ID.String()})
	}
	if m.Prev.Position > 0 {
		h = append(h, Header{headerPrevStream, m.Prev.Stream}, Header{headerPrevRevision, strconv.FormatInt(int64(m.Prev.Revision), 10)}, Header{headerPrevID, m.Prev.ID.String()})
	}
	return h
}

// ParseMarker reads a marker back.
func ParseMarker(get func(string) string) (Marker, error) {
	place := func(pos, stream, revision, id string) (p Place, err error) {
		if p.Position, err = strconv.ParseUint(get(pos), 10, 64); err != nil {
			return p, fmt.Errorf("header %s: %w", pos, err)
		}
		if p.Position == 0 {
			return p, nil
		}
		n, err := strconv.ParseInt(get(revision), 10, 64)
		if err != nil || n < 0 {
			return p, fmt.Errorf("header %s: not a revision", revision)
		}
		p.Stream, p.Revision = get(stream), eventstore.Revision(n)
		if p.ID, err = uuid.Parse(get(id)); err != nil {
			return p, fmt.Errorf("header %s: %w", id, err)
		}
		return p, nil
	}
	m := Marker{Incarnation: get(headerIncarnation)}
	var err error
	if m.At, err = place(headerPos, headerPosStream, headerPosRevision, headerPosID); err != nil {
		return m, err
	}
	m.Prev, err = place(headerPrev, headerPrevStream, headerPrevRevision, headerPrevID)
	return m, err
}

// Headers spells a record's headers. The Kafka key is Event.Key, the value Event.Data.
func (r Record) Headers() []Header {
	fields := AppendHeaders([]field(nil), r)
	out := make([]Header, len(fields))
	for i, f := range fields {
		out[i] = Header{f.Key, string(f.Value)}
	}
	return out
}

type field = struct {
	Key   string
	Value []byte
}

// AppendHeaders spells a record's headers in the type of a Kafka client. The values share one piece of memory: a relay
// that catches up makes them by the million.
func AppendHeaders[H ~struct {
	Key   string
	Value []byte
}](out []H, r Record) []H {
	e := r.Event
	names := len(e.Type) + 2*len(e.Stream) + len(e.Key) + len(r.Incarnation)
	piece := make([]byte, 0, 224+names+len(e.Metadata)) // what is not a name or metadata is 184 bytes at most
	out = slices.Grow(out, 14)
	begun := 0
	add := func(key string) { // what was put into the piece since the last one
		out = append(out, H(field{key, piece[begun:len(piece):len(piece)]}))
		begun = len(piece)
	}
	text := func(key, value string) {
		piece = append(piece, value...)
		add(key)
	}
	text("ce_specversion", "1.0")
	text("ce_id", e.ID.String())
	piece = append(piece, "/salon/"...)
	text("ce_source", e.Stream)
	text("ce_type", e.Type)
	piece = e.RecordedAt.UTC().AppendFormat(piece, time.RFC3339Nano)
	add("ce_time")
	text("content-type", "application/json")
	piece = strconv.AppendUint(piece, r.Pos, 10)
	add(headerPos)
	piece = strconv.AppendUint(piece, r.Prev, 10)
	add(headerPrev)
	text(headerIncarnation, r.Incarnation)
	text(headerStream, e.Stream)
	piece = strconv.AppendInt(piece, int64(e.Revision), 10)
	add(headerRevision)
	text(headerKey, e.Key)
	piece = append(piece, e.Metadata...)
	add(headerMetadata)
	piece = append(piece, e.Hash[:]...)
	add(headerHash)
	return out
}

// Parse reads a record back. get returns a header's value, "" when it is absent; value is kept, not copied.
func Parse(get func(string) string, value []byte) (Record, error) {
	var r Record
	var err error
	num := func(name string, bits int) uint64 {
		n, e := strconv.ParseUint(get(name), 10, bits)
		if e != nil && err == nil {
			err = fmt.Errorf("header %s: %w", name, e)
		}
		return n
	}
	r.Pos, r.Prev = num(headerPos, 64), num(headerPrev, 64)
	revision := num(headerRevision, 63)
	if err != nil {
		return r, err
	}
	id, err := uuid.Parse(get("ce_id"))
	if err != nil {
		return r, fmt.Errorf("header ce_id: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, get("ce_time"))
	if err != nil {
		return r, fmt.Errorf("header ce_time: %w", err)
	}
	r.Incarnation = get(headerIncarnation)
	r.Event = eventstore.Recorded{
		Position: r.Pos, Stream: get(headerStream), Revision: eventstore.Revision(revision), ID: id, Type: get("ce_type"), //nolint:gosec // a stored revision fits
		Key: get(headerKey), RecordedAt: at.UTC(), Metadata: []byte(get(headerMetadata)), Data: value,
	}
	copy(r.Event.Hash[:], get(headerHash))
	return r, nil
}
