package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// retrying is what an owner does about parked keys between two batches: it looks for requests once in a while, and folds
// a portion of what waits. Between two batches, because then all that waits of a key is what the store has of it through
// the partition's last position, and nothing of it is on its way.
type retrying struct {
	looked  time.Time
	more    bool // a portion was done, and there is more to do
	portion int  // events of the next one, while one that fails is looked for; 0: the usual
	mute    bool // it was said that the store is away
}

const (
	// How often requests are looked for, while there are parked keys.
	retryLook = time.Second
	// How long a portion may take to be read: the partition waits for it.
	readPatience = 30 * time.Second
)

// lookAgain fires when it is time to look at the parked keys.
func (w *worker) lookAgain() <-chan time.Time {
	if len(w.owner.parked()) == 0 {
		return nil
	}
	if w.more {
		now := make(chan time.Time)
		close(now)
		return now
	}
	return time.After(retryLook - time.Since(w.looked))
}

// retry folds one portion of one key that somebody asked for. Its error is one of the target.
func (w *worker) retry() error {
	if len(w.owner.parked()) == 0 || !w.more && time.Since(w.looked) < retryLook {
		return nil
	}
	w.looked, w.more = time.Now(), false
	keys, err := w.owner.asked(w.gone)
	if err != nil || len(keys) == 0 {
		return err
	}
	w.more = true
	d, err := w.drainable(w.owner.parked()[keys[0]])
	if err != nil {
		w.more = false // the store is away; the partition need not be
		if !w.mute {
			w.s.r.Log.Warn("projection cannot retry a parked key", "projection", w.status.Projection, "topic", w.s.topic, "partition", w.part, "error", err)
		}
		w.mute = true
		return nil
	}
	w.mute = false
	err = w.drain(d)
	w.mu.Lock()
	w.status.Parked = len(w.owner.parked())
	w.mu.Unlock()
	return err
}

// waitingEvents are the first events that a parked key waits for.
type waitingEvents struct {
	key    Parked
	events []Event // those that the projection uses
	after  uint64  // position of the last event read
	next   *eventstore.Recorded
	broken error // why next is not among the events: it cannot be decoded, or the store does not have it
}

// drainable reads a portion from the store.
func (w *worker) drainable(p Parked) (waitingEvents, error) {
	ctx, cancel := context.WithTimeout(w.gone, readPatience)
	defer cancel()
	d := waitingEvents{key: p, after: p.AfterPos}
	most, bytes, seen := w.portion, 0, false
	if most == 0 {
		most = fillEvents
	}
	for e, err := range w.s.r.Store.ReadAll(ctx, p.AfterPos, eventstore.Filter{Key: p.Key}) {
		if err != nil {
			return d, fmt.Errorf("read what %q waits for: %w", p.Key, err)
		}
		if e.Position > w.owner.progress().LastPos {
			break
		}
		if e.Position < p.FromPos || wire.TopicOf(e.Stream) != p.Topic {
			continue
		}
		if !seen && e.Position != p.FromPos {
			break
		}
		seen = true
		bytes += len(e.Data) + recordOverhead
		if len(d.events) == most || len(d.events) > 0 && bytes > maxBatchBytes {
			d.next = &e
			return d, nil
		}
		wanted, err := w.s.decoder.wanted(e.Type)
		var event Event
		if err == nil && wanted {
			event, err = w.s.decoder.event(e)
		}
		if err != nil {
			d.next, d.broken = &e, err
			return d, nil
		}
		if wanted {
			d.events = append(d.events, event)
		}
		d.after = e.Position
	}
	if !seen {
		d.broken = errors.New("the event store does not have the event that the key waits for")
	}
	return d, nil
}

// drain applies a portion and moves the key on, in one transaction: a process that dies has done all of it or nothing.
// After the last portion the key waits no longer.
func (w *worker) drain(d waitingEvents) error {
	change := &parkChange{was: &d.key}
	if d.broken != nil && len(d.events) == 0 {
		return w.gaveUp(d, d.broken)
	}
	if d.next != nil {
		now := d.key
		now.FromPos, now.AfterPos, now.EventType = d.next.Position, d.after, d.next.Type
		change.now = &now
	}
	began := time.Now()
	b := &batch{
		topic: w.s.topic, part: w.part, partitions: w.s.partitions, owner: w.owner, after: w.owner.progress(),
		events: d.events, change: change,
	}
	_, err := w.owner.apply(w.gone, b)
	switch {
	case poison(err) && len(d.events) > 1:
		w.portion = max(1, len(d.events)/2)
		return nil
	case poison(err) && len(d.events) == 1:
		return w.gaveUp(d, err)
	case err != nil:
		return err
	}
	if change.now == nil {
		w.portion = 0
		w.s.r.Log.Info("projection unparked a key", "projection", d.key.Projection, "topic", d.key.Topic, "partition", d.key.Part, "key", d.key.Key)
	}
	w.s.r.committed(b, began)
	return nil
}

// gaveUp leaves the key parked at the event that fails, until somebody asks again.
func (w *worker) gaveUp(d waitingEvents, reason error) error {
	w.portion = 0
	now := d.key
	switch {
	case len(d.events) == 1: // it may not be the first that waits, but nothing before it matters to the projection
		now.FromPos, now.EventType = d.events[0].Position, d.events[0].Event.EventType()
	case d.next != nil:
		now.FromPos, now.EventType = d.next.Position, d.next.Type
	}
	now.Attempts++
	now.Cause, now.Detail = describe(now.EventType, reason)
	b := &batch{
		topic: w.s.topic, part: w.part, partitions: w.s.partitions, owner: w.owner, after: w.owner.progress(),
		change: &parkChange{was: &d.key, now: &now, ended: true},
	}
	if _, err := w.owner.apply(w.gone, b); err != nil {
		if poison(err) {
			return &recordError{err}
		}
		return err
	}
	w.s.r.Log.Error("projection retried a parked key in vain", "projection", now.Projection, "topic", now.Topic, "partition", now.Part,
		"key", now.Key, "position", now.FromPos, "type", now.EventType, "attempts", now.Attempts, "cause", now.Cause)
	return nil
}
