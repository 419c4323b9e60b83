package engine

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// ErrFenced says that the partition belongs to somebody else by now: nothing was written, and this claim is dead.
var ErrFenced = errors.New("fenced: another process has taken the partition")

// HoleError is a hole in the log: events that the store has and this projection has not seen, and will not see here.
type HoleError struct {
	Topic      string
	Part       int32
	Offset     int64
	Last, Prev uint64 // the last position applied, and the one that the record says came before it
}

func (e *HoleError) Error() string {
	return fmt.Sprintf("hole in %s/%d at offset %d: the record follows position %d, but the last one applied is %d",
		e.Topic, e.Part, e.Offset, e.Prev, e.Last)
}

// LogStartError is a log that begins after the offset we need: retention or a re-created topic took records unread.
type LogStartError struct {
	Topic         string
	Part          int32
	Offset, Start int64
}

func (e *LogStartError) Error() string {
	return fmt.Sprintf("hole in %s/%d: the next record needed is %d, but the log begins at %d", e.Topic, e.Part, e.Offset, e.Start)
}

// batch is a run of records of one partition, in order and without gaps, and what becomes of it.
type batch struct {
	topic   string
	part    int32
	owner   owner
	records []*kgo.Record

	events []Event
	refs   []namedRef // rows to load first
	after  Progress   // NextOffset, LastPos, LastRecordedAt, Incarnation once it is applied
	done   int        // records that apply got through
	err    error
}

// decoder turns records into events, lazily: a type that the projection does not use is skipped by its name.
type decoder struct {
	codec  *eventstore.Codec
	wants  map[string]bool
	shared *Shared
}

func newDecoder(codec *eventstore.Codec, p Projection, shared *Shared) *decoder {
	d := &decoder{codec, map[string]bool{}, shared}
	for _, e := range p.Types {
		d.wants[e.EventType()] = true
	}
	return d
}

// plan decides what of the batch is new and decodes it, given the progress so far.
func (d *decoder) plan(b *batch, from Progress) error {
	b.events, b.refs, b.after = b.events[:0], b.refs[:0], from
	var newest *kgo.Record
	for _, r := range b.records {
		pos, err := number(r, "pos")
		if err != nil {
			return &foldError{err}
		}
		prev, err := number(r, "prev")
		if err != nil {
			return &foldError{err}
		}
		b.after.NextOffset = r.Offset + 1
		if pos <= b.after.LastPos {
			continue // a duplicate: a relay that was replaced, or one that went back
		}
		if prev > b.after.LastPos {
			if err := holeSeen(b, r, b.after.LastPos, prev); err != nil {
				return err
			}
		}
		b.after.LastPos, newest = pos, r
		eventType := header(r, "ce_type")
		if !d.wants[string(eventType)] {
			if !d.codec.Knows(string(eventType)) {
				return &eventstore.UnknownTypeError{Type: string(eventType)}
			}
			continue
		}
		e, held := d.shared.get(pos, r)
		if !held {
			if e, err = d.decode(r); err != nil {
				return err
			}
			d.shared.put(r, e)
		}
		b.events = append(b.events, e)
	}
	if newest != nil {
		b.after.Incarnation = string(header(newest, "incarnation"))
		at, err := time.Parse(time.RFC3339Nano, string(header(newest, "ce_time")))
		if err != nil {
			return &foldError{fmt.Errorf("header ce_time at offset %d: %w", newest.Offset, err)}
		}
		b.after.LastRecordedAt = at.UTC()
	}
	return nil
}

// holeSeen is what happens when prev > last. Nothing here can fill a hole, so the partition stops.
func holeSeen(b *batch, r *kgo.Record, last, prev uint64) error {
	return &HoleError{Topic: b.topic, Part: b.part, Offset: r.Offset, Last: last, Prev: prev}
}

func (d *decoder) decode(r *kgo.Record) (Event, error) {
	w, err := wire.Parse(func(name string) string { return string(header(r, name)) }, r.Value)
	if err != nil {
		return Event{}, &foldError{fmt.Errorf("record at offset %d: %w", r.Offset, err)}
	}
	e, err := d.event(w.Event)
	var unknown *eventstore.UnknownTypeError
	if err != nil && !errors.As(err, &unknown) {
		return Event{}, &foldError{err}
	}
	return e, err
}

func (d *decoder) event(r eventstore.Recorded) (Event, error) {
	e := Event{Position: r.Position, Stream: r.Stream, Key: r.Key}
	var err error
	if e.Event, err = d.codec.Decode(r.Type, r.Data); err != nil {
		return e, fmt.Errorf("%s@%d: %w", r.Stream, r.Revision, err)
	}
	if e.Meta, err = eventstore.DecodeMetadata(r.Metadata); err != nil {
		return e, fmt.Errorf("%s@%d: %w", r.Stream, r.Revision, err)
	}
	e.Revision, e.At, e.By = uint64(r.Revision), r.RecordedAt, e.Meta.Actor //nolint:gosec // never negative once stored
	return e, nil
}

func header(r *kgo.Record, name string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == name {
			return r.Headers[i].Value
		}
	}
	return nil
}

func number(r *kgo.Record, name string) (uint64, error) {
	n, err := strconv.ParseUint(string(header(r, name)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s at offset %d: %w", name, r.Offset, err)
	}
	return n, nil
}

// name collects the rows that the first n events need and the unit does not hold.
func (b *batch) name(p Projection, u *Unit, events []Event) {
	b.refs = b.refs[:0]
	if p.Keys == nil {
		return
	}
	for _, e := range events {
		b.refs = u.missing(p.Keys(e), e.Key, b.refs)
	}
}
