package esdb

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// step is a command of a history with its events, or one that has none.
type step struct {
	eventstore.Accepted

	events []eventstore.Recorded
}

func (t step) claim(position uint64) claim {
	c := claim{Stream: t.Stream, Revision: t.LastRevision - eventstore.Revision(len(t.events)), Events: len(t.events)}
	if len(t.events) == 0 {
		at := t.RecordedAt
		c.Position, c.RequestHash, c.Actor, c.RecordedAt = position, t.RequestHash, t.Actor, &at
	}
	return c
}

// proposed are a step's events as the server gets them.
func (t step) proposed() (out []esdb.EventData, err error) {
	size := 0
	for i, r := range t.events {
		if reserved(r.Stream) || r.Stream == "" || strings.HasPrefix(r.Type, "$") {
			return nil, fmt.Errorf("%w: EventStoreDB cannot have an event of type %q in the stream %q", eventstore.ErrInvalid, r.Type, r.Stream)
		}
		e := envelope{id: r.ID, at: r.RecordedAt, hash: r.Hash, events: len(t.events), key: r.Key, metadata: r.Metadata, origin: r.Position}
		if i == 0 {
			e.requestHash, e.actor = t.RequestHash, t.Actor
		}
		d := esdb.EventData{EventID: uuid.NewSHA1(r.ID, r.Hash[:]), EventType: r.Type, ContentType: esdb.ContentTypeBinary, Data: r.Data, Metadata: e.encode()}
		out = append(out, d)
		size += 2*len(d.EventType) + len(d.Data) + len(d.Metadata)
	}
	if size > maxAppendSize {
		return nil, fmt.Errorf("%w: command %s has %d bytes with keys and types, at most %d", eventstore.ErrTooLarge, t.ID, size, maxAppendSize)
	}
	return out, nil
}

// steps goes through a history command by command. One without events is accepted by where its claim stands in the log: behind
// its stream's last event, in front of the next one. It comes as early as its stream and those before it allow.
func steps(from eventstore.Loaded) iter.Seq2[step, error] {
	return func(yield func(step, error) bool) {
		commands, stop := iter.Pull2(chosen(from.Commands, false))
		defer stop()
		silent, stopSilent := iter.Pull2(chosen(from.Commands, true))
		defer stopSilent()
		w := walk{silent: silent, ends: map[string]eventstore.Revision{}, yield: yield}
		if err := w.run(from.Events, commands); err != nil && !errors.Is(err, errLeft) {
			yield(step{}, err)
		}
	}
}

var errLeft = errors.New("the loop was left")

// walk is one through a history's steps.
type walk struct {
	silent func() (eventstore.Accepted, error, bool)
	ahead  *eventstore.Accepted
	ends   map[string]eventstore.Revision
	yield  func(step, error) bool
}

func (w *walk) run(events iter.Seq2[eventstore.Recorded, error], commands func() (eventstore.Accepted, error, bool)) error {
	if err := w.quiet(); err != nil {
		return err
	}
	var t step
	for r, err := range events {
		if err != nil {
			return err
		}
		if len(t.events) == 0 {
			c, err, more := commands()
			if err != nil {
				return err
			}
			if t.Accepted = c; !more {
				return damage("the event at position %d has no command", r.Position)
			}
		}
		if n := len(t.events); r.Stream != t.Stream || r.ID != eventstore.EventID(t.ID, t.Stream, n) || n > 0 && r.Revision != t.events[n-1].Revision+1 || r.Revision > t.LastRevision {
			return damage("the event at position %d is not of command %s, whose turn it is", r.Position, t.ID)
		}
		if t.events = append(t.events, r); r.Revision < t.LastRevision {
			continue
		}
		if !w.yield(t, nil) {
			return errLeft
		}
		w.ends[r.Stream], t = r.Revision, step{}
		if err := w.quiet(); err != nil {
			return err
		}
	}
	c, err, more := commands()
	switch {
	case err != nil:
		return err
	case len(t.events) > 0:
		return damage("command %s lacks the last of its events: the history ends within them", t.ID)
	case more:
		return damage("command %s has no event in the history", c.ID)
	case w.ahead != nil:
		return damage("command %s says that %s has come to revision %d", w.ahead.ID, w.ahead.Stream, w.ahead.LastRevision)
	}
	return nil
}

// quiet yields the commands without events whose turn it is.
func (w *walk) quiet() error {
	for {
		if w.ahead == nil {
			c, err, more := w.silent()
			if err != nil || !more {
				return err
			}
			w.ahead = &c
		}
		at, known := w.ends[w.ahead.Stream]
		if !known {
			at = eventstore.NoStream
		}
		switch c := *w.ahead; {
		case c.LastRevision > at:
			return nil
		case c.LastRevision < at:
			return damage("command %s says that %s was at revision %d, which it had left", c.ID, c.Stream, c.LastRevision)
		case !w.yield(step{Accepted: c}, nil):
			return errLeft
		}
		w.ahead = nil
	}
}

// chosen are the commands with events, or those without.
func chosen(all iter.Seq2[eventstore.Accepted, error], silent bool) iter.Seq2[eventstore.Accepted, error] {
	return func(yield func(eventstore.Accepted, error) bool) {
		for c, err := range all {
			if (err != nil || silent == (c.Silent > 0)) && !yield(c, err) {
				return
			}
		}
	}
}
