package harness

import (
	"net"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Broker is a Kafka-protocol broker of the test's own, which can go away and come back with what it had.
type Broker struct {
	Addr    string
	dir     string
	cluster *kfake.Cluster // nil while it is away
}

// NewBroker starts one, until the end of the test.
func NewBroker(t testing.TB) *Broker {
	t.Helper()
	b := &Broker{Addr: Address(t), dir: t.TempDir()}
	b.Open(t)
	t.Cleanup(b.Close)
	return b
}

// Open starts it, at its address and with its log.
func (b *Broker) Open(t testing.TB) {
	t.Helper()
	_, port, err := net.SplitHostPort(b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	b.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(number), kfake.DataDir(b.dir), kfake.ClusterID("test"))
	if err != nil {
		t.Fatalf("open the broker: %v", err)
	}
}

// Close takes it away: every connection ends, and nothing answers.
func (b *Broker) Close() {
	if b.cluster != nil {
		b.cluster.Close()
		b.cluster = nil
	}
}
