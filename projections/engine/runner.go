package engine

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Runner runs one projection: it keeps the projection's tables equal to the fold of the log, until its context ends.
//
// It starts without its servers and outlives them: while Kafka, the database or Redis is away, the partitions that
// need it stand still, say so once, and go on by themselves.
type Runner struct {
	Projection Projection
	Brokers    []string
	// DB is the reads database: rows and offsets of a SQL projection, and the topics' partition counts.
	DB *reads.DB
	// Redis holds rows and offsets of a Redis projection.
	Redis redis.UniversalClient
	Codec *eventstore.Codec
	// Shared, when set, is given to all runners of a process, which then decode each event once.
	Shared *Shared
	// Log defaults to nowhere.
	Log *slog.Logger

	// Alone takes every partition without a consumer group: for a process that is the only one, by the lock of its
	// data folder. It starts at once, where a group would wait for the session of a killed predecessor to end.
	Alone bool
	// TopicPrefix is put before topics and groups, to share a cluster. Offsets are stored without it.
	TopicPrefix string
	// MaxRecords of one batch. Defaults to 1,000 (Redis: 500, since a script blocks the server); larger batches cost
	// latency, smaller ones throughput.
	MaxRecords int
	// Pace is the least time between the beginnings of two batches of a partition, unless a full batch waits. The first
	// event after a pause is never held up. Defaults to 5 ms; less costs a transaction for every few events.
	Pace time.Duration
	// CacheRows that a claim keeps in memory. Defaults to 10,000 a partition.
	CacheRows int
	// SessionTimeout of the consumer group. Defaults to 10 s: how long a killed process's partitions stand still.
	SessionTimeout time.Duration
	// FencedWait is how long a fenced worker waits before it claims the partition again. Defaults to the session's
	// time-out, after which the group has told us whether the partition is still ours.
	FencedWait time.Duration
	// KafkaOptions are added to the client's (TLS, SASL).
	KafkaOptions []kgo.Opt
	// Tracer shows batches in the traces of the requests that caused their events. Defaults to none.
	Tracer trace.Tracer
	// Applied, when set, is called after each batch that was committed. It must return quickly.
	Applied func(Applied)

	mu          sync.Mutex
	subscribers []*subscriber
}

// Applied is one committed batch.
type Applied struct {
	Projection string // Projection.ID
	Topic      string
	Part       int32
	Position   uint64 // of the last event
	Records    int
	Took       time.Duration
	Recorded   time.Time // when the last event was recorded
}

// PartitionStatus is how one partition that this process has is doing.
type PartitionStatus struct {
	Projection string // Projection.ID
	Topic      string
	Part       int32
	Progress
	LogEnd  int64     // offset after the partition's last record, as last heard
	Claimed bool      // the target knows us as its owner
	Moved   time.Time // when a batch was last committed
	Error   string    // why it stands still; "" while it is well
	Since   time.Time // when Error began
}

// Lag is how many records are not applied yet.
func (s PartitionStatus) Lag() int64 { return max(0, s.LogEnd-s.NextOffset) }

func (r *Runner) maxRecords() int {
	if r.Projection.Target == Redis {
		return cmp.Or(r.MaxRecords, 500)
	}
	return cmp.Or(r.MaxRecords, 1000)
}

func (r *Runner) sessionTimeout() time.Duration { return cmp.Or(r.SessionTimeout, 10*time.Second) }

func (r *Runner) fencedWait() time.Duration { return cmp.Or(r.FencedWait, r.sessionTimeout()) }

func (r *Runner) pace() time.Duration { return cmp.Or(r.Pace, 5*time.Millisecond) }

func (r *Runner) group(topic string) string {
	if len(r.Projection.Topics) == 1 {
		return r.TopicPrefix + r.Projection.ID()
	}
	return r.TopicPrefix + r.Projection.ID() + "." + topic
}

// Status lists the partitions that this process has, by topic and number.
func (r *Runner) Status() []PartitionStatus {
	r.mu.Lock()
	subscribers := r.subscribers
	r.mu.Unlock()
	var out []PartitionStatus
	for _, s := range subscribers {
		out = append(out, s.status()...)
	}
	slices.SortFunc(out, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Part, b.Part))
	})
	return out
}

// Run projects until ctx ends. An error is one of configuration.
func (r *Runner) Run(ctx context.Context) error {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	if r.DB == nil || r.Codec == nil || len(r.Brokers) == 0 || r.Projection.Target == Redis && r.Redis == nil {
		return fmt.Errorf("projection %s: brokers, reads database, codec or Redis missing", r.Projection.ID())
	}
	partitions, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	var t target
	if r.Projection.Target == Redis {
		t = newRedisTarget(r.Redis, r.Projection, cmp.Or(r.CacheRows, 10_000))
	} else {
		sqlT := newSQLTarget(r.DB, r.Projection, cmp.Or(r.CacheRows, 10_000))
		defer sqlT.close()
		t = sqlT
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 30 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return fmt.Errorf("projection %s: %w", r.Projection.ID(), err)
	}
	d := newDecoder(r.Codec, r.Projection, r.Shared)
	var subscribers []*subscriber
	for _, topic := range r.Projection.Topics {
		s := newSubscriber(r, topic, t, partitions[topic])
		subscribers = append(subscribers, s)
		router.AddConsumerHandler(r.Projection.ID()+"/"+topic, topic, s, func(m *message.Message) error { return r.handle(d, m) })
	}
	r.mu.Lock()
	r.subscribers = subscribers
	r.mu.Unlock()
	if err := router.Run(ctx); err != nil {
		return fmt.Errorf("projection %s: %w", r.Projection.ID(), err)
	}
	return nil
}

// handle applies one batch. Its error reaches the worker in the batch; the Router only needs to know that there is one.
func (r *Runner) handle(d *decoder, m *message.Message) error {
	b := m.Context().Value(batchKey{}).(*batch)
	began := time.Now()
	b.err = d.plan(b, b.owner.progress())
	if b.err == nil {
		b.done, b.err = b.owner.apply(m.Context(), b)
	}
	if b.err != nil {
		return b.err
	}
	if r.Tracer != nil {
		r.traceBatch(b, began, time.Now())
	}
	if r.Applied != nil {
		at := b.owner.progress()
		r.Applied(Applied{
			Projection: r.Projection.ID(), Topic: b.topic, Part: b.part, Position: at.LastPos, Records: b.done,
			Took: time.Since(began), Recorded: at.LastRecordedAt,
		})
	}
	return nil
}

// prepare makes what the projection needs and learns the topics, however long that takes.
func (r *Runner) prepare(ctx context.Context) (map[string]int, error) {
	for failures := 1; ; failures++ {
		partitions, err := r.tryPrepare(ctx)
		if err == nil || ctx.Err() != nil {
			return partitions, nil //nolint:nilerr // asked to stop: what failed after that is no news
		}
		if failures == 3 {
			r.Log.ErrorContext(ctx, "projection cannot start yet", "projection", r.Projection.ID(), "error", err)
		}
		t := time.NewTimer(r.backoff(failures, err))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, nil
		}
	}
}

func (r *Runner) tryPrepare(ctx context.Context) (map[string]int, error) {
	if err := r.DB.Check(ctx); err != nil {
		return nil, err
	}
	if err := EnsureTables(ctx, r.DB, r.Projection); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.Brokers...)}, r.KafkaOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	defer client.Close()
	names := make([]string, len(r.Projection.Topics))
	for i, t := range r.Projection.Topics {
		names[i] = r.TopicPrefix + t
	}
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	topics, err := kadm.NewClient(client).ListTopics(asked, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	partitions := map[string]int{}
	for i, name := range names {
		t, ok := topics[name]
		if !ok || t.Err != nil || len(t.Partitions) == 0 {
			return nil, fmt.Errorf("topic %s is not there: run `salon topics ensure` (%w)", name, errors.Join(t.Err))
		}
		partitions[r.Projection.Topics[i]] = len(t.Partitions)
		if err := noteTopic(ctx, r.DB, r.Projection.Topics[i], len(t.Partitions), t.ID.String()); err != nil {
			return nil, err
		}
	}
	return partitions, nil
}

// noteTopic tells the read side how many partitions a topic has.
func noteTopic(ctx context.Context, db *reads.DB, topic string, partitions int, id string) error {
	put := "INSERT INTO projection_topics (topic, partitions, topic_id) VALUES (?, ?, ?) "
	if db.Dialect() == reads.MySQL {
		put += "ON DUPLICATE KEY UPDATE partitions = VALUES(partitions), topic_id = VALUES(topic_id)"
	} else {
		put += "ON CONFLICT (topic) DO UPDATE SET partitions = excluded.partitions, topic_id = excluded.topic_id"
	}
	return db.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, put, topic, partitions, id); err != nil {
			return fmt.Errorf("note topic %s: %w", topic, err)
		}
		return nil
	})
}
