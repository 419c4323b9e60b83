package relay

import (
	"fmt"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

type partition struct {
	topic string // without the prefix
	part  int32
}

func partitionOf(e eventstore.Recorded, partitions int) (p partition, relayed bool) {
	topic := wire.TopicOf(e.Stream)
	if topic == "" {
		return partition{}, false
	}
	return partition{topic, eventstore.Partition(e.Key, partitions)}, true
}

// end is what a relay knows of the end of a partition's log.
type end struct {
	at     wire.Place // the log has every event of the partition up to here
	event  wire.Place // the partition's last event: what the next one's prev names
	offset int64      // of the last record; -1 when there is none
}

// endOf is a log's end by its last record. A relay that was replaced may end the log with a repetition of earlier
// events, or with an old marker: then what comes after it is relayed once more.
func endOf(w wire.Record, offset int64) end {
	place := wire.PlaceOf(w.Event)
	return end{at: place, event: place, offset: offset}
}

// endOfMarker is a log's end by its last record, a marker: where to go on is another matter than what the next event
// follows.
func endOfMarker(m wire.Marker, offset int64) end {
	return end{at: m.At, event: m.Prev, offset: offset}
}

// chain decides what a relay writes, given what it has read of the log and of the store. It does no I/O, so that a
// model can put it through any order of crashes, lost answers and other relays.
//
// What it keeps, and why any number of relays does no harm: an event is handed out only after the event before it in
// its partition was handed out or seen in the log, and a marker only when all that was handed out is acknowledged. So
// whatever a record names as being before it is before it, whoever else writes in between.
type chain struct {
	incarnation string            // of the store
	partitions  int               // of each topic
	at          wire.Place        // the last event that was read; at first, what the smallest end names
	of          partition         // of that event; the zero value when it is not relayed
	ends        map[partition]end // as acknowledged
	sent        map[partition]end // of those handed out since, once they are acknowledged
}

// newChain begins at the smallest of the ends: what any partition may still lack comes after it.
func newChain(ends map[partition]end, partitions int, incarnation string) *chain {
	c := &chain{incarnation: incarnation, partitions: partitions, ends: ends, sent: map[partition]end{}}
	first := true
	for p, e := range ends {
		if first || e.at.Position < c.at.Position {
			c.at, c.of, first = e.at, p, false
		}
	}
	return c
}

// next takes the store's next event. Its record is to be written, after those of the same partition that were handed
// out before; no record when it is not relayed, or when the log has it.
func (c *chain) next(e eventstore.Recorded) (p partition, w wire.Record, write bool) {
	p, relayed := partitionOf(e, c.partitions)
	c.at, c.of = wire.PlaceOf(e), p
	if !relayed {
		return p, w, false
	}
	before, ok := c.sent[p]
	if !ok {
		before = c.ends[p]
	}
	if e.Position <= before.at.Position {
		return p, w, false
	}
	c.sent[p] = end{at: c.at, event: c.at}
	return p, wire.Record{Pos: e.Position, Prev: before.event.Position, Incarnation: c.incarnation, Event: e}, true
}

// markers are those to be written now, of the partitions that are due. There is none while anything is unacknowledged: it
// would promise what may not be in the log. Nor does a marker take back what a partition's end says already.
func (c *chain) markers(due func(p partition, e end) bool) map[partition]wire.Marker {
	if len(c.sent) > 0 {
		return nil
	}
	out := map[partition]wire.Marker{}
	for p, e := range c.ends {
		if c.at.Position >= e.at.Position && due(p, e) {
			out[p] = wire.Marker{Incarnation: c.incarnation, At: c.at, Prev: e.event}
			c.sent[p] = end{at: c.at, event: e.event}
		}
	}
	return out
}

// acknowledged notes the offset of a record, in the order in which they were handed out. An offset that is not above
// the partition's last is the only sign that a broker gives of having lost the end of its log.
func (c *chain) acknowledged(p partition, offset int64) error {
	e := c.ends[p]
	if offset <= e.offset {
		return fmt.Errorf("%w: %s/%d acknowledged offset %d after %d", ErrTailLost, p.topic, p.part, offset, e.offset)
	}
	e.offset = offset
	c.ends[p] = e
	return nil
}

// settle is called when all that was handed out is acknowledged.
func (c *chain) settle() {
	for p, e := range c.sent {
		e.offset = c.ends[p].offset
		c.ends[p] = e
	}
	clear(c.sent)
}
