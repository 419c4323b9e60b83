package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/internal/telemetry"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

// committed is told of every batch that a projection committed.
func (n *node) committed(a engine.Applied) {
	if !a.Way.Recorded.IsZero() { // of what was filled from the store, and of markers, the log tells no way
		for i, took := range a.Way.Took() {
			n.tel.Metrics.Stage(a.Projection, engine.Stages[i], took)
		}
	}
	if n.applied != nil {
		n.applied(a)
	}
}

// seen is told how the runs of this process are.
func (n *node) seen(r rebuild.Run) {
	numbers := map[string]int64{"done": r.Done, "total": r.Total, "events": r.Events, "rows": r.Rows, "per_second": r.Rate}
	if r.Ended() {
		numbers = nil
	}
	n.tel.Metrics.Run(r.VersionID(), string(r.Kind), r.Phase, numbers)
}

// observe turns what the parts know of themselves into metrics, each second.
func (n *node) observe(ctx context.Context) error {
	arrived := map[string]time.Time{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		if n.relay != nil {
			n.tel.Metrics.Relay(n.relayHere(ctx))
		}
		if n.firer != nil {
			s := n.firer.Status()
			n.tel.Metrics.Timers(s.Due, s.Late(now))
		}
		if len(n.runners) > 0 {
			n.tel.Metrics.Partitions(n.partitionsHere(arrived, now))
		}
	}
}

// relayHere is how this process's relay is. Of several, the leader tells how far it is.
func (n *node) relayHere(ctx context.Context) telemetry.Relay {
	r := telemetry.Relay{Leads: n.relay.Leading(), Stopped: n.relayEnded.Load()}
	if r.Leads || n.alone {
		if events, age, err := n.relay.Lag(ctx); err == nil {
			r.Lag = &telemetry.RelayLag{Events: events, Behind: age}
		}
	}
	return r
}

// partitionsHere is how the partitions are that this process has. arrived is what it remembers from one look to the next: since
// when a partition has had something to do, or is here.
func (n *node) partitionsHere(arrived map[string]time.Time, now time.Time) []telemetry.Partition {
	var all []engine.PartitionStatus
	var out []telemetry.Partition
	for _, r := range n.runners {
		for _, s := range r.Status() {
			key := fmt.Sprint(s.Projection, s.Topic, s.Part)
			if s.Lag() == 0 || arrived[key].IsZero() {
				arrived[key] = now
			}
			waits := now.Sub(arrived[key]) // as far as we know, until the oldest record is here
			if !s.Oldest.IsZero() {
				waits = max(0, now.Sub(s.Oldest))
			}
			all = append(all, s)
			out = append(out, telemetry.Partition{
				Projection: s.Projection, Topic: s.Topic, Part: s.Part, Lag: s.Lag(), Behind: waits, Stopped: s.Error != "",
				Filled: s.Filled, Refills: s.Refills, View: r.Projection.Target == engine.Redis,
			})
		}
	}
	for i, still := range n.movement.note(all, now) {
		out[i].Still = still
	}
	n.movement.keep(all)
	return out
}
