package audit

import (
	"context"
	"fmt"
	"iter"

	"github.com/dangdangsalon/salon/eventstore"
)

// trail is what a subject is folded from.
type trail struct {
	name   string // for errors
	events iter.Seq2[eventstore.Recorded, error]
}

func (p *Past) streamHistory(ctx context.Context, stream string) trail {
	return trail{stream, p.Store.ReadStream(ctx, stream, 0)}
}

func (p *Past) keyHistory(ctx context.Context, key string) trail {
	return trail{key, p.Store.ReadAll(ctx, 0, eventstore.Filter{Key: key})}
}

// told is what a fold came upon.
type told struct {
	first   *eventstore.Recorded // of the history, wherever it stands
	last    *eventstore.Recorded // that was folded
	stopped *Stopped
}

// watch is told of every event before and after it is folded. The zero value looks away.
type watch struct {
	before func(r *eventstore.Recorded)
	after  func(r *eventstore.Recorded) error
}

// read is an event of a trail, decoded.
type read struct {
	eventstore.Recorded

	decoded any
	failed  error // of the decoding
}

// readAtOnce is how many events go from who reads to who folds: one by one, the way would cost as much as the fold.
const readAtOnce = 64

// decoded reads and decodes the events in a goroutine of its own, some ahead of the fold: half of what a key with 1,000 events
// takes. The loop's end is its end.
func (h trail) decoded(s subject) iter.Seq2[*read, error] {
	type page struct {
		events []read
		err    error
	}
	return func(yield func(*read, error) bool) {
		pages, over, done := make(chan page, 4), make(chan struct{}), make(chan struct{})
		defer func() {
			close(over)
			<-done
		}()
		go func() {
			defer close(done)
			defer close(pages)
			p := page{}
			send := func() bool {
				select {
				case pages <- p:
					p = page{events: make([]read, 0, readAtOnce)}
					return true
				case <-over:
					return false
				}
			}
			for r, err := range h.events {
				if err != nil {
					p.err = err
					break
				}
				e := read{Recorded: r}
				e.decoded, e.failed = s.decode(r)
				if p.events = append(p.events, e); len(p.events) == readAtOnce && !send() {
					return
				}
			}
			send()
		}()
		for p := range pages {
			for i := range p.events {
				if !yield(&p.events[i], nil) {
					return
				}
			}
			if p.err != nil {
				yield(nil, p.err)
				return
			}
		}
	}
}

// fold folds the events through a place.
func (h trail) fold(s subject, through eventstore.Place, w watch) (t told, err error) {
	for e, err := range h.decoded(s) {
		if err != nil {
			return t, fmt.Errorf("read %s: %w", h.name, err)
		}
		r := &e.Recorded
		if t.first == nil {
			t.first = r
		}
		if r.Position > through.Position {
			break
		}
		if w.before != nil {
			w.before(r)
		}
		if e.failed == nil {
			e.failed = s.step(e.decoded)
		}
		if e.failed != nil {
			t.stopped = &Stopped{causeOf(*r).Event, e.failed.Error()}
			break
		}
		t.last = r
		if w.after == nil {
			continue
		}
		if err := w.after(r); err != nil {
			return t, err
		}
	}
	return t, nil
}
