package relay_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// set changes one setting of a topic.
func (b broker) set(t *testing.T, topic, name, value string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addresses...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	answers, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, b.prefix+topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answers.On(b.prefix+topic, func(a *kadm.AlterConfigsResponse) error { return a.Err }); err != nil {
		t.Fatal(err)
	}
	for { // the broker that is asked learns of it a moment later
		configs, err := admin.DescribeTopicConfigs(t.Context(), b.prefix+topic)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range configs[0].Configs {
			if c.Key == name && c.MaybeValue() == value {
				return
			}
		}
	}
}

func TestSettingsThatLoseEventsAreRefusedAndOthersToldOf(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, b broker) {
		b.ensure(t)
		if warnings, err := b.topics().Check(t.Context()); err != nil || len(warnings) > 0 {
			t.Fatalf("as they were made: %v, %v", warnings, err)
		}
		for _, c := range []struct {
			name, value, then string
			refused           bool
		}{
			{"cleanup.policy", "compact", "delete", true},
			{"cleanup.policy", "compact,delete", "delete", true},
			{"max.message.bytes", "1048588", "2097152", true},
			{"retention.ms", "604800000", "-1", false},
			{"retention.bytes", "1073741824", "-1", false},
			{"unclean.leader.election.enable", "true", "false", false},
		} {
			b.set(t, wire.ChatTopic, c.name, c.value)
			warnings, err := b.topics().Check(t.Context())
			told := strings.Join(warnings, "\n")
			if c.refused {
				if err == nil || len(warnings) > 0 {
					t.Errorf("%s=%s: %v, %v, want it refused", c.name, c.value, warnings, err)
					continue
				}
				told = err.Error()
				if err := b.relay(newStore()).Run(t.Context()); err == nil || err.Error() != told {
					t.Errorf("a relay with %s=%s: %v", c.name, c.value, err)
				}
			} else if err != nil {
				t.Errorf("%s=%s: %v, want a warning", c.name, c.value, err)
			}
			if !containsAll(told, b.prefix+wire.ChatTopic, c.name, c.value, "kafka-configs.sh") || strings.Contains(told, wire.BookingTopic) {
				t.Errorf("%s=%s is told of as: %s", c.name, c.value, told)
			}
			b.set(t, wire.ChatTopic, c.name, c.then)
		}
		if warnings, err := b.topics().Check(t.Context()); err != nil || len(warnings) > 0 {
			t.Errorf("set back: %v, %v", warnings, err)
		}
	})
}

func TestOneReplicaThatAcknowledgesForThreeIsWarnedOf(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	topics := relay.Topics{Brokers: cluster.ListenAddrs(), Partitions: partitions, Replication: 3}
	if err := topics.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if warnings, err := topics.Check(t.Context()); err != nil || len(warnings) > 0 {
		t.Fatalf("as they were made: %v, %v", warnings, err)
	}
	b := broker{addresses: cluster.ListenAddrs()}
	b.set(t, wire.BookingTopic, "min.insync.replicas", "1")
	if warnings, err := topics.Check(t.Context()); err != nil || len(warnings) != 1 || !containsAll(warnings[0], "min.insync.replicas is 1 of 3") {
		t.Errorf("%v, %v", warnings, err)
	}
}

// Managed Kafka often tells nothing of its settings.
func TestSettingsThatKafkaDoesNotTellAreWarnedOf(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	topics := relay.Topics{Brokers: cluster.ListenAddrs(), Partitions: partitions}
	if err := topics.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	const topicAuthorizationFailed = 29
	cluster.ControlKey(int16(kmsg.DescribeConfigs), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := r.(*kmsg.DescribeConfigsRequest)
		answer := asked.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, resource := range asked.Resources {
			answer.Resources = append(answer.Resources, kmsg.DescribeConfigsResponseResource{
				ErrorCode: topicAuthorizationFailed, ResourceType: resource.ResourceType, ResourceName: resource.ResourceName,
			})
		}
		return answer, nil, true
	})
	warnings, err := topics.Check(t.Context())
	if err != nil || len(warnings) != 1 || !containsAll(warnings[0], "TOPIC_AUTHORIZATION_FAILED", "see yourself", "max.message.bytes at least 2097152") {
		t.Errorf("%q, %v", warnings, err)
	}
}
