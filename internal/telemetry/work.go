package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Relay is how this process's relay is.
type Relay struct {
	Leads   bool
	Stopped bool // for good: the store is behind the log
	// Lag is how far the log is behind the store; nil where another process leads, or the store does not tell.
	Lag *RelayLag
}

// RelayLag is how many positions are not in the log, and the age of the oldest.
type RelayLag struct {
	Events uint64
	Behind time.Duration
}

type relayBoard struct {
	board
	leads, stopped, events, behind *prometheus.Desc
}

func newRelayBoard() *relayBoard {
	b := &relayBoard{}
	b.leads = b.family("salon_relay_leads", "1 while this process's relay is the one at work.")
	b.stopped = b.family("salon_relay_stopped", "1 when this process's relay has stopped for good: the event store was restored behind Kafka.")
	b.events = b.family("salon_relay_lag_events", "Positions between the store's head and the relay, where it leads. On EventStoreDB positions are not counts.")
	b.behind = b.family("salon_relay_lag_seconds", "Age of the oldest event that is not in Kafka yet, where the relay leads.")
	return b
}

// Relay notes how the relay is.
func (m *Metrics) Relay(r Relay) {
	b, out := m.relay, sheet{}
	out.add(b.leads, one(r.Leads))
	out.add(b.stopped, one(r.Stopped))
	if r.Lag != nil {
		out.add(b.events, float64(r.Lag.Events))
		out.add(b.behind, r.Lag.Behind.Seconds())
	}
	b.show(out)
}

// Partition is how one partition of a projection is that this process has.
type Partition struct {
	Projection, Topic string
	Part              int32
	Lag               int64         // records between the log's end and the stored offset
	Behind            time.Duration // how long the oldest of them has been waiting
	Still             time.Duration // how long it has been behind without moving
	Stopped           bool          // by an error
	Filled            int64         // events that the log lacked and the store had
	Refills           int           // times that a view had lost something; of Redis views
	View              bool          // it is a Redis view
}

type partitionBoard struct {
	board
	lag, behind, still, stopped, filled, refills *prometheus.Desc
}

func newPartitionBoard() *partitionBoard {
	b := &partitionBoard{}
	of := []string{"projection", "topic", "partition"}
	b.lag = b.family("salon_projection_lag_events", "Records between the log's end and the stored offset.", of...)
	b.behind = b.family("salon_projection_lag_seconds", "How long the oldest record that is not applied has been waiting, since its event was recorded; 0 when there is none.", of...)
	b.still = b.family("salon_projection_still_seconds", "How long a projection's partition has been behind without moving: its health.", of...)
	b.stopped = b.family("salon_projection_partition_stopped", "1 while a partition is stopped by an error.", of...)
	b.filled = b.family("salon_projection_filled_events", "Events that the log lacked and the event store had, since this process has the partition.", of...)
	b.refills = b.family("salon_projection_refills", "Times that a Redis view had lost something and was filled again from its table, since this process has the partition.", of...)
	return b
}

// Partitions notes how the partitions are that this process has.
func (m *Metrics) Partitions(all []Partition) {
	b, out := m.partitions, sheet{}
	for _, p := range all {
		of := []string{p.Projection, p.Topic, strconv.Itoa(int(p.Part))}
		out.add(b.lag, float64(p.Lag), of...)
		out.add(b.behind, p.Behind.Seconds(), of...)
		out.add(b.still, p.Still.Seconds(), of...)
		out.add(b.stopped, one(p.Stopped), of...)
		out.add(b.filled, float64(p.Filled), of...)
		if p.View {
			out.add(b.refills, float64(p.Refills), of...)
		}
	}
	b.show(out)
}
