package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

const (
	// batchBytes bounds a batch's memory.
	batchBytes = 8 << 20
	// maxBatchBytes is what the producer puts into one request for a partition: what a topic takes, with room to spare.
	maxBatchBytes = MaxRecordBytes - 64<<10
	// lookEvery is how soon a store that was restored is noticed while there is nothing to read.
	lookEvery = 3 * time.Second
)

// term is one time of leading: from the reading of the log's ends until the first thing that fails.
type term struct {
	r        *Relay
	producer *kgo.Client
	admin    *kadm.Client
	chain    *chain

	before  uint64 // the position read before chain.at; the same event comes again when reading after it
	again   bool   // before is known
	records []*kgo.Record
	size    int
	since   time.Time // the first of records was read
	written map[partition]written
	greeted bool // each partition has the marker of this term's beginning
}

func newTerm(r *Relay, producer *kgo.Client, c *chain) *term {
	t := &term{r: r, producer: producer, admin: kadm.NewClient(producer), chain: c, written: map[partition]written{}}
	now := time.Now()
	for p := range c.ends {
		t.note(p, now)
	}
	return t
}

func (t *term) run(ctx context.Context) error {
	for {
		found, err := t.pass(ctx)
		if err != nil {
			return err
		}
		waiting, enough := context.WithTimeout(ctx, min(lookEvery, t.r.markerEvery()))
		err = t.r.Store.Wait(waiting, t.chain.at.Position)
		tired := waiting.Err() != nil
		enough()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !tired:
			return fmt.Errorf("relay: wait for events: %w", err)
		case err == nil && !found: // the store said that there was more and gave nothing: not as fast as it says so
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// pass relays what the store has after the last event that was read, batch by batch. It begins with that event: a
// store that does not give it is not the one that it was read from, and the same query proves it that brings the rest.
func (t *term) pass(ctx context.Context) (found bool, err error) {
	anchor, after := t.chain.at, t.chain.at.Position
	switch {
	case anchor.Position == 0:
	case t.again:
		after = t.before
	default: // only at first: the log names the event and not the one before it
		if ok, err := t.r.has(ctx, anchor); err != nil {
			return false, err
		} else if !ok {
			return false, t.missing()
		}
		anchor = wire.Place{}
	}
	for e, err := range t.r.Store.ReadAll(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return found, fmt.Errorf("relay: read the store after position %d: %w", t.chain.at.Position, err)
		}
		if anchor.Position > 0 {
			if wire.PlaceOf(e) != anchor {
				return false, t.missing()
			}
			anchor = wire.Place{}
			continue
		}
		found = true
		if err := t.add(ctx, e); err != nil {
			return found, err
		}
	}
	if anchor.Position > 0 {
		return false, t.missing()
	}
	if err := t.flush(ctx); err != nil {
		return found, err
	}
	// All that was there is relayed. A pass that takes longer than a minute has told the quiet partitions before.
	greet := !t.greeted
	t.greeted = true
	return found, t.mark(ctx, greet)
}

// add puts an event into the batch, and writes the batch when it is full.
func (t *term) add(ctx context.Context, e eventstore.Recorded) error {
	n := recordBytes(e)
	if n > maxBatchBytes && wire.TopicOf(e.Stream) != "" {
		if err := t.flush(ctx); err != nil {
			return err
		}
		return fmt.Errorf("relay: event %s (position %d, %s@%d) makes a record of %d bytes, and %d is what a topic takes: nothing is relayed from there on",
			e.ID, e.Position, e.Stream, e.Revision, n, maxBatchBytes)
	}
	t.before, t.again = t.chain.at.Position, true
	p, w, write := t.chain.next(e)
	if !write {
		return nil
	}
	if len(t.records) == 0 {
		t.since = time.Now()
	}
	t.records = append(t.records, record(t.r.TopicPrefix, p, w))
	if t.size += n; len(t.records) < t.r.batchEvents() && t.size <= batchBytes {
		return nil
	}
	if err := t.flush(ctx); err != nil {
		return err
	}
	return t.mark(ctx, false)
}

// flush writes what was read.
func (t *term) flush(ctx context.Context) error {
	if err := t.sameStore(ctx); err != nil {
		return err
	}
	if err := t.produce(ctx, t.records); err != nil {
		return err
	}
	if t.r.Relayed != nil && len(t.records) > 0 {
		t.r.Relayed(len(t.records), time.Since(t.since))
	}
	clear(t.records)
	t.records, t.size = t.records[:0], 0
	t.r.position.Store(t.chain.at.Position)
	return nil
}

// produce sends records and waits until all of them are acknowledged. With a part of them refused, later records of the
// same partition may be in the log: the run ends, and the next start sees what is there.
func (t *term) produce(ctx context.Context, records []*kgo.Record) error {
	if len(records) > 0 {
		if err := t.producer.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return fmt.Errorf("relay: produce: %w", err)
		}
	}
	now := time.Now()
	for _, rec := range records { // in the order produced, which is the order within a partition
		p := partition{rec.Topic[len(t.r.TopicPrefix):], rec.Partition}
		if err := t.chain.acknowledged(p, rec.Offset); err != nil {
			return err
		}
		t.note(p, now)
	}
	t.chain.settle()
	return nil
}

func record(prefix string, p partition, w wire.Record) *kgo.Record {
	return &kgo.Record{Topic: prefix + p.topic, Partition: p.part, Key: []byte(w.Event.Key), Value: w.Event.Data, Headers: wire.AppendHeaders([]kgo.RecordHeader(nil), w)}
}

// recordBytes is at least what an event takes as a record that is alone in its batch: besides what is the event's own,
// the batch's head, and each header's name and length.
func recordBytes(e eventstore.Recorded) int {
	return 1000 + len(e.Metadata) + len(e.Data) + 2*len(e.Stream) + 2*len(e.Key) + len(e.Type)
}

// ErrTailLost says that the broker lost the end of its log: an acknowledged record got an offset that is not above its
// partition's last, or the log ends before it. The next start finds where the log ends now.
var ErrTailLost = errors.New("the broker lost the end of its log")
