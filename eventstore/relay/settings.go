package relay

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/dangdangsalon/salon/eventstore/wire"
)

// settings looks at how the topics that are kept for ever are set: those of events, and that of the seals. What would break the log's promises is an error with the command
// that mends it; what makes losses likelier, or healing necessary, is a warning.
//
// The acknowledgements are the relay's own setting (all in-sync replicas); how many those are is the topic's.
func (t Topics) settings(ctx context.Context, admin *kadm.Client, listed kadm.TopicDetails) (warnings []string, wrong []error) {
	var names []string
	for _, topic := range append(wire.Topics(), SealsTopic) {
		if l, ok := listed[t.Prefix+topic]; ok && l.Err == nil {
			names = append(names, t.Prefix+topic)
		}
	}
	slices.Sort(names)
	configs, err := admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return []string{fmt.Sprintf("Kafka does not tell how the topics are set (%v): see yourself that %s", err, wanted)}, nil
	}
	for _, name := range names {
		c, err := configs.On(name, nil)
		if err == nil {
			err = c.Err
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("Kafka does not tell how topic %s is set (%v): see yourself that %s", name, err, wanted))
			continue
		}
		values := map[string]string{}
		for _, v := range c.Configs {
			values[v.Key] = v.MaybeValue()
		}
		w, e := t.judge(name, listed[name].Partitions.NumReplicas(), values)
		warnings, wrong = append(warnings, w...), append(wrong, e...)
	}
	return warnings, wrong
}

var wanted = fmt.Sprintf("cleanup.policy is delete, max.message.bytes at least %d, retention unlimited, and min.insync.replicas 2 where there are three replicas", MaxRecordBytes)

// judge is about one topic. A setting that Kafka does not name is at Kafka's default, of which only the size is too
// small: whoever does not tell it is asked for it.
func (t Topics) judge(topic string, replicas int, values map[string]string) (warnings []string, wrong []error) {
	alter := func(setting string) string {
		return fmt.Sprintf("run `kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config %s`", strings.Join(t.Brokers, ","), topic, setting)
	}
	number := func(name string) (int64, bool) {
		n, err := strconv.ParseInt(values[name], 10, 64)
		return n, err == nil
	}
	if policy := values["cleanup.policy"]; strings.Contains(policy, "compact") {
		wrong = append(wrong, fmt.Errorf("topic %s: cleanup.policy is %s: compaction takes events away from the middle of a log; %s",
			topic, policy, alter("cleanup.policy=delete")))
	}
	if n, ok := number("max.message.bytes"); ok && n < MaxRecordBytes {
		wrong = append(wrong, fmt.Errorf("topic %s: max.message.bytes is %d: the largest events would be refused; %s",
			topic, n, alter("max.message.bytes="+strconv.Itoa(MaxRecordBytes))))
	}
	if n, ok := number("min.insync.replicas"); ok && n < 2 && replicas >= 3 {
		warnings = append(warnings, fmt.Sprintf("topic %s: min.insync.replicas is %d of %d replicas: an event counts as relayed when one broker has it, and is lost from the log with that one; %s",
			topic, n, replicas, alter("min.insync.replicas=2")))
	}
	for _, name := range []string{"retention.ms", "retention.bytes"} {
		if n, ok := number(name); ok && n >= 0 {
			what := "a projection that stands still for longer than that finds its records gone, and reads them from the event store instead"
			if topic == t.Prefix+SealsTopic {
				what = "what it takes of the heads of seals, no history can be compared with"
			}
			warnings = append(warnings, fmt.Sprintf("topic %s: %s is %d: %s; %s", topic, name, n, what, alter(name+"=-1")))
		}
	}
	if values["unclean.leader.election.enable"] == "true" {
		warnings = append(warnings, fmt.Sprintf("topic %s: unclean.leader.election.enable is true: a broker that lacks the end of the log may take it over; %s",
			topic, alter("unclean.leader.election.enable=false")))
	}
	return warnings, wrong
}
