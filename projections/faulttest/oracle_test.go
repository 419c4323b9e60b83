package faulttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// oracle knows the store, and what every row must be at every position. It uses nothing of what it checks but the
// codec and the partitioner: its fold is a loop of its own.
type oracle struct {
	store *postgres.Store
	dbs   map[string]*reads.DB // by target
	view  *engine.View
	table *engine.Table[counter] // of the view

	reading sync.Mutex // one reads the store at a time

	mu     sync.Mutex
	check  eventstore.Check
	states map[string][]state   // of each key, ascending
	ends   []end                // the last event of its partition, for each event of the store
	told   map[uuid.UUID]uint64 // acknowledged commands and their positions
	stored map[uuid.UUID]uint64 // the commands in the store and their last events
	past   bool                 // the store is another one from now on: what was read of it stays what rows are compared with
	broken error                // what is wrong with the store itself
	at     heard                // the newest look
	looked chan struct{}        // closed at the next look
}

// state is a key's row as of a position.
type state struct {
	position uint64
	row      counter
}

type end struct {
	position uint64
	part     int32
}

// heard is how far everybody is.
type heard struct {
	head    uint64
	parts   map[string][]uint64 // by target and partition: the position; nil while the target does not answer
	trouble map[string]error
}

func newOracle(store *postgres.Store, dbs map[string]*reads.DB, client *redis.Client) *oracle {
	p, table := counters(intoRedis)
	return &oracle{
		store: store, dbs: dbs, table: table,
		view:   &engine.View{Redis: client, Projection: p, Partitions: func(context.Context, string) (int, error) { return partitions, nil }},
		check:  eventstore.Check{Dense: true, Whole: true},
		states: map[string][]state{}, told: map[uuid.UUID]uint64{}, stored: map[uuid.UUID]uint64{}, looked: make(chan struct{}),
	}
}

// acknowledged notes what a writer was told.
func (o *oracle) acknowledged(command uuid.UUID, position uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told[command] = position
}

// watch looks at everybody, again and again.
func (o *oracle) watch(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		o.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (o *oracle) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	h := heard{parts: map[string][]uint64{}, trouble: map[string]error{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	all.Go(func() {
		if err := o.read(ctx); err != nil {
			mu.Lock()
			h.trouble["store"] = err
			mu.Unlock()
		}
	})
	for _, into := range targets() {
		all.Go(func() {
			parts, err := o.positions(ctx, into)
			mu.Lock()
			defer mu.Unlock()
			h.parts[into], h.trouble[into] = parts, err
		})
	}
	all.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	h.head = o.check.Last()
	o.at = h
	close(o.looked)
	o.looked = make(chan struct{})
}

// read folds what is new in the store.
func (o *oracle) read(ctx context.Context) error {
	codec := eventstore.NewCodec(catalog())
	o.reading.Lock()
	defer o.reading.Unlock()
	o.mu.Lock()
	after, past := o.check.Last(), o.past
	o.mu.Unlock()
	if past {
		return nil
	}
	for r, err := range o.store.ReadAll(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		if err := o.fold(codec, r); err != nil {
			return err
		}
	}
	return nil
}

func (o *oracle) fold(codec *eventstore.Codec, r eventstore.Recorded) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.check.Next(r); err != nil {
		o.broken = err
		return err
	}
	o.ends = append(o.ends, end{r.Position, eventstore.Partition(r.Key, partitions)})
	m, err := eventstore.DecodeMetadata(r.Metadata)
	if err != nil {
		return err
	}
	o.stored[m.CommandID] = r.Position
	if r.Type == (ignored{}).EventType() {
		return nil
	}
	e, err := codec.Decode(r.Type, r.Data)
	if err != nil {
		return err
	}
	var before counter
	if s := o.states[r.Key]; len(s) > 0 {
		before = s[len(s)-1].row
	}
	var n int64
	switch e := e.(type) {
	case added:
		n = e.N
	case spoiled: // a row is as of before it until it is mended
		n = e.N
	}
	o.states[r.Key] = append(o.states[r.Key], state{r.Position, before.add(r.Key, r.Position, n)})
	return nil
}

// positions is how far each partition of a target is.
func (o *oracle) positions(ctx context.Context, into string) ([]uint64, error) {
	out := make([]uint64, partitions)
	if into == intoRedis {
		for part := range out {
			rows, err := o.view.Read(ctx, engine.Serving{Version: 1}, wire.BookingTopic, keyOf(int32(part))) //nolint:gosec // a partition
			if err != nil {
				return nil, err
			}
			if !rows.Whole {
				return nil, fmt.Errorf("the view of partition %d is not whole", part)
			}
			out[part] = rows.Position
		}
		return out, nil
	}
	p, _ := counters(into)
	var places []engine.Place
	err := o.dbs[into].Snapshot(ctx, func(ctx context.Context, q reads.Queryer) (err error) {
		places, err = engine.Places(ctx, q)
		return err
	})
	for _, at := range places {
		if at.Projection == p.ID() {
			out[at.Part] = at.LastPos
		}
	}
	return out, err
}

// keyOf is a key of the partition, that has events or not.
func keyOf(part int32) string {
	for n := 0; ; n++ {
		if key := fmt.Sprintf("salon-%d", n); eventstore.Partition(key, partitions) == part {
			return key
		}
	}
}

// events is how many the store has.
func (o *oracle) events() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.check.Events()
}

// forget tells that the store is another one from now on.
func (o *oracle) forget() {
	o.reading.Lock()
	defer o.reading.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.past = true
}

// settled waits until everybody is at the store's end, which nobody moves.
func (o *oracle) settled(ctx context.Context) error {
	for {
		o.mu.Lock()
		at, looked := o.at, o.looked
		o.mu.Unlock()
		behind := o.behind(at, at.head)
		if at.parts != nil && at.head == o.events() && len(behind) == 0 {
			return nil
		}
		select {
		case <-looked:
		case <-ctx.Done():
			return fmt.Errorf("not at the store's end: %v", behind)
		}
	}
}

// recovered waits until the writers go on, and everybody has what they have written after now.
func (o *oracle) recovered(ctx context.Context) error {
	const more = 20
	var from, until uint64
	began := false
	for {
		o.mu.Lock()
		at, looked, broken := o.at, o.looked, o.broken
		o.mu.Unlock()
		switch {
		case broken != nil:
			return broken
		case at.parts == nil || at.trouble["store"] != nil:
		case !began:
			from, began = at.head, true
		case until == 0 && at.head >= from+more:
			until = at.head
		case until > 0 && len(o.behind(at, until)) == 0:
			return nil
		}
		select {
		case <-looked:
		case <-ctx.Done():
			why := fmt.Sprintf("at %d, from %d, until %d, behind %v", at.head, from, until, o.behind(at, until))
			for who, err := range at.trouble {
				if err != nil {
					why += fmt.Sprintf("; %s: %v", who, err)
				}
			}
			return errors.New(why)
		}
	}
}

// behind lists who has not come to a position yet.
func (o *oracle) behind(at heard, until uint64) (behind []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := make([]uint64, partitions)
	n, _ := slices.BinarySearchFunc(o.ends, until+1, func(e end, p uint64) int { return int(e.position) - int(p) }) //nolint:gosec // positions of a test
	seen := 0
	for i := n - 1; i >= 0 && seen < partitions; i-- {
		if e := o.ends[i]; last[e.part] == 0 {
			last[e.part] = e.position
			seen++
		}
	}
	for _, into := range targets() {
		for part, want := range last {
			switch {
			case want == 0:
			case at.parts[into] == nil:
				behind = append(behind, into)
			case at.parts[into][part] < want:
				behind = append(behind, fmt.Sprintf("%s/%d at %d, want %d", into, part, at.parts[into][part], want))
			}
		}
	}
	return slices.Compact(behind)
}

// wrong counts what is not as it must be.
type wrong struct {
	Lost, Doubled, Swapped int64
	Says                   []string // the first few
}

func (w *wrong) sum() int64 { return w.Lost + w.Doubled + w.Swapped }

func (w *wrong) say(format string, args ...any) {
	if len(w.Says) < 8 {
		w.Says = append(w.Says, fmt.Sprintf(format, args...))
	}
}

// compare holds every row of every target to the fold at the row's own position, and every acknowledged command to the
// store. The system may run meanwhile.
func (o *oracle) compare(ctx context.Context) (w wrong, err error) {
	for _, into := range targets() {
		rows, at, err := o.rows(ctx, into)
		if err != nil {
			return w, fmt.Errorf("read %s: %w", into, err)
		}
		if err := o.read(ctx); err != nil { // the rows are no newer than what the oracle knows
			return w, err
		}
		o.hold(&w, into, rows, at)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.past {
		return w, nil
	}
	for command, position := range o.told {
		if got := o.stored[command]; got != position && position <= o.check.Last() { // later ones it has not read yet
			w.Lost++
			w.say("command %s was acknowledged at position %d, the store has it at %d", command, position, got)
		}
	}
	return w, nil
}

func (o *oracle) hold(w *wrong, into string, rows map[string]counter, at map[string]uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for n := range keys {
		key := fmt.Sprintf("salon-%d", n)
		var want counter
		states := o.states[key]
		if i, _ := slices.BinarySearchFunc(states, at[key]+1, func(s state, p uint64) int { return int(s.position) - int(p) }); i > 0 { //nolint:gosec // positions of a test
			want = states[i-1].row
		}
		got := rows[key]
		switch {
		case got == want:
			continue
		case got.Count < want.Count:
			w.Lost += want.Count - got.Count
		case got.Count > want.Count:
			w.Doubled += got.Count - want.Count
		case got.Sum != want.Sum:
			w.Lost++
			w.Doubled++
		default:
			w.Swapped++
		}
		w.say("%s at position %d: want %+v, got %+v", into, at[key], want, got)
	}
}

// rows reads a target's rows, and for each key the position that they are of.
func (o *oracle) rows(ctx context.Context, into string) (rows map[string]counter, at map[string]uint64, err error) {
	rows, at = map[string]counter{}, map[string]uint64{}
	p, table := counters(into)
	var list []counter
	if into == intoRedis {
		for n := range keys {
			key := fmt.Sprintf("salon-%d", n)
			view, err := o.view.Read(ctx, engine.Serving{Version: 1}, wire.BookingTopic, key)
			if err != nil {
				return nil, nil, err
			}
			if !view.Whole {
				return nil, nil, fmt.Errorf("the view of %s is not whole", key)
			}
			of, err := engine.ViewTable(view, o.table)
			if err != nil {
				return nil, nil, err
			}
			at[key] = view.Position
			if view.Parked {
				at[key] = view.ParkedFrom - 1
			}
			list = append(list, of...)
		}
	} else {
		err = o.dbs[into].Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
			places, err := engine.Places(ctx, q)
			if err != nil {
				return err
			}
			for n := range keys {
				key := fmt.Sprintf("salon-%d", n)
				for _, place := range places {
					if place.Projection == p.ID() && place.Part == eventstore.Partition(key, partitions) {
						at[key] = place.LastPos
					}
				}
			}
			parked, err := engine.ListParked(ctx, q, p.ID())
			if err != nil {
				return err
			}
			for _, k := range parked {
				at[k.Key] = k.FromPos - 1
			}
			list, err = engine.Query(ctx, q, table, 1, "")
			return err
		})
	}
	for _, r := range list {
		rows[r.Key] = r
	}
	return rows, at, err
}
