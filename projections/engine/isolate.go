package engine

import (
	"cmp"
	"time"
)

// isolation finds the one record, or the one event of a fill, that makes a batch fail.
//
//	a batch fails by poison ──▶ again, under new claims (quickRetries)
//	        ▲                          │ still
//	        │                          ▼
//	all suspects passed ◀── half of the suspects, first ones first ──▶ one is left and fails: park its key
//
// What passes is committed, so that the rows of the key are the fold of exactly its events before the one that fails.
type isolation struct {
	strikes  int  // batches that failed by poison, since one went through whole
	suspects int  // of the next records or events, one fails; 0: none is known to
	refusing bool // keys failed faster than they may be parked, and the next one has not gone through yet
}

// quickRetries are under new claims: with nothing in memory that the batch before it had put there.
const quickRetries = 2

// suspect is an event that failed alone.
type suspect struct {
	key       string
	pos       uint64
	eventType string
	then      Progress // once it is passed over
}

// suspectRecords notes what a failed batch was, before anything else becomes of it.
func (b *batch) suspectRecords(d *decoder) {
	b.suspects = len(b.records)
	if b.suspects != 1 {
		return
	}
	r, at := b.records[0], b.owner.progress()
	pos, err := number(r, "pos")
	key := string(header(r, "key"))
	if err != nil || key == "" || pos <= at.LastPos || header(r, "marker") != nil {
		return // no event of the batch is to blame
	}
	over := &batch{topic: b.topic, part: b.part, owner: b.owner, records: b.records, skip: key}
	if d.plan(over, at) == nil {
		b.alone = &suspect{key: key, pos: pos, eventType: string(header(r, "ce_type")), then: over.after}
	}
}

// waits tells whether events of an ordering key are left to the store.
func (b *batch) waits(key string) bool {
	if b.skip != "" && key == b.skip {
		return true
	}
	_, parked := b.owner.parked()[key]
	return parked
}

// prefix is how many of n records to try next.
func (i *isolation) prefix(n int) int {
	if i.suspects == 0 {
		return n
	}
	return min(n, max(1, i.suspects/2))
}

// most is how many events a portion of a fill may have next; 0: as many as usual.
func (i *isolation) most() int {
	if i.suspects == 0 {
		return 0
	}
	return max(1, i.suspects/2)
}

// passed notes a batch that went through.
func (i *isolation) passed(b *batch) {
	i.refusing = false
	if i.suspects -= b.done; i.suspects <= 0 || b.filled > 0 {
		i.suspects, i.strikes = 0, 0
	}
}

// isolate decides what becomes of a batch that failed by poison: an error is a claim to be made anew, nil goes on with
// what isolation says; b.done records are behind us.
func (w *worker) isolate(b *batch) error {
	if w.strikes++; w.strikes <= quickRetries {
		return b.err
	}
	if w.suspects = b.suspects; w.suspects > 1 {
		return nil
	}
	if b.alone == nil {
		return &recordError{b.err}
	}
	if err := w.park(b.alone, b.err); err != nil {
		return err
	}
	w.suspects = 0
	if w.owner.progress().NextOffset > b.records[0].Offset {
		b.done = 1
	}
	return nil
}

func (r *Runner) parkPerMinute() int { return cmp.Or(r.ParkPerMinute, 10) }
func (r *Runner) parkAtMost() int    { return cmp.Or(r.ParkAtMost, parkAtMost) }

// parkAtMost is how many keys of a partition wait at most, and in a rebuild of all.
const parkAtMost = 100

// park lets a key wait from its failing event on, in one transaction with the progress over it.
func (w *worker) park(s *suspect, reason error) error {
	began := time.Now()
	p := Parked{
		Projection: w.s.r.Projection.ID(), Topic: w.s.topic, Part: w.part, Key: s.key,
		FromPos: s.pos, AfterPos: w.owner.progress().LastPos, EventType: s.eventType,
		Attempts: 1, ParkedAt: began.UTC().Truncate(time.Microsecond),
	}
	p.Cause, p.Detail = describe(s.eventType, reason)
	if err := w.mayPark(p); err != nil {
		return err
	}
	b := &batch{
		topic: w.s.topic, part: w.part, partitions: w.s.partitions, owner: w.owner, after: s.then, done: 1,
		change: &parkChange{now: &p},
	}
	if _, err := w.owner.apply(w.gone, b); err != nil {
		if poison(err) {
			return &recordError{err} // the key itself cannot be stored
		}
		return err
	}
	w.s.r.Log.Error("projection parked a key", "projection", p.Projection, "topic", p.Topic, "partition", p.Part,
		"key", p.Key, "position", p.FromPos, "type", p.EventType, "cause", p.Cause)
	w.s.r.committed(b, began)
	return nil
}

// mayPark refuses what is hardly the key's own fault.
func (w *worker) mayPark(p Parked) error {
	waiting, lately := w.owner.parked(), 0
	for _, other := range waiting {
		if p.ParkedAt.Sub(other.ParkedAt) < time.Minute {
			lately++
		}
	}
	var limit string
	switch {
	case len(waiting) >= w.s.r.parkAtMost():
		limit = "ParkAtMost"
	case w.refusing || lately >= w.s.r.parkPerMinute():
		w.refusing, limit = true, "ParkPerMinute"
	default:
		return nil
	}
	return &SystemicError{
		Topic: p.Topic, Part: p.Part, Waiting: len(waiting), Lately: lately, Limit: limit,
		Key: p.Key, Position: p.FromPos, Cause: p.Cause, Detail: p.Detail,
	}
}
