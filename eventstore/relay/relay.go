// Package relay carries the store's events to Kafka, in the store's order.
//
// What a reader of the log may rely on (G3): in each partition, first occurrences are complete and ascending by pos;
// whatever else is there repeats them. Each record names in prev the position of the partition's event before it, so a
// reader proves to itself that it has missed nothing. Any number of relays at once does no harm to that: each
// continues from what it has read in the log itself, and what two of them write twice has the same pos.
//
// There is no checkpoint besides the log: a start reads the last record of every partition and goes on from the
// smallest position among them, leaving out what a partition has. The relay refuses to start when the store does not
// have the event that a partition ends with: then the store was restored to an earlier time, and going on would give
// two events one position.
package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// Source is what the relay needs of an event store; the contract is that of [eventstore.Store].
type Source interface {
	ReadAll(ctx context.Context, after uint64) iter.Seq2[eventstore.Recorded, error]
	Head(ctx context.Context) (eventstore.Head, error)
	Wait(ctx context.Context, after uint64) error
}

// Relay is one relay. Run it again after it ended with an error: every start begins with the log.
type Relay struct {
	Store   Source
	Brokers []string
	// Partitions of each topic; a topic with another count is refused.
	Partitions int
	// TopicPrefix is put before topics and groups, to share a cluster.
	TopicPrefix string
	// Alone leads at once, without an election: for the only process, by the lock of its data folder.
	Alone bool
	// SessionTimeout of the election. Defaults to 10 s: how long nothing is relayed after the leader was killed.
	SessionTimeout time.Duration
	// BatchEvents are produced before their acknowledgements are waited for. Defaults to 1,000.
	BatchEvents int
	// KafkaOptions are added to the clients' (TLS, SASL).
	KafkaOptions []kgo.Opt
	// Log defaults to nowhere.
	Log *slog.Logger

	position atomic.Uint64
	leading  atomic.Bool
}

// Position is how far the log has the store's events, as this relay knows; 0 while it does not lead.
func (r *Relay) Position() uint64 {
	if !r.leading.Load() {
		return 0
	}
	return r.position.Load()
}

// Leading reports whether this relay is the one at work.
func (r *Relay) Leading() bool { return r.leading.Load() }

// RestoredError says that the store does not have an event that the log has.
type RestoredError struct {
	Topic    string
	Part     int32
	Position uint64
	ID       uuid.UUID
}

func (e *RestoredError) Error() string {
	return fmt.Sprintf("the store was restored behind Kafka: %s/%d ends with event %s at position %d, which the store does not have there; "+
		"nothing is relayed until the topics are made anew and the projections rebuilt", e.Topic, e.Part, e.ID, e.Position)
}

// ErrTailLost says that an acknowledged record got an offset that is not above its partition's last: the broker lost
// the end of its log. The next start finds where the log ends now.
var ErrTailLost = errors.New("the broker lost the end of its log")

// Run relays until ctx ends (nil) or something fails. One start is one run: the caller starts it again.
func (r *Relay) Run(ctx context.Context) error {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if r.Alone {
		err = r.lead(ctx)
	} else {
		err = r.elect(ctx)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // asked to stop: what failed after that is no news
	}
	return err
}

type partition struct {
	topic string // without the prefix
	part  int32
}

// end is the last record of a partition.
type end struct {
	pos    uint64
	offset int64 // -1 when there is no record
	id     uuid.UUID
}

func (r *Relay) lead(ctx context.Context) error {
	topics := Topics{Brokers: r.Brokers, Prefix: r.TopicPrefix, Partitions: r.Partitions, KafkaOptions: r.KafkaOptions}
	if err := topics.Check(ctx); err != nil {
		return err
	}
	ends, err := r.tails(ctx)
	if err != nil {
		return err
	}
	if err := r.verify(ctx, ends); err != nil {
		return err
	}
	head, err := r.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("relay: head of the store: %w", err)
	}
	producer, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.Brokers...),
		kgo.ClientID("salon-relay"),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.StopProducerOnDataLossDetected(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), // the batch is whole when it is produced: nothing to wait for
		kgo.ProducerBatchMaxBytes(MaxRecordBytes - 64<<10),
		kgo.MaxBufferedRecords(2 * r.batchEvents()),
		kgo.RecordDeliveryTimeout(30 * time.Second),
		kgo.ProducerBatchCompression(kgo.NoCompression()), // sealed texts do not compress, and the rest is small
	}, r.KafkaOptions...)...)
	if err != nil {
		return fmt.Errorf("open Kafka: %w", err)
	}
	defer producer.Close()

	from := lowest(ends)
	r.position.Store(from)
	r.leading.Store(true)
	defer r.leading.Store(false)
	r.Log.InfoContext(ctx, "relay leads", "position", from, "head", head.Position)
	idle := false // the last pass found nothing
	for {
		next, err := r.pass(ctx, producer, ends, from, head.Incarnation)
		if err != nil {
			return err
		}
		if next == from {
			if err := r.Store.Wait(ctx, from); err != nil {
				return fmt.Errorf("relay: wait for events: %w", err)
			}
			if idle { // the store says there is more and gives nothing: it was promoted behind what it had said before
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		}
		idle = next == from
		from = next
	}
}

func (r *Relay) batchEvents() int {
	if r.BatchEvents > 0 {
		return r.BatchEvents
	}
	return 1000
}

// lowest is where to go on: what any partition may still lack comes after it.
func lowest(ends map[partition]end) uint64 {
	first := true
	var low uint64
	for _, e := range ends {
		if first || e.pos < low {
			low, first = e.pos, false
		}
	}
	return low
}

// batchBytes bounds a batch's memory.
const batchBytes = 8 << 20

// pass relays what the store has after from, batch by batch, and returns how far it came.
func (r *Relay) pass(ctx context.Context, producer *kgo.Client, ends map[partition]end, from uint64, incarnation string) (uint64, error) {
	var records []*kgo.Record
	var size int
	last := map[partition]end{} // within the batch
	flush := func(through uint64) error {
		if err := r.produce(ctx, producer, ends, last, records); err != nil {
			return err
		}
		clear(last)
		records, size = records[:0], 0
		from = through
		r.position.Store(through)
		return nil
	}
	read := from
	for e, err := range r.Store.ReadAll(ctx, from) {
		if err != nil {
			return from, fmt.Errorf("relay: read the store after position %d: %w", read, err)
		}
		read = e.Position
		topic := wire.TopicOf(e.Stream)
		if topic == "" {
			continue
		}
		p := partition{topic, eventstore.Partition(e.Key, r.Partitions)}
		before, ok := last[p]
		if !ok {
			before = ends[p]
		}
		if e.Position <= before.pos {
			continue // the log has it
		}
		records = append(records, record(r.TopicPrefix, p, wire.Record{Pos: e.Position, Prev: before.pos, Incarnation: incarnation, Event: e}))
		last[p] = end{pos: e.Position, id: e.ID}
		if size += len(e.Data) + len(e.Metadata); len(records) == r.batchEvents() || size > batchBytes {
			if err := flush(read); err != nil {
				return from, err
			}
		}
	}
	if read > from {
		if err := flush(read); err != nil {
			return from, err
		}
	}
	return from, nil
}

func record(prefix string, p partition, w wire.Record) *kgo.Record {
	headers := w.Headers()
	out := make([]kgo.RecordHeader, len(headers))
	for i, h := range headers {
		out[i] = kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)}
	}
	return &kgo.Record{Topic: prefix + p.topic, Partition: p.part, Key: []byte(w.Event.Key), Value: w.Event.Data, Headers: out}
}

// produce sends a batch and waits until all of it is acknowledged. With a part of it refused, later records of the
// same partition may be in the log: the run ends, and the next start sees what is there.
func (r *Relay) produce(ctx context.Context, producer *kgo.Client, ends, last map[partition]end, records []*kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	results := producer.ProduceSync(ctx, records...)
	if err := results.FirstErr(); err != nil {
		return fmt.Errorf("relay: produce: %w", err)
	}
	highest := map[partition]int64{}
	for _, rec := range records { // in the order produced, which is the order within a partition
		p := partition{rec.Topic[len(r.TopicPrefix):], rec.Partition}
		above, ok := highest[p]
		if !ok {
			above = ends[p].offset
		}
		if rec.Offset <= above {
			return fmt.Errorf("%w: %s/%d acknowledged offset %d after %d", ErrTailLost, p.topic, p.part, rec.Offset, above)
		}
		highest[p] = rec.Offset
	}
	for p, e := range last {
		e.offset = highest[p]
		ends[p] = e
	}
	return nil
}

// verify compares the log's ends with the store.
func (r *Relay) verify(ctx context.Context, ends map[partition]end) error {
	for p, e := range ends {
		if e.pos == 0 {
			continue
		}
		stored := uuid.Nil
		for found, err := range r.Store.ReadAll(ctx, e.pos-1) {
			if err != nil {
				return fmt.Errorf("relay: read position %d: %w", e.pos, err)
			}
			if found.Position == e.pos {
				stored = found.ID
			}
			break
		}
		if stored != e.id {
			return &RestoredError{Topic: p.topic, Part: p.part, Position: e.pos, ID: e.id}
		}
	}
	return nil
}
