package relay

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// The model puts the relay's own decisions ([chain], [endOf], [endOfMarker]) through random schedules: several relays at
// once, each with the ends that it read one partition after the other; requests to a broker that arrive in part, or
// after their sender has died, or whose answer is lost; brokers that lose the end of a partition; readers that follow
// the log all the while. One schedule is one seed.

const modelPartitions = 2 // of each topic

// entry is one record of a modelled log: an event or a marker.
type entry struct {
	pos, prev uint64
	id        uuid.UUID // of the event, or of what a marker names as read
	event     wire.Record
	marker    *wire.Marker
}

func eventEntry(w wire.Record) entry {
	return entry{pos: w.Pos, prev: w.Prev, id: w.Event.ID, event: w}
}

func markerEntry(m wire.Marker) entry {
	return entry{pos: m.At.Position, prev: m.Prev.Position, id: m.At.ID, marker: &m}
}

// faults are what a schedule may meet, and what the code under test may do wrong on purpose.
type faults struct {
	tailLoss bool // brokers lose the ends of their logs
	// The producer's own: within a batch.
	reorder, drop bool
	// Planted in the relay.
	fromLargest, markerBeforeAcks, goOnAfterError, forgetPrevOfMarkers bool
}

// request is records on their way to a partition. They arrive one after the other, or never.
type request struct {
	p       partition
	entries []entry
	from    *modelRelay
}

type modelRelay struct {
	name  int
	dead  bool
	c     *chain
	ends  map[partition]end     // read so far
	order []partition           // to be read
	acks  map[partition][]int64 // of the batch that is under way
	await map[partition]int
}

// reader is a projection: it follows the rules and fills holes from the store.
type reader struct {
	p       partition
	next    int
	last    uint64
	applied []uint64
	holes   int
}

type world struct {
	*rand.Rand
	faults  faults
	store   []eventstore.Recorded
	parts   []partition
	logs    map[partition][]entry
	flying  []*request
	relays  []*modelRelay
	readers []*reader
	lost    int // times that a broker lost records
	started int
	trace   []string
}

func newWorld(seed uint64, f faults) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), faults: f, logs: map[partition][]entry{}} //nolint:gosec // a test's dice
	for _, topic := range wire.Topics() {
		for i := range int32(modelPartitions) {
			p := partition{topic, i}
			w.parts = append(w.parts, p)
			w.readers = append(w.readers, &reader{p: p})
		}
	}
	return w
}

func (w *world) note(format string, v ...any) { w.trace = append(w.trace, fmt.Sprintf(format, v...)) }

// append adds events to the store. Positions have gaps, as EventStoreDB's have; some are of no topic.
func (w *world) append(n int) {
	for range n {
		pos := uint64(1)
		if k := len(w.store); k > 0 {
			pos = w.store[k-1].Position + 1 + uint64(w.IntN(2))
		}
		stream := [...]string{"groomer-a", "groomer-b", "groomer-c", "chat-a", "admin-a"}[w.IntN(5)]
		var id uuid.UUID
		copy(id[:], strconv.FormatUint(pos, 10))
		w.store = append(w.store, eventstore.Recorded{Position: pos, Stream: stream, Key: stream, ID: id})
	}
}

// events are a partition's positions in the store, those above after alone.
func (w *world) events(p partition, after uint64) (out []uint64) {
	for _, e := range w.store {
		if q, ok := partitionOf(e, modelPartitions); ok && q == p && e.Position > after {
			out = append(out, e.Position)
		}
	}
	return out
}

func (w *world) start() *modelRelay {
	r := &modelRelay{name: w.started, ends: map[partition]end{}, order: slices.Clone(w.parts)}
	w.started++
	w.Shuffle(len(r.order), func(i, j int) { r.order[i], r.order[j] = r.order[j], r.order[i] })
	w.relays = append(w.relays, r)
	w.note("relay %d starts", r.name)
	return r
}

// step lets a relay do the next thing that it would do.
func (w *world) step(r *modelRelay) {
	switch {
	case len(r.order) > 0:
		p := r.order[0]
		r.order = r.order[1:]
		log := w.logs[p]
		e := end{offset: int64(len(log)) - 1}
		if len(log) > 0 {
			switch last := log[len(log)-1]; {
			case last.marker == nil:
				e = endOf(last.event, e.offset)
			case w.faults.forgetPrevOfMarkers:
				e = end{at: last.marker.At, event: last.marker.At, offset: e.offset}
			default:
				e = endOfMarker(*last.marker, e.offset)
			}
		}
		r.ends[p] = e
		if len(r.order) == 0 {
			r.c = newChain(r.ends, modelPartitions, "model")
			if w.faults.fromLargest {
				for _, e := range r.ends {
					if e.at.Position > r.c.at.Position {
						r.c.at = e.at
					}
				}
			}
			w.note("relay %d goes on from %d", r.name, r.c.at.Position)
		}
	case r.await != nil:
		w.answered(r)
	case w.IntN(3) == 0:
		w.mark(r)
	default:
		w.read(r)
	}
}

// read takes some of the events that the store has, and sends them.
func (w *world) read(r *modelRelay) {
	batch := map[partition][]entry{}
	n := 1 + w.IntN(8)
	for _, e := range w.store {
		if e.Position <= r.c.at.Position {
			continue
		}
		if p, rec, write := r.c.next(e); write {
			batch[p] = append(batch[p], eventEntry(rec))
		}
		if n--; n == 0 {
			break
		}
	}
	if w.faults.markerBeforeAcks && len(batch) > 0 && w.IntN(3) == 0 {
		sent := maps.Clone(r.c.sent)
		for p := range sent {
			e := sent[p]
			e.offset = r.c.ends[p].offset
			r.c.ends[p] = e
		}
		clear(r.c.sent)
		// The markers overtake what they speak of.
		for p, m := range r.c.markers(w.some()) {
			batch[p] = append([]entry{markerEntry(m)}, batch[p]...)
		}
		maps.Copy(r.c.sent, sent)
	}
	w.send(r, batch)
}

// some is a drawn set of partitions that are due: in a fixed order, for a seed to be one schedule.
func (w *world) some() func(partition, end) bool {
	drawn := map[partition]bool{}
	for _, p := range w.parts {
		drawn[p] = w.IntN(2) == 0
	}
	return func(p partition, _ end) bool { return drawn[p] }
}

func (w *world) mark(r *modelRelay) {
	batch := map[partition][]entry{}
	for p, m := range r.c.markers(w.some()) {
		batch[p] = append(batch[p], markerEntry(m))
	}
	w.send(r, batch)
}

func (w *world) send(r *modelRelay, batch map[partition][]entry) {
	if len(batch) == 0 {
		r.c.settle()
		return
	}
	r.acks, r.await = map[partition][]int64{}, map[partition]int{}
	for _, p := range w.parts {
		if entries := batch[p]; len(entries) > 0 {
			r.await[p] = len(entries)
			if w.faults.reorder && w.IntN(4) == 0 {
				w.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			}
			if w.faults.drop && w.IntN(4) == 0 {
				i := w.IntN(len(entries))
				entries = append(entries[:i:i], entries[i+1:]...)
				r.await[p]--
			}
			w.flying = append(w.flying, &request{p, entries, r})
		}
	}
}

// arrive lets one record of a request reach its log.
func (w *world) arrive() {
	if len(w.flying) == 0 {
		return
	}
	i := w.IntN(len(w.flying))
	q := w.flying[i]
	if len(q.entries) > 0 {
		w.logs[q.p] = append(w.logs[q.p], q.entries[0])
		q.entries = q.entries[1:]
		q.from.acks[q.p] = append(q.from.acks[q.p], int64(len(w.logs[q.p]))-1)
	}
	if len(q.entries) == 0 {
		w.flying = slices.Delete(w.flying, i, i+1)
	}
}

// fail takes a request from the network: its sender sees an error, whatever of it has arrived.
func (w *world) fail() {
	if len(w.flying) == 0 {
		return
	}
	i := w.IntN(len(w.flying))
	q := w.flying[i]
	w.flying = slices.Delete(w.flying, i, i+1)
	w.note("relay %d: a request to %v fails with %d records left", q.from.name, q.p, len(q.entries))
	if w.faults.goOnAfterError {
		q.from.await[q.p] -= len(q.entries)
		return
	}
	q.from.dead = true
}

// answered takes the acknowledgements when all are there.
func (w *world) answered(r *modelRelay) {
	for p, n := range r.await {
		if len(r.acks[p]) < n {
			return
		}
	}
	if w.IntN(20) == 0 { // the answer is lost
		r.dead = true
		return
	}
	for _, p := range w.parts {
		for _, offset := range r.acks[p] {
			if err := r.c.acknowledged(p, offset); err != nil {
				w.note("relay %d: %v", r.name, err)
				r.dead = true
				return
			}
		}
	}
	r.c.settle()
	r.acks, r.await = nil, nil
}

// loseTail takes the end of a partition's log away, acknowledged as it was.
func (w *world) loseTail() {
	p := w.parts[w.IntN(len(w.parts))]
	if n := len(w.logs[p]); n > 0 {
		keep := n - 1 - w.IntN(min(n, 6))
		w.note("%v loses offsets %d to %d", p, keep, n-1)
		w.logs[p] = slices.Clone(w.logs[p][:keep])
		w.lost++
	}
}

// follow lets a reader read one record.
func (w *world) follow(r *reader) {
	log := w.logs[r.p]
	if r.next > len(log) {
		r.next = len(log) // behind the end: what comes next decides
	}
	if r.next == len(log) {
		return
	}
	e := log[r.next]
	r.next++
	fill := func(through uint64) {
		for _, pos := range w.events(r.p, r.last) {
			if pos <= through {
				r.applied = append(r.applied, pos)
			}
		}
	}
	switch {
	case e.pos <= r.last:
	case e.prev > r.last:
		r.holes++
		fill(e.pos)
		r.last = e.pos
	default:
		if e.marker == nil {
			r.applied = append(r.applied, e.pos)
		}
		r.last = e.pos
	}
}
