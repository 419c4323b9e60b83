package relay

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// A broker that lost a producer's state takes any sequence: the offset is the only sign.
func TestAnAcknowledgedOffsetThatDoesNotGrowIsALostTail(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	if err := (Topics{Brokers: cluster.ListenAddrs(), Partitions: 1}).Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	p := partition{wire.BookingTopic, 0}
	send := func(e end) error {
		c := newChain(map[partition]end{p: e}, 1, "")
		term := newTerm(&Relay{}, producer, c)
		_, w, write := c.next(eventstore.Recorded{Position: 8, Stream: "groomer-k", Key: "k"})
		if !write {
			t.Fatal("not to be written")
		}
		return term.produce(t.Context(), []*kgo.Record{record("", p, w)})
	}
	if err := send(end{at: wire.Place{Position: 7}, offset: -1}); err != nil {
		t.Fatal(err)
	}
	if err := send(end{at: wire.Place{Position: 7}, offset: 6}); !errors.Is(err, ErrTailLost) {
		t.Errorf("got %v, want a lost tail", err)
	}
}
