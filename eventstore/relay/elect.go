package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// elect leads while this process has the one partition of LeaderTopic. The group works over any event store and needs
// nothing besides Kafka, without which there is nothing to lead. That a leader which lost the partition may go on for
// a moment does no harm: see the package's promise about any number of relays.
func (r *Relay) elect(ctx context.Context) error {
	session := r.SessionTimeout
	if session == 0 {
		session = 10 * time.Second
	}
	got, lost := make(chan struct{}, 1), make(chan struct{}, 1)
	note := func(c chan struct{}, parts map[string][]int32) {
		if len(parts[r.TopicPrefix+LeaderTopic]) > 0 {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.Brokers...),
		kgo.ClientID("salon-relay-election"),
		kgo.ConsumerGroup(r.TopicPrefix + "salon.relay"),
		kgo.ConsumeTopics(r.TopicPrefix + LeaderTopic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()), // the leader stays the leader when others come
		kgo.SessionTimeout(session),
		kgo.HeartbeatInterval(session / 5),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { note(got, p) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { note(lost, p) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { note(lost, p) }),
	}, r.KafkaOptions...)...)
	if err != nil {
		return fmt.Errorf("open Kafka: %w", err)
	}
	r.election.Store(client)
	defer r.election.Store(nil)
	polling, stop := context.WithCancel(ctx)
	failed := make(chan error, 1)
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		for polling.Err() == nil {
			// There are no records: polling is what tells of a group that cannot be joined.
			if err := client.PollFetches(polling).Err0(); err != nil && polling.Err() == nil {
				select {
				case failed <- fmt.Errorf("relay: election: %w", err):
				default:
				}
			}
		}
	}()
	defer func() {
		stop()
		<-polled
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		_ = client.LeaveGroupContext(leave) // so that another one leads at once
		client.Close()
	}()

	select {
	case <-got:
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
	term, resign := context.WithCancel(ctx)
	defer resign()
	ended := make(chan error, 1)
	go func() { ended <- r.lead(term) }()
	select {
	case err := <-ended:
		return err
	case <-lost:
		resign()
		<-ended //nolint:errcheck // whatever it says comes of having been stopped
		return errors.New("relay: another process leads")
	}
}
