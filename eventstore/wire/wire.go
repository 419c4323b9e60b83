// Package wire is how a stored event looks as a Kafka record: topic, key, headers, value. The relay writes it;
// projections, reactors and the live gateway read it.
//
// Headers are CloudEvents 1.0 in binary mode (ce_…) plus those by which a reader proves that it has missed nothing:
// pos, the event's position, and prev, the position of the event before it in the same partition (0 for the first).
// First occurrences are complete and ascending (G3): pos ≤ last is a duplicate, prev > last is a hole.
package wire

import (
	"fmt"
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

// Headers spells a record's headers. The Kafka key is Event.Key, the value Event.Data.
func (r Record) Headers() []Header {
	e := r.Event
	return []Header{
		{"ce_specversion", "1.0"},
		{"ce_id", e.ID.String()},
		{"ce_source", "/salon/" + e.Stream},
		{"ce_type", e.Type},
		{"ce_time", e.RecordedAt.UTC().Format(time.RFC3339Nano)},
		{"content-type", "application/json"},
		{headerPos, strconv.FormatUint(r.Pos, 10)},
		{headerPrev, strconv.FormatUint(r.Prev, 10)},
		{headerIncarnation, r.Incarnation},
		{headerStream, e.Stream},
		{headerRevision, strconv.FormatInt(int64(e.Revision), 10)},
		{headerKey, e.Key},
		{headerMetadata, string(e.Metadata)},
		{headerHash, string(e.Hash[:])},
	}
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
