package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
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
	// Store has what the log lacks: a hole is filled from it, and what a parked key waits for is read from it.
	Store Source
	// Shared, when set, is given to all runners of a process, which then decode each event once and commit together.
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
	// ParkPerMinute is how many keys of one partition may be parked within a minute. One more stops the partition: one
	// cause over many keys is a fault of the release or of the database, not of the keys. Defaults to 10.
	ParkPerMinute int
	// ParkAtMost is how many keys of one partition may wait; one more stops it. Defaults to 100. More keeps a partition
	// going while fewer and fewer of its rows are up to date.
	ParkAtMost int
	// KafkaOptions are added to the client's (TLS, SASL).
	KafkaOptions []kgo.Opt
	// Tracer shows batches in the traces of the requests that caused their events. Defaults to none.
	Tracer trace.Tracer
	// Applied, when set, is called after each batch that was committed. It must return quickly.
	Applied func(Applied)

	mu          sync.Mutex
	subscribers []*subscriber
	waits       error // why it has not begun; nil: it has
}

// Source is what the engine needs of an event store; the contract is that of eventstore.Store.
type Source interface {
	ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error]
}

// Applied is one committed batch.
type Applied struct {
	Projection string // Projection.ID
	Topic      string
	Part       int32
	Position   uint64 // through which the partition is complete
	Records    int
	Filled     int // events that the log lacked and the store had
	Took       time.Duration
	Recorded   time.Time // when the last event was recorded
	Way        Way       // of the first event
}

// PartitionStatus is how one partition that this process has is doing.
type PartitionStatus struct {
	Projection string // Projection.ID
	Topic      string
	Part       int32
	Progress
	LogEnd  int64     // offset after the partition's last record, as last heard
	Oldest  time.Time // when the first record that is not applied was recorded; zero: there is none, or it was not fetched yet
	Claimed bool      // the target knows us as its owner
	Moved   time.Time // when a batch was last committed
	Filled  int64     // events that the log lacked and the store had, since this process has the partition
	Refills int       // of a view that had lost something, since this process has the partition
	Error   string    // why it stands still; "" while it is well
	Since   time.Time // when Error began
	Parked  int       // keys that wait
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

func (r *Runner) group(topic string) string { return GroupOf(r.Projection, r.TopicPrefix, topic) }

// GroupOf is the consumer group in which the owners of a topic's partitions are, for a version of a projection.
func GroupOf(p Projection, prefix, topic string) string {
	if len(p.Topics) == 1 {
		return prefix + p.ID()
	}
	return prefix + p.ID() + "." + topic
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

// Ready says why the runner does nothing for its projection yet: nil once it is in its groups, whether they give it partitions
// or not, and while its version is not live, which is no fault of its.
func (r *Runner) Ready() error {
	r.mu.Lock()
	waits, subscribers := r.waits, r.subscribers
	r.mu.Unlock()
	switch {
	case errors.Is(waits, ErrNotLive):
		return nil
	case waits != nil:
		return fmt.Errorf("projection %s cannot start yet: %w", r.Projection.ID(), waits)
	case len(subscribers) == 0:
		return fmt.Errorf("projection %s has not begun yet", r.Projection.ID())
	}
	for _, s := range subscribers {
		if !r.Alone && !s.joined() {
			return fmt.Errorf("projection %s is not in its group yet", r.Projection.ID())
		}
	}
	return nil
}

// Run projects until ctx ends. An error is one of configuration.
func (r *Runner) Run(ctx context.Context) error {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	if r.DB == nil || r.Codec == nil || r.Store == nil || len(r.Brokers) == 0 || r.Projection.Target == Redis && r.Redis == nil {
		return fmt.Errorf("projection %s: brokers, reads database, event store, codec or Redis missing", r.Projection.ID())
	}
	var t target
	if r.Projection.Target == Redis {
		redisT := newRedisTarget(r.Redis, r.Projection, cmp.Or(r.CacheRows, 10_000))
		defer redisT.rounds.Wait()
		if r.Projection.Behind != "" {
			redisT.db = r.DB
		}
		t = redisT
	} else {
		sqlT := newSQLTarget(r.DB, r.Projection, cmp.Or(r.CacheRows, 10_000))
		defer sqlT.close()
		if r.Shared != nil && sqlT.group != nil {
			sqlT.group = r.Shared.groupOf(r.DB)
		}
		t = sqlT
	}
	for ctx.Err() == nil {
		topics, err := r.prepare(ctx)
		if err != nil {
			return err
		}
		if err := r.project(ctx, t, topics); err != nil {
			return fmt.Errorf("projection %s: %w", r.Projection.ID(), err)
		}
	}
	return nil
}

// project runs the projection until ctx ends, or until a topic was made again: a client goes on asking for the topic
// that it knew, by its ID, so there must be another.
func (r *Runner) project(ctx context.Context, t target, topics []kadm.TopicDetail) error {
	if ctx.Err() != nil {
		return nil
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 30 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	ctx, again := context.WithCancel(ctx)
	defer again()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer again()
	watch.Go(func() { r.watch(ctx, again) })
	d := newDecoder(r.Codec, r.Projection, r.Shared)
	var subscribers []*subscriber
	for i, topic := range r.Projection.Topics {
		s := newSubscriber(r, topic, t, d, len(topics[i].Partitions))
		s.id, s.replaced = topics[i].ID.String(), again
		subscribers = append(subscribers, s)
		router.AddConsumerHandler(r.Projection.ID()+"/"+topic, topic, s, func(m *message.Message) error { return r.handle(d, m) })
	}
	r.mu.Lock()
	r.subscribers = subscribers
	r.mu.Unlock()
	defer func() { // what is shown of partitions that nobody works on would be wrong
		r.mu.Lock()
		r.subscribers = nil
		r.mu.Unlock()
	}()
	return router.Run(ctx)
}

// stateLook is how often a projector looks whether its version is still, or by now, live.
const stateLook = 500 * time.Millisecond

// watch stops projecting a version that is not live any more.
func (r *Runner) watch(ctx context.Context, stop func()) {
	tick := time.NewTicker(stateLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if state, _, err := life(ctx, r.DB.Reader(), r.Projection); err == nil && state != Live {
			stop()
			return
		}
	}
}

// handle applies one batch. Its error reaches the worker in the batch; the Router only needs to know that there is one.
func (r *Runner) handle(d *decoder, m *message.Message) error {
	b := m.Context().Value(batchKey{}).(*batch)
	began := time.Now()
	b.err = d.plan(b, b.owner.progress())
	var hole *HoleError
	if errors.As(b.err, &hole) {
		b.err = r.fill(m.Context(), d, b)
	} else {
		if b.err == nil {
			b.done, b.err = b.owner.apply(m.Context(), b)
		}
		if poison(b.err) {
			b.suspectRecords(d)
		}
	}
	if b.err != nil {
		return b.err
	}
	r.committed(b, began)
	return nil
}

// committed tells those who watch.
func (r *Runner) committed(b *batch, began time.Time) {
	b.way.Committed = time.Now()
	if r.Tracer != nil {
		r.traceBatch(b, began, b.way.Committed)
	}
	if r.Applied != nil {
		at := b.owner.progress()
		r.Applied(Applied{
			Projection: r.Projection.ID(), Topic: b.topic, Part: b.part, Position: at.LastPos, Records: b.done,
			Filled: b.filled, Took: b.way.Committed.Sub(began), Recorded: at.LastRecordedAt, Way: b.way,
		})
	}
}

// prepare makes what the projection needs and learns the topics, however long that takes.
func (r *Runner) prepare(ctx context.Context) ([]kadm.TopicDetail, error) {
	for failures := 1; ; failures++ {
		topics, err := r.tryPrepare(ctx)
		r.mu.Lock()
		r.waits = err
		r.mu.Unlock()
		if err == nil || ctx.Err() != nil {
			return topics, nil //nolint:nilerr // asked to stop: what failed after that is no news
		}
		if errors.Is(err, ErrNotLive) {
			failures = 0
		}
		if failures == 3 {
			r.Log.ErrorContext(ctx, "projection cannot start yet", "projection", r.Projection.ID(), "error", err)
		}
		rest := stateLook
		if failures > 0 {
			rest = r.backoff(failures, err)
		}
		t := time.NewTimer(rest)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, nil
		}
	}
}

func (r *Runner) tryPrepare(ctx context.Context) ([]kadm.TopicDetail, error) {
	if err := r.DB.Check(ctx); err != nil {
		return nil, err
	}
	if err := begin(ctx, r.DB, r.Projection); err != nil {
		return nil, err
	}
	topics, err := listTopics(ctx, r.Brokers, r.TopicPrefix, r.Projection.Topics, r.KafkaOptions)
	if err != nil {
		return nil, err
	}
	for i, topic := range r.Projection.Topics {
		if err := noteTopic(ctx, r.DB, topic, len(topics[i].Partitions), topics[i].ID.String(), r.Alone); err != nil {
			return nil, err
		}
	}
	return topics, nil
}
