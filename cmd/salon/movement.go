package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/engine"
)

// movement knows which partitions of the projections that run here stand still. Behind is no illness: a projection that
// catches up is well. Behind and not moving is one.
type movement struct {
	mu sync.Mutex
	at map[partitionOf]standing
}

type partitionOf struct {
	projection string // Projection.ID
	partition
}

type standing struct {
	offset int64
	since  time.Time // when it last moved, or had nothing to do
	lag    int64
	why    string
}

// note takes a look at partitions, and answers of each how long it has stood still with work before it; 0 is well.
func (m *movement) note(statuses []engine.PartitionStatus, now time.Time) []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == nil {
		m.at = map[partitionOf]standing{}
	}
	out := make([]time.Duration, len(statuses))
	for i, s := range statuses {
		key := partitionOf{s.Projection, partition{s.Topic, s.Part}}
		here, known := m.at[key]
		if !known || s.Lag() == 0 || s.NextOffset != here.offset {
			here.since = now
		}
		here.offset, here.lag, here.why = s.NextOffset, s.Lag(), s.Error
		m.at[key] = here
		out[i] = now.Sub(here.since)
	}
	return out
}

// keep forgets the partitions that are not here any more: another process has them.
func (m *movement) keep(statuses []engine.PartitionStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	here := map[partitionOf]bool{}
	for _, s := range statuses {
		here[partitionOf{s.Projection, partition{s.Topic, s.Part}}] = true
	}
	for key := range m.at {
		if !here[key] {
			delete(m.at, key)
		}
	}
}

// stuck describes the partitions of a projection that are behind and do not move; "" is all of them.
func (m *movement) stuck(projection string, now time.Time) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for key, s := range m.at {
		still := now.Sub(s.since)
		if projection != "" && key.projection != projection || s.lag == 0 || still <= admin.Still {
			continue
		}
		line := fmt.Sprintf("%s, %s/%d: %d records behind and not moving for %d s", key.projection, key.topic, key.part, s.lag, int(still.Seconds()))
		if s.why != "" {
			line += ": " + s.why
		}
		out = append(out, line)
	}
	return out
}
