// Package relay carries the store's events to Kafka, in the store's order.
//
// What a reader of the log may rely on (G3): in each partition, first occurrences are complete and ascending by pos;
// whatever else is there repeats them. Each record names in prev the position of the partition's event before it, so a
// reader proves to itself that it has missed nothing. Any number of relays at once does no harm to that: each
// continues from what it has read in the log itself, and what two of them write twice has the same pos. When a broker
// loses the end of its log, what is written next shows the hole in its prev.
//
// There is no checkpoint besides the log: a start reads the last record of every partition and goes on from the
// smallest position among them, leaving out what a partition has. A marker ([wire.Marker]) is such a record for a
// partition whose last event is long past. The relay writes one to each partition when it begins, and to those without
// events each minute; where nothing at all happens, less and less often. Whatever it has to write, it writes after all
// before it is acknowledged; anything that fails ends the run, and the next start sees what is in the log.
//
// What the log names must be in the store: the events of every partition's end at the start, and while the relay runs
// the last event that it has read, together with each read, and once more every few seconds while there is nothing to
// read. Otherwise the store was restored to an earlier time, and going on would give two events one position: the run
// ends with a [RestoredError] that says which event it was. A store that goes on in another incarnation without having
// lost anything (a promotion) ends the run, too, and the next start goes on under the new one.
//
// The relay refuses topics in which that cannot be kept (see [Topics.Check]), and an event whose record is larger than
// what the topics take, before Kafka would leave out that one and take those after it.
package relay

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// Source is what the relay needs of an event store; the contract is that of [eventstore.Store].
type Source interface {
	ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error]
	ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error]
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
	// MarkerEvery is how long a partition without events waits for a marker. Defaults to a minute; more often is more
	// records in the log, less often a longer way back for the next start.
	MarkerEvery time.Duration
	// Relayed, when set, is told of each batch that was acknowledged: how many records, and how long since the first of
	// them was read. It must return quickly.
	Relayed func(records int, took time.Duration)
	// KafkaOptions are added to the clients' (TLS, SASL).
	KafkaOptions []kgo.Opt
	// Log defaults to nowhere.
	Log *slog.Logger

	position atomic.Uint64
	leading  atomic.Bool
	election atomic.Pointer[kgo.Client] // nil while it does not stand for it
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

// Ready reports whether this relay leads, or would at once if the leader went.
func (r *Relay) Ready() bool {
	if c := r.election.Load(); c != nil {
		_, generation := c.GroupMetadata()
		return generation >= 0
	}
	return r.Leading()
}

// Lag is how far the log is behind the store, as this relay knows: from where it came to when it led last, from the
// beginning when it never did. events are positions, which EventStoreDB does not number densely; age is that of the
// oldest event that is not in the log, by this machine's clock.
func (r *Relay) Lag(ctx context.Context) (events uint64, age time.Duration, err error) {
	at := r.position.Load()
	head, err := r.Store.Head(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("relay: head of the store: %w", err)
	}
	if head.Position <= at {
		return 0, 0, nil
	}
	for oldest, err := range r.Store.ReadAll(ctx, at, eventstore.Filter{}) {
		if err != nil {
			return 0, 0, fmt.Errorf("relay: read the store after position %d: %w", at, err)
		}
		if wire.TopicOf(oldest.Stream) != "" {
			return head.Position - at, max(0, time.Since(oldest.RecordedAt)), nil
		}
	}
	return 0, 0, nil // what is left goes to no topic, as the record of the call that asks this
}

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

func (r *Relay) lead(ctx context.Context) error {
	topics := Topics{Brokers: r.Brokers, Prefix: r.TopicPrefix, Partitions: r.Partitions, KafkaOptions: r.KafkaOptions}
	warnings, err := topics.checkLog(ctx)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		r.Log.InfoContext(ctx, "topic settings", "warning", w)
	}
	head, err := r.Store.Head(ctx) // before the log is compared with it: a later incarnation is another store
	if err != nil {
		return fmt.Errorf("relay: head of the store: %w", err)
	}
	ends, err := r.tails(ctx)
	if err != nil {
		return err
	}
	if err := r.verify(ctx, ends); err != nil {
		return err
	}
	producer, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.Brokers...),
		kgo.ClientID("salon-relay"),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.StopProducerOnDataLossDetected(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), // the batch is whole when it is produced: nothing to wait for
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.MaxBufferedRecords(2 * r.batchEvents()),
		kgo.RecordDeliveryTimeout(30 * time.Second),
		kgo.ProducerBatchCompression(kgo.NoCompression()), // sealed texts do not compress, and the rest is small
	}, r.KafkaOptions...)...)
	if err != nil {
		return fmt.Errorf("open Kafka: %w", err)
	}
	defer producer.Close()

	t := newTerm(r, producer, newChain(ends, r.Partitions, head.Incarnation))
	r.position.Store(t.chain.at.Position)
	r.leading.Store(true)
	defer r.leading.Store(false)
	r.Log.InfoContext(ctx, "relay leads", "position", t.chain.at.Position, "head", head.Position)
	return t.run(ctx)
}

func (r *Relay) batchEvents() int {
	if r.BatchEvents > 0 {
		return r.BatchEvents
	}
	return 1000
}

func (r *Relay) markerEvery() time.Duration {
	if r.MarkerEvery > 0 {
		return r.MarkerEvery
	}
	return time.Minute
}
