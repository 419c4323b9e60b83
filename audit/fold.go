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
	before func(r eventstore.Recorded)
	after  func(r eventstore.Recorded) error
}

// fold folds the events through a place.
func (h trail) fold(s subject, through eventstore.Place, w watch) (t told, err error) {
	for r, err := range h.events {
		if err != nil {
			return t, fmt.Errorf("read %s: %w", h.name, err)
		}
		if t.first == nil {
			t.first = &r
		}
		if r.Position > through.Position {
			break
		}
		if w.before != nil {
			w.before(r)
		}
		if err := s.step(r); err != nil {
			t.stopped = &Stopped{causeOf(r).Event, err.Error()}
			break
		}
		t.last = &r
		if w.after == nil {
			continue
		}
		if err := w.after(r); err != nil {
			return t, err
		}
	}
	return t, nil
}
