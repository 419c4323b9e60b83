package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore/wire"
)

// tail follows a topic on this node alone, without a consumer group: every node gets every record.
//
// It begins a while back, so that the windows are filled after a start, at offsets that it asks for once: whatever is
// posted after it is ready comes to it. A start after a failure begins where it was, or a while back when that is earlier;
// positions tell what is known.
type tail struct {
	topic   string // with the prefix
	brokers []string
	options []kgo.Opt
	since   time.Duration // how far back it begins
	silence time.Duration // how long Kafka may say nothing, which answers four times as often also when there is nothing new
	log     *slog.Logger

	// record is told of every event, in the order of its partition, each once.
	record func(part int32, r wire.Record)
	// missing is told when records of a partition are missing, or the store is another: what was told may be wrong.
	missing func(part int32)
	// ready is told when the tail has its place: how many partitions there are.
	ready func(partitions int)
	// stopped is told why it does not follow any more, until the next ready.
	stopped func(err error)

	last map[int32]place
	next map[int32]int64 // the offset that comes next
	dead map[string]bool // incarnations that another followed
}

// place is the last event of a partition that the tail knows.
type place struct {
	pos         uint64
	incarnation string
}

// run follows until ctx ends.
func (t *tail) run(ctx context.Context) {
	t.last, t.next, t.dead = map[int32]place{}, map[int32]int64{}, map[string]bool{}
	said := ""
	for failures := 0; ; failures++ {
		began := time.Now()
		err := t.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		t.stopped(err)
		if time.Since(began) > time.Minute {
			failures = 0
		}
		if why := fmt.Sprint(err); why != said {
			t.log.WarnContext(ctx, "live tail stopped; starting it again", "topic", t.topic, "error", err)
			said = why
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(5*time.Second, 100*time.Millisecond<<min(failures, 6))):
		}
	}
}

// answers notes when Kafka answered last. A client that is cut off tries again by itself and says nothing of it.
type answers struct{ last atomic.Int64 }

// OnBrokerE2E is kgo's hook.
func (a *answers) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e kgo.BrokerE2E) {
	if e.WriteErr == nil && e.ReadErr == nil {
		a.last.Store(time.Now().UnixNano())
	}
}

func (a *answers) since() time.Duration { return time.Since(time.Unix(0, a.last.Load())) }

func (t *tail) follow(ctx context.Context) error {
	heard := &answers{}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(t.brokers...),
		kgo.ClientID("salon-live"),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // an offset that is gone is a hole to be seen, not one to be jumped over
		kgo.FetchMinBytes(1),
		kgo.FetchMaxWait(t.silence / 4), // how long the broker waits for the first byte: records are not held back by it
		kgo.MetadataMaxAge(time.Minute),
		kgo.WithHooks(heard),
	}, t.options...)...)
	if err != nil {
		return fmt.Errorf("follow %s: %w", t.topic, err)
	}
	defer client.Close()
	at, err := t.start(ctx, kadm.NewClient(client))
	if err != nil {
		return err
	}
	next := map[int32]kgo.Offset{}
	for part, offset := range at {
		next[part] = kgo.NewOffset().At(offset)
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: next})
	t.ready(len(at))
	for {
		polling, cancel := context.WithTimeout(ctx, t.silence)
		fetches := client.PollFetches(polling)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return fmt.Errorf("follow %s/%d: %w", t.topic, e.Partition, e.Err)
			}
		}
		fetches.EachRecord(t.take)
		if silent := heard.since(); silent > t.silence {
			return fmt.Errorf("follow %s: Kafka has not answered for %v", t.topic, silent.Round(time.Second))
		}
	}
}

// start is where each partition begins: a while back by the broker's clock, or its end when nothing came since.
func (t *tail) start(ctx context.Context, admin *kadm.Client) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// The ends first: what is written while the second question is on its way must not be passed over.
	ends, err := admin.ListEndOffsets(ctx, t.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask where %s ends: %w", t.topic, err)
	}
	begins, err := admin.ListStartOffsets(ctx, t.topic)
	if err == nil {
		err = begins.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask where %s begins: %w", t.topic, err)
	}
	since, err := admin.ListOffsetsAfterMilli(ctx, time.Now().Add(-t.since).UnixMilli(), t.topic)
	if err == nil {
		err = since.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask where %s stood a while ago: %w", t.topic, err)
	}
	at := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		at[end.Partition] = end.Offset
		if ago, ok := since.Lookup(t.topic, end.Partition); ok && ago.Offset >= 0 && ago.Offset < end.Offset {
			at[end.Partition] = ago.Offset
		}
		next, known := t.next[end.Partition]
		if first, _ := begins.Lookup(t.topic, end.Partition); known && next < first.Offset {
			t.missing(end.Partition) // it was away for so long that the log has forgotten what it lacks
		} else if known {
			at[end.Partition] = min(at[end.Partition], next)
		}
	})
	if len(at) == 0 {
		return nil, errors.New("there is no topic " + t.topic + " yet: salon topics ensure makes it")
	}
	return at, nil
}

// take passes a record on, if it is the first of its kind, and looks whether any is missing before it.
func (t *tail) take(rec *kgo.Record) {
	t.next[rec.Partition] = rec.Offset + 1
	get := func(name string) string {
		for i := len(rec.Headers) - 1; i >= 0; i-- {
			if rec.Headers[i].Key == name {
				return string(rec.Headers[i].Value)
			}
		}
		return ""
	}
	if wire.IsMarker(get) {
		m, err := wire.ParseMarker(get)
		if err != nil {
			t.log.Error("live tail cannot read a marker", "topic", t.topic, "partition", rec.Partition, "offset", rec.Offset, "error", err)
			return
		}
		t.reach(rec.Partition, m.Incarnation, m.Prev.Position)
		return
	}
	r, err := wire.Parse(get, rec.Value)
	if err != nil {
		// Whatever it was, it is missing.
		t.log.Error("live tail cannot read a record", "topic", t.topic, "partition", rec.Partition, "offset", rec.Offset, "error", err)
		t.missing(rec.Partition)
		return
	}
	if t.dead[r.Incarnation] {
		return
	}
	t.reach(rec.Partition, r.Incarnation, r.Prev)
	if r.Pos <= t.last[rec.Partition].pos {
		return // the log may bring a record twice
	}
	t.last[rec.Partition] = place{r.Pos, r.Incarnation}
	t.record(rec.Partition, r)
}

// reach notes that the partition's last event before this record is the one at prev. When that is not the last one that
// came, there is a hole; when it is of another life of the store, nothing that was told before need be true. A life that
// another followed does not come back: a start a while back may show it again.
func (t *tail) reach(part int32, incarnation string, prev uint64) {
	last, known := t.last[part]
	switch {
	case t.dead[incarnation]:
	case !known:
		t.last[part] = place{prev, incarnation} // the tail begins here
	case last.incarnation != incarnation:
		t.dead[last.incarnation] = true
		t.missing(part)
		t.last[part] = place{prev, incarnation}
	case prev > last.pos:
		t.missing(part)
		t.last[part] = place{prev, incarnation}
	}
}
