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

// batch is a run of records of one partition, in order and without gaps, and what becomes of it.
type batch struct {
	topic      string
	part       int32
	partitions int // of the topic
	owner      owner
	records    []*kgo.Record
	way        Way // of its first event

	events []Event
	refs   []namedRef // rows to load first
	after  Progress   // NextOffset, LastPos, LastRecordedAt, Incarnation once it is applied
	done   int        // records that apply got through
	filled int        // events that came from the store
	err    error

	most     int         // events that a portion of a fill may have, while one that fails is looked for; 0: the usual
	suspects int         // when err is poison: of how many records or events one is the cause
	alone    *suspect    // when it is one
	apart    bool        // it is to have its transaction for itself: one before it failed
	change   *parkChange // of a parked key, written with the rows
	skip     string      // an ordering key that is about to be parked
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

// plan decides what of the batch is new and decodes it, given the progress so far. A record before which the log has a
// hole ends the batch; when it is the first one, there is only the [HoleError].
//
// So does one that cannot be decoded: what came before it is applied, and then it stands alone.
func (d *decoder) plan(b *batch, from Progress) error {
	b.events, b.refs, b.after = b.events[:0], b.refs[:0], from
	var newest *kgo.Record
	for i, r := range b.records {
		pos, err := number(r, "pos")
		if err != nil {
			return &recordError{err}
		}
		prev, err := number(r, "prev")
		if err != nil {
			return &recordError{err}
		}
		if prev > b.after.LastPos && pos > b.after.LastPos {
			if i == 0 {
				return &HoleError{Topic: b.topic, Part: b.part, Offset: r.Offset, Last: b.after.LastPos, Prev: prev}
			}
			b.records = b.records[:i]
			break
		}
		b.after.NextOffset = r.Offset + 1
		if header(r, "marker") != nil {
			// Everything of the partition through pos has come. At the same position it may tell of the store's next life.
			if pos >= b.after.LastPos {
				b.after.LastPos, b.after.Incarnation = pos, string(header(r, "incarnation"))
			}
			continue
		}
		if pos <= b.after.LastPos {
			continue // a duplicate: a relay that was replaced, or one that went back
		}
		before := b.after
		b.after.LastPos, b.after.Incarnation = pos, string(header(r, "incarnation"))
		wanted, err := d.wanted(string(header(r, "ce_type")))
		if err != nil {
			return err
		}
		if !wanted || b.waits(string(header(r, "key"))) {
			newest = r
			continue
		}
		e, held := d.shared.get(pos, r)
		if !held {
			if e, err = d.decode(r); err != nil {
				if i == 0 {
					return err
				}
				b.records, b.after = b.records[:i], before
				b.after.NextOffset = r.Offset
				break
			}
			d.shared.put(r, e)
		}
		b.events, newest = append(b.events, e), r
	}
	if newest != nil {
		at, err := time.Parse(time.RFC3339Nano, string(header(newest, "ce_time")))
		if err != nil {
			return &recordError{fmt.Errorf("header ce_time at offset %d: %w", newest.Offset, err)}
		}
		b.after.LastRecordedAt = at.UTC()
	}
	return nil
}

// wanted tells whether the projection folds events that are stored as this type. One that the catalogue lacks is an
// error: this release must not pass over what it does not know.
func (d *decoder) wanted(eventType string) (bool, error) {
	newest := d.codec.Newest(eventType)
	if d.wants[newest] {
		return true, nil
	}
	if !d.codec.Knows(newest) {
		return false, &eventstore.UnknownTypeError{Type: eventType}
	}
	return false, nil
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

func (d *decoder) event(r eventstore.Recorded) (e Event, err error) {
	defer caught(&err)
	e = Event{ID: r.ID, Position: r.Position, Stream: r.Stream, Key: r.Key}
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

// name collects the rows that the events need and the unit does not hold.
func (b *batch) name(p Projection, u *Unit) {
	b.refs = b.refs[:0]
	if p.Keys == nil {
		return
	}
	for _, e := range b.events {
		b.refs = u.missing(p.Keys(e), e.Key, b.refs)
	}
}
