package engine

import (
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/projections/reads"
)

// Shared lets the runners of one process decode an event once: decoding is more than half of what a projection costs,
// and several projections read the same events at nearly the same time. It keeps the latest few thousand. Small batches
// of theirs that go into one database are committed together.
//
// Folds are pure, so they may share an event; one that wrote into an event's slices would be seen by the others.
type Shared struct {
	slots  [4096]atomic.Pointer[sharedEvent]
	groups sync.Map // *reads.DB → *group
}

type sharedEvent struct {
	id string // of the event: a position alone may mean another event after a restore
	e  Event
}

func (s *Shared) get(pos uint64, r *kgo.Record) (Event, bool) {
	if s == nil {
		return Event{}, false
	}
	held := s.slots[pos%uint64(len(s.slots))].Load()
	if held == nil || held.e.Position != pos || held.id != string(header(r, "ce_id")) {
		return Event{}, false
	}
	return held.e, true
}

func (s *Shared) groupOf(db *reads.DB) *group {
	g, _ := s.groups.LoadOrStore(db, &group{})
	return g.(*group)
}

func (s *Shared) put(r *kgo.Record, e Event) {
	if s != nil {
		s.slots[e.Position%uint64(len(s.slots))].Store(&sharedEvent{string(header(r, "ce_id")), e})
	}
}
