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
	r, p := &Relay{}, partition{wire.BookingTopic, 0}
	send := func(ends map[partition]end) error {
		records := []*kgo.Record{record("", p, wire.Record{Pos: 8, Prev: 7, Event: eventstore.Recorded{Key: "k"}})}
		return r.produce(t.Context(), producer, ends, map[partition]end{p: {pos: 8}}, records)
	}
	if err := send(map[partition]end{p: {pos: 7, offset: -1}}); err != nil {
		t.Fatal(err)
	}
	if err := send(map[partition]end{p: {pos: 7, offset: 6}}); !errors.Is(err, ErrTailLost) {
		t.Errorf("got %v, want a lost tail", err)
	}
}
