package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore/wire"
)

// MaxRecordBytes is max.message.bytes of the topics: the largest event, base64 and headers, with room to spare.
const MaxRecordBytes = 2 << 20

// LeaderTopic has one partition and no records: who has it in the relays' consumer group is the leader.
const LeaderTopic = "salon.relay.v1"

// SealsTopic has one partition, with the head of each seal of the history: see [Heads].
const SealsTopic = "salon.seals.v1"

// Topics is what must be there before anything is relayed. The partition count is fixed for ever: it says which
// partition a key's events are in, and another one would swap them.
type Topics struct {
	Brokers      []string
	Prefix       string    // put before every topic
	Partitions   int       // of each topic of events
	Replication  int       // Defaults to 1, when topics are made
	KafkaOptions []kgo.Opt // TLS, SASL
}

// Ensure makes the topics that are missing and then checks them all.
//
// They are never compacted, and kept for ever: a projection reads the log from its beginning, and what retention
// took would be a hole. An operator who sets a retention should keep it longer than any projection may stand still.
func (t Topics) Ensure(ctx context.Context) error {
	client, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	replication := int16(max(1, t.Replication)) //nolint:gosec // a replica count
	configs := map[string]*string{
		"cleanup.policy":    new("delete"),
		"retention.ms":      new("-1"),
		"retention.bytes":   new("-1"),
		"max.message.bytes": new(strconv.Itoa(MaxRecordBytes)),
	}
	if replication >= 3 {
		configs["min.insync.replicas"] = new("2") // acks=all means two disks, not whoever is left
	}
	for _, topic := range wire.Topics() {
		if err := ensure(ctx, admin, t.Prefix+topic, int32(t.Partitions), replication, configs); err != nil { //nolint:gosec // a partition count
			return err
		}
	}
	if err := ensure(ctx, admin, t.Prefix+LeaderTopic, 1, replication, nil); err != nil {
		return err
	}
	if err := ensure(ctx, admin, t.Prefix+SealsTopic, 1, replication, configs); err != nil {
		return err
	}
	// A new topic is known to the controller before every broker can tell of it.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := t.check(ctx, admin, LeaderTopic, SealsTopic)
		if err == nil || !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

func ensure(ctx context.Context, admin *kadm.Client, topic string, partitions int32, replication int16, configs map[string]*string) error {
	_, err := admin.CreateTopic(ctx, partitions, replication, configs, topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("make topic %s: %w", topic, err)
	}
	return nil
}

// ErrPartitions says that a topic is there with another partition count: keys would be looked for where they are not.
var ErrPartitions = errors.New("wrong partition count")

// Check says what is wrong with the topics, and what to do: topics that are missing or have another partition count, that
// are compacted, or that take too small records. Warnings are what one may want otherwise, or what Kafka does not tell.
func (t Topics) Check(ctx context.Context) (warnings []string, err error) {
	return t.checkWith(ctx, LeaderTopic, SealsTopic)
}

// checkLog is Check of what a relay needs: events go on without the topic of the seals.
func (t Topics) checkLog(ctx context.Context) (warnings []string, err error) {
	return t.checkWith(ctx, LeaderTopic)
}

func (t Topics) checkWith(ctx context.Context, singles ...string) (warnings []string, err error) {
	client, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return t.check(ctx, kadm.NewClient(client), singles...)
}

// check looks at the topics of events, and at others that have one partition.
func (t Topics) check(ctx context.Context, admin *kadm.Client, singles ...string) (warnings []string, err error) {
	var names []string
	for _, topic := range append(wire.Topics(), singles...) {
		names = append(names, t.Prefix+topic)
	}
	slices.Sort(names)
	listed, err := admin.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("ask Kafka at %s for its topics: %w", strings.Join(t.Brokers, ","), err)
	}
	var wrong []error
	var missing missingError
	others := map[int][]string{} // by their partition count
	for _, name := range names {
		single := slices.Contains(singles, strings.TrimPrefix(name, t.Prefix))
		switch l, ok := listed[name]; {
		case !ok || errors.Is(l.Err, kerr.UnknownTopicOrPartition):
			missing = append(missing, name)
		case l.Err != nil:
			wrong = append(wrong, fmt.Errorf("topic %s: %w", name, l.Err))
		case single && len(l.Partitions) != 1:
			wrong = append(wrong, fmt.Errorf("%w: topic %s has %d, not 1: %s; give another --topic-prefix", ErrPartitions, name, len(l.Partitions), whyOne[strings.TrimPrefix(name, t.Prefix)]))
		case !single && len(l.Partitions) != t.Partitions:
			others[len(l.Partitions)] = append(others[len(l.Partitions)], name)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(others)) {
		wrong = append(wrong, fmt.Errorf("%w: %s: %d partitions, not %d: the count is fixed once events are in it; give --partitions %d, or another --topic-prefix",
			ErrPartitions, strings.Join(others[n], ", "), n, t.Partitions, n))
	}
	if len(missing) > 0 {
		wrong = append(wrong, missing)
	}
	warnings, badly := t.settings(ctx, admin, listed)
	return warnings, errors.Join(append(wrong, badly...)...)
}

// whyOne says what a topic with one partition has it for.
var whyOne = map[string]string{LeaderTopic: "whoever has the one leads", SealsTopic: "seals are one chain"}

// missingError names the topics that are not there. In Kafka's own words it is UNKNOWN_TOPIC_OR_PARTITION.
type missingError []string

func (e missingError) Error() string {
	return "missing in Kafka: " + strings.Join(e, ", ") + ": run `salon topics ensure`"
}

func (missingError) Unwrap() error { return kerr.UnknownTopicOrPartition }

func (t Topics) open(ctx context.Context) (*kgo.Client, error) {
	if t.Partitions < 1 {
		return nil, errors.New("topics: a partition count is needed")
	}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(t.Brokers...), kgo.ClientID("salon-topics"),
		kgo.WithContext(ctx),                      // else a broker that takes the connection and says nothing is waited for beyond it
		kgo.MetadataMinAge(50 * time.Millisecond), // what was missing a moment ago must not be answered from the cache
	}, t.KafkaOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	return client, nil
}
