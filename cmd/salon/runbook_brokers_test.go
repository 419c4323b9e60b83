package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/internal/harness"
)

// A broker joins, and takes everything over from the one that was there, by the book, while a system runs.
func TestTheRunbookAddsABroker(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	own := harness.NewKafka(t, 1)
	k := &kept{cluster: newCluster(t, harness.Postgres(t), own.Addrs()[0], "", harness.MySQL(t), harness.Redis(t)), partitions: clusterPartitions}
	k.prepare(t)
	k.start(t)
	first, tokenOfFirst := k.books(t, 1, "first")
	k.sees(t, "a write", first, tokenOfFirst, http.StatusOK)
	own.Join(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(own.Addrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	rb := newRunbook(t, k.env()...)
	for name, class := range map[string]string{
		"kafka-topics.sh": "org.apache.kafka.tools.TopicCommand", "kafka-reassign-partitions.sh": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
	} {
		rb.command(name, own.Brokers[0].Tool(class)...)
	}
	for _, brokers := range [][]string{{"1", "2"}, {"2"}} {
		rb.run("brokers", "DIR="+t.TempDir(), "BROKERS="+strings.Join(brokers, ","))
		wait(t, time.Minute, func() string { // the controller knows at once, and tells each broker
			if got := holders(t, client); !slices.Equal(got, brokers) {
				return fmt.Sprintf("partitions are on brokers %v, not %v", got, brokers)
			}
			return ""
		})
		path, token := k.books(t, 2, "then-"+strings.Join(brokers, "-"))
		k.sees(t, "a write on brokers "+strings.Join(brokers, ","), path, token, http.StatusOK)
	}
	k.equal(t)
	k.end(t)
}

// holders are the brokers that have partitions.
func holders(t *testing.T, client *kgo.Client) (brokers []string) {
	t.Helper()
	topics, err := kadm.NewClient(client).ListTopicsWithInternal(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		for _, r := range p.Replicas {
			if id := string('0' + r); !slices.Contains(brokers, id) {
				brokers = append(brokers, id)
			}
		}
	})
	slices.Sort(brokers)
	return brokers
}
