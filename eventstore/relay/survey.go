package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// Survey is how the log stands beside the store, as anybody can see it who has both, while some relay is at work.
type Survey struct {
	Position uint64        // the last that any partition's end names: a relay writes in the store's order, so the log has about what is before
	Head     uint64        // of the store, read after that
	Behind   time.Duration // age, by our clock, of the first event behind Position that belongs to the log; 0: there is none
	Missing  []string      // partitions that end before an event that they should have for long: "salon.booking.v1/2 ends at position 3, without position 7"
}

// settled is how old an event is that a relay at work has brought to the log, its partitions' ends being read one after the
// other.
const settled = 10 * time.Second

// Survey reads the last record of every partition and compares it with the store. A store that was restored behind the log
// is a RestoredError. recent are events of the store: those of one partition that come after its end are missing from it.
func (r *Relay) Survey(ctx context.Context, recent []eventstore.Recorded) (s Survey, err error) {
	ends, err := r.tails(ctx)
	if err != nil {
		return s, err
	}
	if err := r.verify(ctx, ends); err != nil {
		return s, err
	}
	for _, e := range ends {
		s.Position = max(s.Position, e.at.Position)
	}
	missing := map[partition]bool{}
	for _, e := range recent {
		p, relayed := partitionOf(e, r.Partitions)
		if at := ends[p].at.Position; relayed && !missing[p] && e.Position > at && e.Position <= s.Position && time.Since(e.RecordedAt) > settled {
			missing[p] = true
			s.Missing = append(s.Missing, fmt.Sprintf("%s/%d ends at position %d, without position %d", p.topic, p.part, at, e.Position))
		}
	}
	head, err := r.Store.Head(ctx)
	if err != nil {
		return s, fmt.Errorf("relay: head of the store: %w", err)
	}
	s.Head = head.Position
	for e, err := range r.Store.ReadAll(ctx, s.Position, eventstore.Filter{}) {
		if err != nil {
			return s, fmt.Errorf("relay: read the store after position %d: %w", s.Position, err)
		}
		if wire.TopicOf(e.Stream) != "" {
			s.Behind = max(1, time.Since(e.RecordedAt))
			break
		}
	}
	return s, nil
}

// Leader names the host of the relay that leads, and how many relays there are; "" when none does.
func (t Topics) Leader(ctx context.Context) (host string, relays int, err error) {
	client, err := t.open(ctx)
	if err != nil {
		return "", 0, err
	}
	defer client.Close()
	group := t.Prefix + "salon.relay"
	described, err := kadm.NewClient(client).DescribeGroups(ctx, group)
	if err == nil && !errors.Is(described[group].Err, kerr.GroupIDNotFound) { // there never was one
		err = described[group].Err
	}
	if err != nil {
		return "", 0, fmt.Errorf("ask Kafka at %s who relays: %w", strings.Join(t.Brokers, ","), err)
	}
	for _, m := range described[group].Members {
		relays++
		assigned, _ := m.Assigned.AsConsumer()
		for _, topic := range assigned.Topics {
			if topic.Topic == t.Prefix+LeaderTopic && len(topic.Partitions) > 0 {
				host = strings.TrimPrefix(m.ClientHost, "/")
			}
		}
	}
	return host, relays, nil
}

// Replicas says which partitions nobody leads, which is an error, and which have fewer replicas in sync than they should.
func (t Topics) Replicas(ctx context.Context) (replicas int, short []string, err error) {
	client, err := t.open(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer client.Close()
	names := make([]string, 0, len(wire.Topics()))
	for _, topic := range wire.Topics() {
		names = append(names, t.Prefix+topic)
	}
	listed, err := kadm.NewClient(client).ListTopics(ctx, names...)
	if err != nil {
		return 0, nil, fmt.Errorf("ask Kafka at %s for its topics: %w", strings.Join(t.Brokers, ","), err)
	}
	var nobody []string
	for _, l := range listed.Sorted() {
		replicas = max(replicas, l.Partitions.NumReplicas())
		for _, p := range l.Partitions.Sorted() {
			at := fmt.Sprintf("%s/%d", l.Topic, p.Partition)
			switch {
			case p.Err != nil || p.Leader < 0:
				nobody = append(nobody, at)
			case len(p.ISR) < len(p.Replicas):
				short = append(short, fmt.Sprintf("%s has %d of %d replicas in sync", at, len(p.ISR), len(p.Replicas)))
			}
		}
	}
	if len(nobody) > 0 {
		return replicas, short, fmt.Errorf("no broker leads %s: start the broker that has it again", strings.Join(nobody, ", "))
	}
	return replicas, short, nil
}
