package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// TestChatOutlivesTheServersBehindIt takes Kafka from everybody, and Redis and the event store from one of two live nodes,
// cut off and silent, while people talk over both. What can go on goes on; at the end each transcript is its room's stream.
func TestChatOutlivesTheServersBehindIt(t *testing.T) {
	harness.NeedsServers(t)
	broker := harness.NewBroker(t)
	c := newCluster(t, harness.Postgres(t), broker.Addr, "", harness.MySQL(t), harness.Redis(t))
	c.prepare(t)
	hurt := *c
	var store, redis *harness.Proxy
	hurt.events, store = harness.Through(t, c.events)
	hurt.redis, redis = harness.Through(t, c.redis)
	p := newLounge(t, c, &hurt, 4)
	p.everybodyTalks()

	for _, away := range awayFrom(t, redis) {
		away.take()
		p.everybodyTalks()
		for _, r := range p.pairs {
			r.onHurt.Typing(r.room)
		}
		p.everybodyTalks()
		away.restore()
		t.Logf("Redis was %s for one node", away.how)
	}

	broker.Close()
	for _, r := range p.pairs {
		p.posts(r, r.onHurt) // the store has it; the other node hears of it by Redis
		p.posts(r, r.onWhole)
	}
	broker.Open(t)
	p.everybodyTalks()
	t.Log("Kafka was away")

	for _, away := range awayFrom(t, store) {
		away.take()
		for _, r := range p.pairs {
			p.posts(r, r.onWhole)
			p.arrives(r, r.near, r.far) // delivery goes on at both
		}
		var refused *liveclient.RejectedError
		if err := p.say(p.pairs[0], p.pairs[0].onHurt, 2*time.Second); err == nil || errors.As(err, &refused) { // refused for now, and tried again
			t.Errorf("a post without the store: %v", err)
		}
		away.restore()
		p.everybodyTalks()
		t.Logf("the store was %s for one node", away.how)
	}

	p.compare()
	for _, r := range p.pairs {
		if there, ok := p.presence.Load(r.room); !ok || there != true {
			t.Errorf("the salon of room %s was not told that its customer is there", r.room)
		}
	}
}

// away is a way in which servers are away, and come back.
type away struct {
	how           string
	take, restore func()
}

func awayFrom(t *testing.T, proxies ...*harness.Proxy) []away {
	each := func(do func(*harness.Proxy)) func() {
		return func() {
			for _, p := range proxies {
				do(p)
			}
		}
	}
	return []away{
		{"cut off", each((*harness.Proxy).Cut), each(func(p *harness.Proxy) { p.Restore(t) })},
		{"silent", each((*harness.Proxy).Freeze), each((*harness.Proxy).Thaw)},
	}
}

// TestChatOutlivesABroker talks over three real brokers. The one that leads a room's partition is killed, and comes back,
// twice; then Kafka is taken from one of the two live nodes alone. What a node sent to each socket is the room's stream,
// every message once and in order.
func TestChatOutlivesABroker(t *testing.T) {
	harness.NeedsServers(t)
	kafka := harness.NewKafka(t, 3)
	c := newCluster(t, harness.Postgres(t), strings.Join(kafka.Addrs(), ","), "", harness.MySQL(t), harness.Redis(t))
	topics := relay.Topics{Brokers: kafka.Addrs(), Partitions: clusterPartitions, Replication: 3}
	if err := topics.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.prepare(t)
	hurt := *c
	hurt.kafka = strings.Join(kafka.Ways(), ",")
	p := newLounge(t, c, &hurt, 6)
	p.everybodyTalks()

	for _, r := range p.pairs[:2] {
		leader := kafka.Leader(t, chatrooms.Topic, engine.PartitionOf(r.room, clusterPartitions))
		quiet := p.murmur()
		leader.Kill()
		p.everybodyTalks() // with two of three
		leader.Start(t)
		kafka.InSync(t)
		p.everybodyTalks()
		quiet()
		t.Logf("broker %d was killed", leader.ID)
	}

	var ways []*harness.Proxy
	for _, b := range kafka.Brokers {
		ways = append(ways, b.Way)
	}
	for _, away := range awayFrom(t, ways...) {
		away.take()
		aloneWithoutKafka(t, p)
		away.restore()
		p.everybodyTalks()
		t.Logf("Kafka was %s for one node", away.how)
	}
	p.compare()
}

// aloneWithoutKafka is what people see of a node that the log does not reach, while the other hears it.
func aloneWithoutKafka(t *testing.T, p *lounge) {
	t.Helper()
	mailed, others := p.pairs[0], p.pairs[1]
	for range 3 {
		p.everybodyTalks() // what is posted by sockets comes by Redis, both ways
	}
	before := mailed.near.last()
	p.mail(mailed) // nobody gives a hint of this one
	for range 3 {
		p.posts(mailed, mailed.onWhole) // so these have to wait: they are not the next that the node knows of
		p.posts(mailed, mailed.onHurt)
	}
	p.arrives(mailed, mailed.far) // who is at the other node waits for nothing
	left := p.leave()
	p.posts(left, left.onWhole) // nor does the node know that somebody left, who must not hear this
	p.arrives(left, left.far)

	// Hints come in the order in which they were given: when those of another room are there, the ones before them were
	// there as well, and were not taken.
	for range 3 {
		p.posts(others, others.onWhole)
		p.posts(others, others.onHurt)
		p.arrives(others, others.near, others.far)
	}
	if now := mailed.near.last(); now != before {
		t.Errorf("message %d was shown without message %d, which only the log brings", now, before+1)
	}
	if now := left.near.last(); now != left.bye {
		t.Errorf("message %d was shown to who left after message %d", now, left.bye)
	}
}
