package main

import (
	"context"
	"fmt"
	"time"

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
	moved := map[string]time.Time{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		if n.relay != nil && (n.relay.Leading() || n.alone) { // of several relays, the leader tells
			if events, age, err := n.relay.Lag(ctx); err == nil {
				n.tel.Metrics.Relay(events, age)
			}
		}
		if n.firer != nil {
			s := n.firer.Status()
			n.tel.Metrics.Timers(s.Due, s.Late(now))
		}
		var all []engine.PartitionStatus
		for _, r := range n.runners {
			status := r.Status()
			all = append(all, status...)
			if r.Projection.Target == engine.Redis {
				for _, s := range status {
					n.tel.Metrics.Refills(s.Projection, s.Topic, s.Part, s.Refills)
				}
			}
		}
		still := n.movement.note(all, now)
		n.movement.keep(all)
		for i, s := range all {
			key := fmt.Sprint(s.Projection, s.Topic, s.Part)
			if s.Lag() == 0 || moved[key].IsZero() {
				moved[key] = now
			}
			waits := now.Sub(moved[key]) // as far as we know, until the oldest record is here
			if !s.Oldest.IsZero() {
				waits = max(0, now.Sub(s.Oldest))
			}
			n.tel.Metrics.Projection(s.Projection, s.Topic, s.Part, s.Lag(), waits, s.Error != "", s.Filled)
			n.tel.Metrics.Still(s.Projection, s.Topic, s.Part, still[i])
		}
	}
}
