package commands

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// memory is a store that forgets at the end of the process and is exact otherwise: for measuring Execute without a
// disk, and for the faults that a real store cannot be asked for.
type memory struct {
	mu       sync.Mutex
	events   []eventstore.Recorded
	streams  map[string][]int // indexes into events
	commands map[uuid.UUID]eventstore.Command
	keys     map[string][2]string
	// snapshots are one a stream: the newest fold's.
	snapshots map[string]eventstore.Snapshot
	now       func() time.Time
	reads     int // events read
	// incarnation defaults to "memory".
	incarnation string
	// before runs before each append, without the lock: another process may come first here.
	before func(eventstore.Append)
	// lose answers ErrOutcomeUnknown instead of the append's answer while it returns true; written tells whether
	// the append was done all the same.
	lose func() (lose, written bool)
}

func newMemory() *memory {
	return &memory{streams: map[string][]int{}, commands: map[uuid.UUID]eventstore.Command{}, keys: map[string][2]string{}, snapshots: map[string]eventstore.Snapshot{}, now: time.Now}
}

func (m *memory) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	if m.before != nil {
		m.before(a)
	}
	if m.lose != nil {
		if lose, written := m.lose(); lose {
			if written {
				_, _ = m.write(a)
			}
			return eventstore.Appended{}, eventstore.ErrOutcomeUnknown
		}
	}
	return m.write(a)
}

func (m *memory) write(a eventstore.Append) (eventstore.Appended, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.commands[a.Command.ID]; ok {
		return eventstore.Appended{}, &eventstore.DuplicateError{Command: c}
	}
	at := eventstore.Micros(m.now())
	if d := at.Sub(a.DecidedAt); d > eventstore.MaxDecisionAge || d < -eventstore.MaxDecisionAge {
		return eventstore.Appended{}, eventstore.ErrDecisionTooOld
	}
	actual := eventstore.Revision(len(m.streams[a.Stream]) - 1)
	if last := m.streams[a.Stream]; a.Expected != eventstore.AnyRevision && a.Expected != actual ||
		a.ExpectedID != uuid.Nil && m.events[last[len(last)-1]].ID != a.ExpectedID {
		return eventstore.Appended{}, &eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: actual}
	}
	if n := len(m.events); n > 0 && m.events[n-1].RecordedAt.After(at) {
		at = m.events[n-1].RecordedAt
	}
	for _, e := range a.Events {
		actual++
		m.streams[a.Stream] = append(m.streams[a.Stream], len(m.events))
		m.events = append(m.events, eventstore.Recorded{
			Position: uint64(len(m.events) + 1), Stream: a.Stream, Revision: actual, ID: e.ID, Type: e.Type, Key: a.Key,
			RecordedAt: at, Metadata: a.Metadata, Data: e.Data,
		})
	}
	c := a.Command
	c.Stream, c.LastRevision = a.Stream, actual
	if s := m.streams[a.Stream]; len(s) > 0 {
		c.Position = m.events[s[len(s)-1]].Position
	}
	m.commands[c.ID] = c
	return eventstore.Appended{LastRevision: actual, Position: c.Position, RecordedAt: at}, nil
}

func (m *memory) Command(_ context.Context, id uuid.UUID) (eventstore.Command, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.commands[id]
	return c, ok, nil
}

func (m *memory) ReadStream(_ context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []eventstore.Recorded
	for i, at := range m.streams[stream] {
		if eventstore.Revision(i) >= from {
			found = append(found, m.events[at])
		}
	}
	m.reads += len(found)
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, r := range found {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (m *memory) ReadStreamBack(context.Context, string, eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	panic("no command reads backwards")
}

func (m *memory) ReadAll(_ context.Context, after uint64, _ eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := slices.Clone(m.events[min(after, uint64(len(m.events))):])
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, r := range found {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (m *memory) Head(context.Context) (eventstore.Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return eventstore.Head{Position: uint64(len(m.events)), Incarnation: cmp.Or(m.incarnation, "memory")}, nil
}

func (m *memory) Wait(context.Context, uint64) error { return errors.ErrUnsupported }

func (m *memory) Snapshot(_ context.Context, stream string, foldVersion int) (eventstore.Snapshot, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.snapshots[stream]
	return s, ok && s.FoldVersion == foldVersion, nil
}

func (m *memory) SaveSnapshot(_ context.Context, s eventstore.Snapshot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.snapshots[s.Stream] = s
	return nil
}

func (m *memory) PersonKey(_ context.Context, subject string) (string, []byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.keys[subject]
	return k[0], []byte(k[1]), ok, nil
}

func (m *memory) PersonKeyByID(_ context.Context, subject, id string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.keys[subject]
	return []byte(k[1]), ok && k[0] == id, nil
}

func (m *memory) AddPersonKey(_ context.Context, subject, id string, wrapped []byte) (string, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.keys[subject]; !ok {
		m.keys[subject] = [2]string{id, string(wrapped)}
	}
	k := m.keys[subject]
	return k[0], []byte(k[1]), nil
}
