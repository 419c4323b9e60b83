package faulttest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// spoiled appends an event that no target can fold, to a key that goes on; waits until each has parked the key; mends the
// event; and has the key tried again until none waits. Everything else may be hurt meanwhile, also in the middle of the
// retry: the oracle sees whether what waited was applied once and in its order.
func (f *fault) spoiled() {
	n := f.dice.Int64N(1 << 30)
	key := fmt.Sprintf("salon-%d", f.dice.IntN(keys))
	stream := eventstore.GroomerStream(key)
	id := uuid.New()
	meta, _ := json.Marshal(eventstore.Metadata{CommandID: id, Command: "spoil", Actor: domain.Actor{ID: "kim", Role: domain.Customer}})
	data, _ := json.Marshal(spoiled{N: n})
	if _, ok := settle(f.w.ctx, f.w.oracle.store, eventstore.Append{
		Stream: stream, Key: key, Expected: eventstore.AnyRevision, Metadata: meta,
		Command: eventstore.Command{ID: id, RequestHash: make([]byte, 32), Actor: "customer:kim"},
		Events:  []eventstore.NewEvent{{ID: eventstore.EventID(id, stream, 0), Type: spoiled{}.EventType(), Data: data}},
	}); !ok {
		return // the test is over
	}
	for _, into := range targets() {
		if err := f.w.until(func() bool { return f.parked(into, key) == waits }); err != nil {
			f.t.Errorf("%s has not parked %s: %v", into, key, err)
		}
	}
	f.hold(0, s)
	if err := os.WriteFile(filepath.Join(f.w.base.Mended, strconv.FormatInt(n, 10)), nil, 0o600); err != nil {
		f.t.Error(err)
	}
	for _, into := range targets() {
		p, _ := counters(into)
		if err := f.w.until(func() bool {
			state := f.parked(into, key)
			if state == waits { // again when a fail-over has forgotten that it was asked
				ctx, cancel := context.WithTimeout(f.w.ctx, s)
				defer cancel()
				_, _ = f.w.oracle.parking(into).Retry(ctx, p, key)
			}
			return state == goesOn
		}); err != nil {
			f.t.Errorf("%s still has %s parked: %v", into, key, err)
		}
	}
}

// What is known of a key in a target.
const (
	unknown = iota // it does not answer
	waits          // parked, and nobody has asked for a retry
	asked          // parked, and to be tried again
	goesOn
)

func (f *fault) parked(into, key string) int {
	ctx, cancel := context.WithTimeout(f.w.ctx, time.Second)
	defer cancel()
	p, _ := counters(into)
	list, err := f.w.oracle.parking(into).List(ctx, p)
	if err != nil {
		return unknown
	}
	for _, at := range list {
		switch {
		case at.Key != key:
		case at.RetryAt.IsZero():
			return waits
		default:
			return asked
		}
	}
	return goesOn
}

// parking is how a target's parked keys are seen.
func (o *oracle) parking(into string) engine.Parking {
	if into == intoRedis {
		return engine.Parking{DB: o.dbs[intoMySQL], Redis: o.view.Redis}
	}
	return engine.Parking{DB: o.dbs[into]}
}
