package notify

import (
	"context"
	"strconv"
	"sync"

	"github.com/IBM/sarama"
)

// claims know whether a partition is still ours. watermill-kafka does not say so: its messages have the subscription's
// context, not the session's. But it lets a tracer wrap what it gives to sarama, and there the sessions pass by.
type claims struct{ sessions sync.Map } // topic/partition → context.Context

// with is a context that ends with parent or with the claim; lost tells which it was.
func (c *claims) with(parent context.Context, topic string, part int32) (ctx context.Context, lost func() bool, release func()) {
	ctx, cancel := context.WithCancel(parent)
	session, ok := c.sessions.Load(claimKey(topic, part))
	if !ok {
		return ctx, func() bool { return false }, cancel
	}
	of := session.(context.Context)
	stop := context.AfterFunc(of, cancel)
	return ctx, func() bool { return of.Err() != nil }, func() {
		stop()
		cancel()
	}
}

func claimKey(topic string, part int32) string { return topic + "/" + strconv.Itoa(int(part)) }

// WrapConsumerGroupHandler is kafka.SaramaTracer's, and the only one that does anything.
func (c *claims) WrapConsumerGroupHandler(h sarama.ConsumerGroupHandler) sarama.ConsumerGroupHandler {
	return claiming{h, c}
}

// WrapConsumer is kafka.SaramaTracer's.
func (c *claims) WrapConsumer(k sarama.Consumer) sarama.Consumer { return k }

// WrapPartitionConsumer is kafka.SaramaTracer's.
func (c *claims) WrapPartitionConsumer(k sarama.PartitionConsumer) sarama.PartitionConsumer { return k }

// WrapSyncProducer is kafka.SaramaTracer's.
func (c *claims) WrapSyncProducer(_ *sarama.Config, p sarama.SyncProducer) sarama.SyncProducer {
	return p
}

type claiming struct {
	sarama.ConsumerGroupHandler
	claims *claims
}

// ConsumeClaim runs as long as the claim is ours; sarama begins no other session of this member before it returned.
func (c claiming) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	key := claimKey(claim.Topic(), claim.Partition())
	c.claims.sessions.Store(key, session.Context())
	defer c.claims.sessions.Delete(key)
	return c.ConsumerGroupHandler.ConsumeClaim(session, claim)
}
