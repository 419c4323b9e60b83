package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// subscriber is a Watermill subscriber that emits one message per (partition, batch), one in flight a partition.
//
// A batch is whatever has come in while the last one was applied. Closing it, or ending the context given to
// Subscribe, finishes the running batches first: the Router cancels that context at once while handlers still run, so
// a batch's own context does not descend from it.
type subscriber struct {
	r          *Runner
	topic      string // without the prefix: what offsets are stored under
	target     target
	decoder    *decoder
	partitions int
	client     *kgo.Client
	admin      *kadm.Client
	id         string        // of the topic that this client knows
	replaced   func()        // starts the projection anew: it finds out whether somebody has accepted the new topic
	opened     chan struct{} // closed when client and admin are there
	out        chan *message.Message
	closing    chan struct{}
	close      sync.Once
	closed     chan struct{}

	mu      sync.Mutex
	workers map[int32]*worker
}

func newSubscriber(r *Runner, topic string, t target, d *decoder, partitions int) *subscriber {
	return &subscriber{
		r: r, topic: topic, target: t, decoder: d, partitions: partitions, out: make(chan *message.Message), opened: make(chan struct{}),
		closing: make(chan struct{}), closed: make(chan struct{}), workers: map[int32]*worker{},
	}
}

func (s *subscriber) physical() string { return s.r.TopicPrefix + s.topic }

// Subscribe starts consuming. It is called once, by the Router.
func (s *subscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(s.r.Brokers...),
		kgo.ClientID("salon-projector"),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // a missing offset is a hole to be seen, not one to be jumped over
		kgo.FetchMinBytes(1),
		kgo.FetchMaxWait(250 * time.Millisecond), // also how long a resumed partition may wait for the running fetch
		kgo.FetchMaxBytes(8 << 20),
		kgo.FetchMaxPartitionBytes(2 << 20),
		kgo.MetadataMaxAge(time.Minute),
	}
	if !s.r.Alone { // a consumer group shares the partitions
		opts = append(opts,
			kgo.ConsumerGroup(s.r.group(s.topic)),
			kgo.ConsumeTopics(s.physical()),
			kgo.Balancers(kgo.CooperativeStickyBalancer()),
			kgo.SessionTimeout(s.r.sessionTimeout()),
			kgo.HeartbeatInterval(s.r.sessionTimeout()/5),
			kgo.RebalanceTimeout(30*time.Second),
			kgo.DisableAutoCommit(),
			kgo.AdjustFetchOffsetsFn(s.assigned),
			kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { s.release(parts, false) }),
			kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { s.release(parts, true) }),
		)
	}
	var err error
	if s.client, err = kgo.NewClient(append(opts, s.r.KafkaOptions...)...); err != nil {
		return nil, fmt.Errorf("consume %s: %w", s.topic, err)
	}
	s.admin = kadm.NewClient(s.client)
	close(s.opened)
	go s.run(ctx)
	return s.out, nil
}

// joined tells whether the client is in its group.
func (s *subscriber) joined() bool {
	select {
	case <-s.opened:
		_, generation := s.client.GroupMetadata()
		return generation >= 0
	default:
		return false
	}
}

// Close finishes the running batches and leaves the group. It may be called twice.
func (s *subscriber) Close() error {
	s.close.Do(func() { close(s.closing) })
	if s.client != nil {
		<-s.closed
	}
	return nil
}

func (s *subscriber) run(ctx context.Context) {
	defer close(s.closed)
	defer close(s.out)
	poll, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stop()
		select {
		case <-ctx.Done():
		case <-s.closing:
		}
		s.finish()
	})
	wg.Go(func() { s.tend(poll) })
	if s.r.Alone {
		wg.Go(func() { s.takeAll(poll) })
	}
	s.poll(poll)
	wg.Wait()
	s.finish() // those assigned while we were closing
	leave, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = s.client.LeaveGroupContext(leave) // a broker that is away will notice the silence
	s.client.Close()
	s.finish()
}

// finish ends all workers after their running batch.
func (s *subscriber) finish() {
	s.mu.Lock()
	var all []*worker
	for part, w := range s.workers {
		all = append(all, w)
		delete(s.workers, part)
	}
	s.mu.Unlock()
	finish(all)
}

func finish(workers []*worker) {
	for _, w := range workers {
		w.end()
	}
	for _, w := range workers {
		// A batch that takes longer hangs in a server: its transaction ends with the connection.
		deadline := time.AfterFunc(10*time.Second, w.lose)
		<-w.done
		deadline.Stop()
	}
}

// assigned claims new partitions and tells the client where to begin. What the group has as offsets is not looked at.
func (s *subscriber) assigned(ctx context.Context, parts map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	<-s.opened // the client joins its group before NewClient has returned
	out := map[string]map[int32]kgo.Offset{}
	for topic, offsets := range parts {
		out[topic] = map[int32]kgo.Offset{}
		if topic != s.physical() {
			continue
		}
		list := make([]int32, 0, len(offsets))
		for part := range offsets {
			list = append(list, part)
		}
		for part, at := range s.take(ctx, list) {
			out[topic][part] = kgo.NewOffset().At(at)
		}
	}
	return out, nil
}

// take starts a worker for each partition, after a first try to claim it. A partition that could not be claimed now
// (its database is away) begins anywhere: its worker goes on trying, and seeks.
func (s *subscriber) take(ctx context.Context, parts []int32) map[int32]int64 {
	s.resume(parts...) // the client's pause set survives revoke and assign
	var wg sync.WaitGroup
	at := make([]int64, len(parts))
	fresh := make([]*worker, len(parts))
	for i, part := range parts {
		w := newWorker(s, part)
		fresh[i] = w
		wg.Go(func() {
			first, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if err := w.claim(first); err != nil {
				w.owner = nil
			}
			w.mu.Lock()
			at[i] = w.tail
			w.mu.Unlock()
		})
	}
	wg.Wait()
	out := map[int32]int64{}
	var stale []*worker
	s.mu.Lock()
	for i, part := range parts {
		out[part] = at[i]
		if old := s.workers[part]; old != nil {
			stale = append(stale, old)
		}
		s.workers[part] = fresh[i]
		fresh[i].started = true
		go fresh[i].run()
	}
	s.mu.Unlock()
	finish(stale)
	return out
}

// takeAll takes every partition without a group.
func (s *subscriber) takeAll(ctx context.Context) {
	parts := make([]int32, s.partitions)
	for i := range parts {
		parts[i] = int32(i) //nolint:gosec // a partition count
	}
	offsets := map[int32]kgo.Offset{}
	for part, at := range s.take(ctx, parts) {
		offsets[part] = kgo.NewOffset().At(at)
	}
	s.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{s.physical(): offsets})
}

// release ends the workers of partitions that we no longer have. Revoked: the next owner waits for us, so the running
// batch is finished. Lost: the next owner is at work already, so it is cut off; the fence refuses it anyway.
func (s *subscriber) release(parts map[string][]int32, lost bool) {
	<-s.opened
	var ending []*worker
	s.mu.Lock()
	for _, part := range parts[s.physical()] {
		if w := s.workers[part]; w != nil {
			ending = append(ending, w)
			delete(s.workers, part)
		}
	}
	s.mu.Unlock()
	if lost {
		for _, w := range ending {
			w.lose()
		}
	}
	finish(ending)
}

func (s *subscriber) poll(ctx context.Context) {
	outage := new(sync.Once)
	for {
		fetches := s.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Topic != s.physical() && p.Err != nil { // of the group as a whole
				outage.Do(func() {
					s.r.Log.Error("projection cannot join its group", "projection", s.r.Projection.ID(), "error", p.Err)
				})
				return
			}
			outage = new(sync.Once)
			s.mu.Lock()
			w := s.workers[p.Partition]
			s.mu.Unlock()
			if w != nil && p.Topic == s.physical() {
				w.deliver(p.Records, p.HighWatermark, p.Err)
			}
		})
	}
}

// tend looks every few seconds after what the batches do not need.
func (s *subscriber) tend(ctx context.Context) {
	if s.r.Alone {
		return
	}
	sent := map[int32]int64{}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A client does not always say that its topic is no more, and the new one's end may be below what we have.
		if err := s.same(ctx); err == nil {
			s.listen(ctx)
		}
		s.mirror(ctx, sent)
	}
}

// mirror commits offsets to the group, for the usual lag tools to show. Nothing reads them.
func (s *subscriber) mirror(ctx context.Context, sent map[int32]int64) {
	offsets := map[int32]kgo.EpochOffset{}
	for _, st := range s.status() {
		if st.Claimed && sent[st.Part] != st.NextOffset {
			offsets[st.Part], sent[st.Part] = kgo.EpochOffset{Epoch: -1, Offset: st.NextOffset}, st.NextOffset
		}
	}
	if len(offsets) > 0 {
		s.client.CommitOffsets(ctx, map[string]map[int32]kgo.EpochOffset{s.physical(): offsets}, nil)
	}
}

// deaf is after how many looks a partition that has records, and brings none, makes the client be replaced.
const deaf = 6

// listen compares what the broker has with what the client has brought. After a topic was made again and again, a client
// may wait for ever for the one that it knew, and without a word: then there must be another.
func (s *subscriber) listen(ctx context.Context) {
	ends, err := s.admin.ListEndOffsets(ctx, s.physical())
	if err != nil {
		return // a broker that is away tells by itself
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for part, w := range s.workers {
		if end, ok := ends.Lookup(s.physical(), part); ok && end.Err == nil && w.hears(end.Offset) > deaf {
			s.r.Log.Warn("projection hears nothing of its log; asking with another client", "projection", s.r.Projection.ID(),
				"topic", s.topic, "partition", part)
			s.replaced()
			return
		}
	}
}

// bounds asks the broker where a partition begins and ends.
func (s *subscriber) bounds(ctx context.Context, part int32) (start, end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	starts, err := s.admin.ListStartOffsets(ctx, s.physical())
	if err != nil {
		return 0, 0, fmt.Errorf("ask the broker for the start of %s: %w", s.topic, err)
	}
	ends, err := s.admin.ListEndOffsets(ctx, s.physical())
	if err != nil {
		return 0, 0, fmt.Errorf("ask the broker for the end of %s: %w", s.topic, err)
	}
	first, ok := starts.Lookup(s.physical(), part)
	last, ok2 := ends.Lookup(s.physical(), part)
	switch {
	case !ok || !ok2:
		return 0, 0, fmt.Errorf("the broker does not know %s/%d", s.topic, part)
	case first.Err != nil:
		return 0, 0, fmt.Errorf("ask the broker for the start of %s/%d: %w", s.topic, part, first.Err)
	case last.Err != nil:
		return 0, 0, fmt.Errorf("ask the broker for the end of %s/%d: %w", s.topic, part, last.Err)
	}
	return first.Offset, last.Offset, nil
}

// same makes sure that the topic is still the one that this client began with. Another one is looked at anew, and with
// another client. The only process of a system need not ask: what its topics are made from is in the same folder.
func (s *subscriber) same(ctx context.Context) error {
	if s.r.Alone {
		return nil
	}
	topics, err := s.admin.ListTopics(ctx, s.physical())
	if err != nil {
		return fmt.Errorf("ask the broker for topic %s: %w", s.topic, err)
	}
	if !another(s.id, topics[s.physical()].ID.String()) {
		return nil
	}
	s.replaced()
	return &TopicReplacedError{Topic: s.topic}
}

func (s *subscriber) seek(part int32, at int64) {
	s.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.physical(): {part: {Epoch: -1, Offset: at}}})
}

func (s *subscriber) pause(part int32) {
	s.client.PauseFetchPartitions(map[string][]int32{s.physical(): {part}})
}

func (s *subscriber) resume(parts ...int32) {
	s.client.ResumeFetchPartitions(map[string][]int32{s.physical(): parts})
}

func (s *subscriber) status() []PartitionStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]PartitionStatus, 0, len(s.workers))
	for _, w := range s.workers {
		out = append(out, w.standing())
	}
	return out
}
