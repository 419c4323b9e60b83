package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
)

// Heads keeps the heads of seals in SealsTopic: the key of a record is the number of the block, its value the signed note.
// Whoever can change the store and sign cannot take back what is there, as long as they cannot delete from Kafka.
//
// A head may be there more than once, and behind later ones: sealers do not wait for each other. The first of a block counts:
// what comes behind it, under whatever signature, replaces nothing.
type Heads struct {
	Brokers      []string
	Prefix       string    // put before the topic
	KafkaOptions []kgo.Opt // TLS, SASL
}

// headsWait bounds each request, so that a Kafka that is away does not hold up sealing.
const headsWait = 5 * time.Second

// headsBatch is how many heads are written at once.
const headsBatch = 500

// Last is the seal of the last record, its block and its note; the block is 0 when there is none.
func (h *Heads) Last(ctx context.Context) (last eventstore.Seal, err error) {
	err = h.read(ctx, func(first, end int64) int64 { return max(first, end-1) }, func(s eventstore.Seal) { last = s })
	return last, err
}

// All are the notes by their block.
func (h *Heads) All(ctx context.Context) (notes map[uint64]string, err error) {
	notes = map[uint64]string{}
	err = h.read(ctx, func(first, _ int64) int64 { return first }, func(s eventstore.Seal) {
		if _, there := notes[s.Block]; !there {
			notes[s.Block] = string(s.Note)
		}
	})
	return notes, err
}

// Keep writes heads in their order, and waits until every in-sync replica has them.
func (h *Heads) Keep(ctx context.Context, seals iter.Seq2[eventstore.Seal, error]) error {
	var client *kgo.Client
	var records []*kgo.Record
	write := func() (err error) {
		if client == nil {
			if client, err = h.open(kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
				kgo.StopProducerOnDataLossDetected(), kgo.RecordDeliveryTimeout(headsWait)); err != nil {
				return err
			}
		}
		if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return h.failed("write", err)
		}
		records = records[:0]
		return nil
	}
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	for s, err := range seals {
		if err != nil {
			return err
		}
		records = append(records, &kgo.Record{Topic: h.Prefix + SealsTopic, Key: strconv.AppendUint(nil, s.Block, 10), Value: s.Note})
		if len(records) == headsBatch {
			if err := write(); err != nil {
				return err
			}
		}
	}
	if len(records) == 0 {
		return nil
	}
	return write()
}

// read tells of the records that are there now, from an offset on.
func (h *Heads) read(ctx context.Context, from func(first, end int64) int64, tell func(eventstore.Seal)) error {
	client, err := h.open()
	if err != nil {
		return err
	}
	defer client.Close()
	first, end, err := h.bounds(ctx, kadm.NewClient(client))
	if err != nil {
		return h.failed("read", err)
	}
	at := from(first, end)
	if at >= end {
		return nil
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{h.Prefix + SealsTopic: {0: kgo.NewOffset().At(at)}})
	for at < end {
		fetched, cancel := context.WithTimeout(ctx, headsWait)
		fetches := client.PollFetches(fetched)
		cancel()
		if err := fetches.Err(); err != nil {
			return h.failed("read", err)
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			if r.Offset >= end {
				return nil
			}
			block, err := strconv.ParseUint(string(r.Key), 10, 64)
			if err != nil || block == 0 {
				return fmt.Errorf("topic %s, offset %d: not the head of a seal", r.Topic, r.Offset)
			}
			tell(eventstore.Seal{Block: block, Note: r.Value})
			at = r.Offset + 1
		}
	}
	return nil
}

// bounds are the offsets of the first record and behind the last one.
func (h *Heads) bounds(ctx context.Context, admin *kadm.Client) (first, end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, headsWait)
	defer cancel()
	topic := h.Prefix + SealsTopic
	for of, list := range map[*int64]func(context.Context, ...string) (kadm.ListedOffsets, error){&first: admin.ListStartOffsets, &end: admin.ListEndOffsets} {
		listed, err := list(ctx, topic)
		if err != nil {
			return 0, 0, err
		}
		o, there := listed.Lookup(topic, 0)
		switch {
		case !there:
			return 0, 0, kerr.UnknownTopicOrPartition
		case o.Err != nil:
			return 0, 0, o.Err
		}
		*of = o.Offset
	}
	return first, end, nil
}

func (h *Heads) open(with ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(append([]kgo.Opt{
		kgo.SeedBrokers(h.Brokers...), kgo.ClientID("salon-seals"), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	}, with...), h.KafkaOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	return client, nil
}

func (h *Heads) failed(what string, err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return missingError{h.Prefix + SealsTopic}
	}
	return fmt.Errorf("%s the heads of seals in topic %s: %w", what, h.Prefix+SealsTopic, err)
}
