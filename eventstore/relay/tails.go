package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore/wire"
)

// tails reads the last record of every partition.
func (r *Relay) tails(ctx context.Context) (map[partition]end, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.Brokers...),
		kgo.ClientID("salon-relay-tails"),
		kgo.WithContext(ctx),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}, r.KafkaOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)

	ends := map[partition]end{}
	waiting := map[partition]bool{}
	assign := map[string]map[int32]kgo.Offset{}
	for _, topic := range wire.Topics() {
		starts, err := admin.ListStartOffsets(ctx, r.TopicPrefix+topic)
		if err != nil {
			return nil, fmt.Errorf("relay: start of %s: %w", topic, err)
		}
		stops, err := admin.ListEndOffsets(ctx, r.TopicPrefix+topic)
		if err != nil {
			return nil, fmt.Errorf("relay: end of %s: %w", topic, err)
		}
		if err := errors.Join(starts.Error(), stops.Error()); err != nil {
			return nil, fmt.Errorf("relay: bounds of %s: %w", topic, err)
		}
		for i := range r.Partitions {
			p := partition{topic, int32(i)} //nolint:gosec // a partition count
			first, _ := starts.Lookup(r.TopicPrefix+topic, p.part)
			stop, _ := stops.Lookup(r.TopicPrefix+topic, p.part)
			ends[p] = end{offset: stop.Offset - 1}
			if stop.Offset > first.Offset {
				waiting[p] = true
				if assign[r.TopicPrefix+topic] == nil {
					assign[r.TopicPrefix+topic] = map[int32]kgo.Offset{}
				}
				assign[r.TopicPrefix+topic][p.part] = kgo.NewOffset().At(stop.Offset - 1)
			}
		}
	}
	if len(waiting) == 0 {
		return ends, nil
	}
	client.AddConsumePartitions(assign)
	for len(waiting) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("relay: read the ends of the log: %w", err)
		}
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("relay: read the ends of the log: %w", err)
		}
		for rec := range fetches.RecordsAll() {
			p := partition{rec.Topic[len(r.TopicPrefix):], rec.Partition}
			e, err := parseEnd(rec)
			if err != nil {
				return nil, fmt.Errorf("relay: last record of %s/%d: %w", p.topic, p.part, err)
			}
			ends[p] = e
			delete(waiting, p)
		}
	}
	return ends, nil
}

func parseEnd(rec *kgo.Record) (end, error) {
	get := func(name string) string { return value(rec, name) }
	if wire.IsMarker(get) {
		m, err := wire.ParseMarker(get)
		return endOfMarker(m, rec.Offset), err
	}
	w, err := wire.Parse(get, rec.Value)
	return endOf(w, rec.Offset), err
}

func value(rec *kgo.Record, name string) string {
	for i := range rec.Headers {
		if rec.Headers[i].Key == name {
			return string(rec.Headers[i].Value)
		}
	}
	return ""
}
