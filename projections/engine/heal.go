package engine

import (
	"cmp"
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// HoleError is a hole in the log: between the last position applied and the one that a record names as its
// predecessor are events that this projection has not seen. The store has them; see [Runner.fill].
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

// StrangerError says that the store does not have the event that a record of the log names: the two belong to different
// histories, so nothing of the one may be put in place of what the other lacks.
type StrangerError struct {
	Topic    string
	Part     int32
	Offset   int64
	Position uint64
	ID       uuid.UUID
}

func (e *StrangerError) Error() string {
	return fmt.Sprintf("the record at offset %d of %s/%d names event %s at position %d, which the event store does not have there: "+
		"the store was restored behind Kafka, or is another one", e.Offset, e.Topic, e.Part, e.ID, e.Position)
}

// fillEvents is how many events one transaction of a fill applies: a view writes at most maxOps rows at a time, and an
// event seldom more than four.
const fillEvents = maxOps / 4

// fill applies what the log lacks before the batch's first record, from the store: the partition's events after the
// last one applied, through the record's own position. So the record itself is done as well.
//
// It goes in portions, each under the fence as any batch is; the offset moves with the last one. A process that dies
// in between has applied whole portions, and its successor finds the rest of the hole.
func (r *Runner) fill(ctx context.Context, d *decoder, b *batch) error {
	rec := b.records[0]
	at := b.owner.progress()
	to, incarnation, err := place(rec)
	if err != nil {
		return &recordError{err}
	}
	if err := r.proves(ctx, b, to, at.LastPos); err != nil {
		return err
	}
	portion := &batch{topic: b.topic, part: b.part, partitions: b.partitions, owner: b.owner, after: at, apart: b.apart}
	filled := 0
	flush := func() error {
		if _, err := b.owner.apply(ctx, portion); err != nil {
			b.suspects = len(portion.events)
			if b.suspects == 1 {
				e := portion.events[0]
				b.alone = &suspect{key: e.Key, pos: e.Position, eventType: e.Event.EventType(), then: portion.after}
			}
			return err
		}
		b.filled += filled
		portion.events, filled = portion.events[:0], 0
		return nil
	}
	for e, err := range r.Store.ReadAll(ctx, at.LastPos, eventstore.Filter{}) {
		if err != nil {
			return fmt.Errorf("fill %s/%d after position %d from the store: %w", b.topic, b.part, portion.after.LastPos, err)
		}
		if e.Position > to.Position {
			break
		}
		if wire.TopicOf(e.Stream) != b.topic || eventstore.Partition(e.Key, b.partitions) != b.part {
			continue
		}
		wanted, err := d.wanted(e.Type)
		if err != nil {
			return err
		}
		var broken error
		if wanted && !b.waits(e.Key) {
			event, err := d.event(e)
			if broken = err; broken == nil {
				portion.events = append(portion.events, event)
			} else if len(portion.events) > 0 {
				if err := flush(); err != nil { // what came before it
					return err
				}
			}
		}
		if e.Position < to.Position || header(rec, "marker") != nil {
			filled++ // the record's own event is in the log
		}
		portion.after.LastPos, portion.after.LastRecordedAt, portion.after.Incarnation = e.Position, e.RecordedAt, incarnation
		if broken != nil {
			b.suspects, b.alone = 1, &suspect{key: e.Key, pos: e.Position, eventType: e.Type, then: portion.after}
			return &foldError{broken}
		}
		if len(portion.events) == cmp.Or(b.most, fillEvents) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	portion.after.LastPos, portion.after.NextOffset, portion.after.Incarnation = to.Position, rec.Offset+1, incarnation
	if err := flush(); err != nil {
		return err
	}
	b.done = 1
	return nil
}

// proves asks the store for the event that the record names.
func (r *Runner) proves(ctx context.Context, b *batch, to wire.Place, after uint64) error {
	for e, err := range r.Store.ReadAll(ctx, after, eventstore.Filter{StreamPrefix: to.Stream}) {
		if err != nil {
			return fmt.Errorf("look for position %d in the store: %w", to.Position, err)
		}
		if e.Position == to.Position && e.ID == to.ID && e.Stream == to.Stream {
			return nil
		}
		if e.Position >= to.Position {
			break
		}
	}
	return &StrangerError{Topic: b.topic, Part: b.part, Offset: b.records[0].Offset, Position: to.Position, ID: to.ID}
}

// place is the event that a record names: its own, or the last one that the relay had read when it wrote the marker.
func place(rec *kgo.Record) (to wire.Place, incarnation string, err error) {
	get := func(name string) string { return string(header(rec, name)) }
	if wire.IsMarker(get) {
		m, err := wire.ParseMarker(get)
		if err != nil {
			return to, "", fmt.Errorf("marker at offset %d: %w", rec.Offset, err)
		}
		return m.At, m.Incarnation, nil
	}
	w, err := wire.Parse(get, rec.Value)
	if err != nil {
		return to, "", fmt.Errorf("record at offset %d: %w", rec.Offset, err)
	}
	return wire.Place{Position: w.Pos, Stream: w.Event.Stream, Revision: w.Event.Revision, ID: w.Event.ID}, w.Incarnation, nil
}

// TopicReplacedError says that a topic was deleted and made again since its projections began: its offsets mean other
// records than they did. The events are in the store, and a relay writes them again; but a topic does not vanish by
// itself, so a person says that this is meant to be.
type TopicReplacedError struct{ Topic string }

func (e *TopicReplacedError) Error() string {
	return fmt.Sprintf("topic %s was deleted and made again: its offsets begin anew; if that is meant to be, run `salon topics accept`, "+
		"and the projections go on from the position that each has", e.Topic)
}
