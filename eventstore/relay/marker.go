package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore/wire"
)

// quietest is how seldom a marker is repeated that says nothing new. It is repeated at all for a reader that stands
// behind the end of a log which was shorter for a while: the next record tells it what it missed.
const quietest = time.Hour

// written is when a partition was written to last, and how long it waits for a marker that says nothing new.
type written struct {
	at    time.Time
	quiet time.Duration
}

func (t *term) note(p partition, now time.Time) {
	t.written[p] = written{now, t.r.markerEvery()}
}

// mark writes the markers that are due: all of them, or those of partitions that had no event for a while.
func (t *term) mark(ctx context.Context, all bool) error {
	now := time.Now()
	markers := t.chain.markers(func(p partition, e end) bool {
		w := t.written[p]
		since := now.Sub(w.at)
		return all || since >= w.quiet || since >= t.r.markerEvery() && t.chain.at != e.at
	})
	if len(markers) == 0 {
		return nil
	}
	if err := t.tailsStand(ctx); err != nil {
		return err
	}
	records := make([]*kgo.Record, 0, len(markers))
	quiet := make(map[partition]time.Duration, len(markers))
	for p, m := range markers {
		records = append(records, marker(t.r.TopicPrefix, p, m))
		quiet[p] = t.r.markerEvery()
		if t.chain.at == t.chain.ends[p].at {
			quiet[p] = max(quiet[p], min(2*t.written[p].quiet, quietest))
		}
	}
	if err := t.produce(ctx, records); err != nil {
		return err
	}
	for p, q := range quiet {
		t.written[p] = written{now, q}
	}
	return nil
}

func marker(prefix string, p partition, m wire.Marker) *kgo.Record {
	rec := &kgo.Record{Topic: prefix + p.topic, Partition: p.part}
	for _, h := range m.Headers() {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	return rec
}

// tailsStand looks whether the log still reaches as far as was acknowledged, before a marker promises that it does.
// Between two events of a partition nothing else would tell.
func (t *term) tailsStand(ctx context.Context) error {
	for _, topic := range wire.Topics() {
		ends, err := t.admin.ListEndOffsets(ctx, t.r.TopicPrefix+topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return fmt.Errorf("relay: end of %s: %w", topic, err)
		}
		for i := range t.r.Partitions {
			p := partition{topic, int32(i)} //nolint:gosec // a partition count
			if now, ok := ends.Lookup(t.r.TopicPrefix+topic, p.part); !ok || now.Offset <= t.chain.ends[p].offset {
				return fmt.Errorf("%w: %s/%d ends at offset %d, and offset %d was acknowledged", ErrTailLost, p.topic, p.part, now.Offset, t.chain.ends[p].offset)
			}
		}
	}
	return nil
}
