package relay_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// BenchmarkRelay relays events from memory to the Kafka that SALON_TEST_KAFKA names. The ceiling writes the same records,
// made beforehand, in the same batches with the same client.
func BenchmarkRelay(b *testing.B) {
	address := os.Getenv("SALON_TEST_KAFKA")
	if address == "" {
		b.Fatal("SALON_TEST_KAFKA names no broker")
	}
	kafka := func(b *testing.B) broker {
		k := broker{strings.Split(address, ","), "relay-" + strings.ToLower(rand.Text()[:8]) + "."}
		if err := k.topics().Ensure(b.Context()); err != nil {
			b.Fatal(err)
		}
		return k
	}
	events := func(n int) *store {
		s := newStore()
		for i := range n {
			stream := fmt.Sprintf("groomer-%d", i%1000)
			s.events = append(s.events, eventstore.Recorded{
				Position: uint64(i + 1), Stream: stream, Revision: eventstore.Revision(i / 1000), ID: uuid.New(), Type: "reservation.requested.v1", Key: stream, //nolint:gosec // a count
				RecordedAt: time.Now().UTC(), Metadata: []byte(strings.Repeat("m", 250)), Data: []byte(strings.Repeat("d", 400)),
			})
		}
		return s
	}
	rate := func(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s") }
	b.Run("relay", func(b *testing.B) {
		k, s := kafka(b), events(b.N)
		r := k.relay(s)
		r.BatchEvents = 0
		b.ResetTimer()
		stop := start(b, r)
		for tick := time.Tick(time.Millisecond); r.Position() < uint64(b.N); { //nolint:gosec // a count
			<-tick
		}
		b.StopTimer()
		rate(b)
		if err := stop(); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("ceiling", func(b *testing.B) {
		k, s := kafka(b), events(b.N)
		records := make([]*kgo.Record, b.N)
		for i, e := range s.events {
			records[i] = k.record(wire.BookingTopic, eventstore.Partition(e.Key, partitions), wire.Record{Pos: e.Position, Event: e}.Headers(), e.Data)
			records[i].Key = []byte(e.Key)
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(k.addresses...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
			kgo.ProducerBatchMaxBytes(relay.MaxRecordBytes-64<<10), kgo.MaxBufferedRecords(2000), kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		b.ResetTimer()
		for rest := records; len(rest) > 0; {
			n := min(1000, len(rest))
			if err := client.ProduceSync(b.Context(), rest[:n]...).FirstErr(); err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
		b.StopTimer()
		rate(b)
	})
}
