package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// fault is how a store in memory breaks a promise, the way that a real one might.
type fault string

const (
	sound            fault = ""
	earlyPositions   fault = "draws positions before the commit, as a sequence does"
	earlyUnlock      fault = "gives its lock back before the commit can be seen"
	losesUpdates     fault = "acknowledges what it does not keep, now and then"
	stale            fault = "reads what was true a moment ago, now and then"
	looksUpLate      fault = "does not find the newest commands, now and then"
	forgetful        fault = "does not look a command up"
	looksTooEarly    fault = "looks a command up before its turn"
	revisionFirst    fault = "checks the revision before the command"
	blind            fault = "does not check the expected revision"
	vague            fault = "does not tell a conflict's actual revision"
	remembersRefusal fault = "remembers a refused command"
	dropsForFollower fault = "leaves out what is appended while a page is read"
	losesTail        fault = "loses the last event on restart"
	newLife          fault = "is another incarnation after a restart"
	torn             fault = "stops in the middle of an append when its caller gives up"
	clockGoesBack    fault = "takes the clock's word for it"
	ageless          fault = "accepts decisions of any age"
	compacts         fault = "keeps data as a database's JSON"
	folds            fault = "does not tell upper from lower case"
	hashless         fault = "hashes something else"
	twoKeys          fault = "lets the last of two keys stand, and tells each that its own does"
	sleeper          fault = "does not wake who waits"
	leaky            fault = "keeps a loop's connection when the loop ends early"
	unlimited        fault = "has no limits"
	deaf             fault = "does not hear that a caller of a read has given up"
	losesOnClose     fault = "acknowledges before it writes"
	trusting         fault = "does not look which event it appends to"
	coarse           fault = "takes what is like the filter's"
	impatient        fault = "gives up a filtered read where a window has nothing"
	oneSnapshot      fault = "keeps one snapshot a stream, whatever its fold"
	offByOne         fault = "reads backwards from before where it was asked to"
	keepsHashes      fault = "erases the key alone"
	erasesAll        fault = "erases what everybody's requests could be compared with"
	keepsKey         fault = "finds an erased key by its ID"
	staleWrap        fault = "puts a key back that was erased or wrapped again meanwhile"
)

// content outlives an instance.
type content struct {
	mu       sync.Mutex
	events   []eventstore.Recorded // by position
	next     uint64
	at       time.Time
	commands map[uuid.UUID]eventstore.Command
	keys     map[string]personKey
	kept     map[snapshotKey]eventstore.Snapshot
	life     string
}

type snapshotKey struct {
	stream  string
	version int
}

type personKey struct {
	id      string
	wrapped []byte
}

// memory is a store that keeps the contract in the simplest way, but for its fault.
type memory struct {
	*content
	fault fault
	lane  *eventstore.Lane

	mu      sync.Mutex
	streams map[string]*sync.Mutex
	changed chan struct{} // closed and made anew with each append
	read    chan struct{} // a place for each read under way
}

func newMemory(f fault, c *content) *memory {
	if c == nil {
		c = &content{next: 1, commands: map[uuid.UUID]eventstore.Command{}, keys: map[string]personKey{}, kept: map[snapshotKey]eventstore.Snapshot{}, life: uuid.NewString(), at: time.Unix(0, 0).UTC()}
	}
	m := &memory{content: c, fault: f, streams: map[string]*sync.Mutex{}, changed: make(chan struct{}), read: make(chan struct{}, 8)}
	m.lane = eventstore.NewLane(1, func(ctx context.Context, group []eventstore.Append) ([]eventstore.Result, error) {
		results := make([]eventstore.Result, len(group))
		for i, a := range group {
			results[i] = m.commit(ctx, a)
		}
		return results, nil
	})
	return m
}

func (m *memory) reopen() *memory {
	_ = m.Close()
	if n := len(m.events); n > 0 && m.fault == losesTail {
		m.events = m.events[:n-1]
		m.next--
	}
	if m.fault == newLife {
		m.life = uuid.NewString()
	}
	return newMemory(m.fault, m.content)
}

func (m *memory) Close() error {
	m.lane.Close()
	if m.fault == losesOnClose { // what was acknowledged last had not reached the disk
		m.content.mu.Lock()
		defer m.content.mu.Unlock()
		if n := len(m.events); n > 0 {
			last := m.events[n-1]
			m.events = m.events[:n-1]
			for id, c := range m.commands {
				if c.Position == last.Position {
					delete(m.commands, id)
				}
			}
		}
	}
	return nil
}

func (m *memory) closed() error {
	select {
	case <-m.lane.Closed():
		return fmt.Errorf("%w: closed", eventstore.ErrUnavailable)
	default:
		return nil
	}
}

func (m *memory) name(s string) string {
	if m.fault == folds {
		return strings.ToLower(s)
	}
	return s
}

func (m *memory) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	a.Stream = m.name(a.Stream)
	if m.fault == folds {
		for i := range a.Events {
			a.Events[i].ID = eventstore.EventID(a.Command.ID, a.Stream, i)
		}
	}
	switch m.fault {
	case earlyPositions, earlyUnlock, torn, unlimited, looksTooEarly:
		// These write when they are called: there is no lane.
		if err := ctx.Err(); err != nil {
			return eventstore.Appended{}, err
		}
		if err := m.closed(); err != nil {
			return eventstore.Appended{}, err
		}
		_, known := m.command(a.Command.ID)
		m.mu.Lock()
		own, ok := m.streams[a.Stream]
		if !ok {
			own = &sync.Mutex{}
			m.streams[a.Stream] = own
		}
		m.mu.Unlock()
		dither()
		own.Lock()
		defer own.Unlock()
		if m.fault == looksTooEarly && !known {
			m.content.mu.Lock()
			delete(m.commands, a.Command.ID)
			m.content.mu.Unlock()
		}
		r := m.commit(ctx, a)
		return r.Appended, r.Err
	}
	return m.lane.Append(ctx, a)
}

// dither lets others go first, sometimes.
func dither() {
	for range rand.IntN(30) { //nolint:gosec // a test's dice
		runtime.Gosched()
	}
}

func (m *memory) command(id uuid.UUID) (eventstore.Command, bool) {
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	c, ok := m.commands[id]
	return c, ok
}

func (m *memory) commit(ctx context.Context, a eventstore.Append) eventstore.Result {
	var drawn uint64
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	if m.fault == earlyPositions {
		drawn = m.next
		m.next += uint64(len(a.Events))
		m.content.mu.Unlock()
		dither()
		m.content.mu.Lock()
	}
	last, position, id := eventstore.NoStream, uint64(0), uuid.Nil
	for _, r := range slices.Backward(m.events) {
		if r.Stream == a.Stream {
			last, position, id = r.Revision, r.Position, r.ID
			break
		}
	}
	another := a.ExpectedID != uuid.Nil && a.ExpectedID != id && m.fault != trusting
	conflict := another || a.Expected != eventstore.AnyRevision && a.Expected != last && m.fault != blind
	actual := last
	if m.fault == vague {
		actual = 0
	}
	refuse := func(err error) eventstore.Result {
		if m.fault == remembersRefusal {
			m.commands[a.Command.ID] = a.Command
		}
		return eventstore.Result{Err: err}
	}
	if conflict && m.fault == revisionFirst {
		return refuse(&eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: actual})
	}
	if c, known := m.commands[a.Command.ID]; known && m.fault != forgetful {
		return eventstore.Result{Err: &eventstore.DuplicateError{Command: c}}
	}
	now := eventstore.Micros(time.Now())
	if age := now.Sub(a.DecidedAt); age.Abs() > eventstore.MaxDecisionAge && m.fault != ageless {
		return refuse(eventstore.ErrDecisionTooOld)
	}
	if conflict {
		return refuse(&eventstore.ConflictError{Stream: a.Stream, Expected: a.Expected, Actual: actual})
	}
	if m.fault == clockGoesBack {
		now = now.Add(-time.Duration(rand.IntN(50)) * time.Millisecond) //nolint:gosec // a test's dice
	} else if now.Before(m.at) {
		now = m.at
	}
	if m.fault == losesUpdates && rand.IntN(20) == 0 { //nolint:gosec // a test's dice
		n := len(a.Events)
		return eventstore.Result{Appended: eventstore.Appended{LastRevision: last + eventstore.Revision(n), Position: m.next, RecordedAt: now}}
	}
	var unseen []eventstore.Recorded
	for i, e := range a.Events {
		last++
		if m.fault == earlyPositions {
			position = drawn + uint64(i) //nolint:gosec // a small number
		} else {
			position = m.next
			m.next++
		}
		r := eventstore.Recorded{
			Position: position, Stream: a.Stream, Revision: last, ID: e.ID, Type: e.Type, Key: a.Key, RecordedAt: now,
			Metadata: bytes.Clone(a.Metadata), Data: bytes.Clone(e.Data),
		}
		if m.fault == compacts {
			var b bytes.Buffer
			if json.Compact(&b, e.Data) == nil {
				r.Data = b.Bytes()
			}
		}
		r.Hash = eventstore.ContentHash(r)
		if m.fault == hashless {
			r.Hash[0]++
		}
		if m.fault == earlyUnlock {
			unseen = append(unseen, r)
		} else {
			m.insert(r)
		}
		if m.fault == torn {
			m.content.mu.Unlock()
			dither()
			m.content.mu.Lock()
			if ctx.Err() != nil {
				return eventstore.Result{Err: ctx.Err()}
			}
		}
	}
	if m.fault == earlyUnlock {
		m.content.mu.Unlock()
		dither()
		m.content.mu.Lock()
		for _, r := range unseen {
			m.insert(r)
		}
	}
	m.at = now
	c := a.Command
	c.Stream, c.LastRevision, c.Position = a.Stream, last, position
	m.commands[c.ID] = c
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != sleeper {
		close(m.changed)
		m.changed = make(chan struct{})
	}
	return eventstore.Result{Appended: eventstore.Appended{LastRevision: last, Position: position, RecordedAt: now}}
}

// insert keeps the order of positions.
func (m *memory) insert(r eventstore.Recorded) {
	i, _ := slices.BinarySearchFunc(m.events, r.Position, func(r eventstore.Recorded, p uint64) int { return int(int64(r.Position) - int64(p)) }) //nolint:gosec // small numbers
	m.events = slices.Insert(m.events, i, r)
}

func (m *memory) Command(ctx context.Context, id uuid.UUID) (eventstore.Command, bool, error) {
	c, ok := m.command(id)
	if m.fault == looksUpLate && rand.IntN(2) == 0 { //nolint:gosec // a test's dice
		m.content.mu.Lock()
		ok = ok && c.Position+20 < m.next
		m.content.mu.Unlock()
	}
	return c, ok, errors.Join(ctx.Err(), m.closed())
}

func (m *memory) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	stream = m.name(stream)
	return m.yield(ctx, func(r eventstore.Recorded) bool { return r.Stream == stream && r.Revision >= from })
}

func (m *memory) ReadStreamBack(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if m.fault == offByOne {
		from--
	}
	return func(yield func(eventstore.Recorded, error) bool) {
		var found []eventstore.Recorded
		for r, err := range m.ReadStream(ctx, stream, 0) {
			if err != nil {
				yield(r, err)
				return
			}
			if r.Revision <= from {
				found = append(found, r)
			}
		}
		for _, r := range slices.Backward(found) {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (m *memory) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	passed := 0
	return m.yield(ctx, func(r eventstore.Recorded) bool {
		match := f.Matches(r)
		switch {
		case m.fault == coarse:
			match = strings.HasPrefix(strings.ToLower(r.Stream), f.StreamPrefix) && f.Matches(eventstore.Recorded{Stream: f.StreamPrefix, Type: r.Type, Key: r.Key, Revision: r.Revision})
		case m.fault == impatient && match:
			match = passed < 10_000
			passed = 0
		case m.fault == impatient:
			passed++
		}
		return r.Position > after && match
	})
}

func (m *memory) Snapshot(ctx context.Context, stream string, version int) (eventstore.Snapshot, bool, error) {
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	s, ok := m.kept[m.snapshotKey(stream, version)]
	s.FoldVersion = version
	return s, ok, errors.Join(ctx.Err(), m.closed())
}

func (m *memory) snapshotKey(stream string, version int) snapshotKey {
	if m.fault == oneSnapshot {
		version = 0
	}
	return snapshotKey{stream, version}
}

func (m *memory) SaveSnapshot(ctx context.Context, s eventstore.Snapshot) error {
	if err := s.Validate(); err != nil {
		return err
	}
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	m.kept[m.snapshotKey(s.Stream, s.FoldVersion)] = s
	return errors.Join(ctx.Err(), m.closed())
}

func (m *memory) yield(ctx context.Context, want func(eventstore.Recorded) bool) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if m.fault == leaky {
			select {
			case m.read <- struct{}{}:
			case <-ctx.Done():
			}
		}
		err := m.closed()
		if err == nil && m.fault != deaf {
			err = ctx.Err()
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		m.content.mu.Lock()
		events := slices.Clone(m.events)
		m.content.mu.Unlock()
		if m.fault == stale && rand.IntN(4) == 0 { //nolint:gosec // a test's dice
			events = events[:max(0, len(events)-3)]
		}
		for i, r := range events {
			if m.fault == dropsForFollower && i == len(events)-1 {
				dither()
				m.content.mu.Lock()
				r = m.events[len(m.events)-1] // the page ends with what came last, not with what was next
				m.content.mu.Unlock()
			}
			if want(r) && !yield(r, nil) {
				return
			}
		}
		if m.fault == leaky {
			<-m.read
		}
	}
}

func (m *memory) Head(ctx context.Context) (eventstore.Head, error) {
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	h := eventstore.Head{Incarnation: m.life, RecordedAt: m.at}
	if n := len(m.events); n > 0 {
		h.Position = m.events[n-1].Position
	}
	return h, errors.Join(ctx.Err(), m.closed())
}

func (m *memory) Wait(ctx context.Context, after uint64) error {
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		if h, err := m.Head(ctx); err != nil || h.Position > after {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-m.lane.Closed():
			return m.closed()
		}
	}
}

func (m *memory) PersonKey(ctx context.Context, subject string) (string, []byte, bool, error) {
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	k, ok := m.keys[subject]
	return k.id, k.wrapped, ok, errors.Join(ctx.Err(), m.closed())
}

func (m *memory) PersonKeyByID(ctx context.Context, subject, id string) ([]byte, bool, error) {
	standing, wrapped, found, err := m.PersonKey(ctx, subject)
	return wrapped, found && standing == id, err
}

func (m *memory) AddPersonKey(ctx context.Context, subject, id string, wrapped []byte) (string, []byte, error) {
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	k, ok := m.keys[subject]
	if !ok || m.fault == twoKeys {
		k = personKey{id, wrapped}
		m.keys[subject] = k
	}
	return k.id, k.wrapped, ctx.Err()
}

func (m *memory) ErasePerson(ctx context.Context, subject string) error {
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	if m.fault != keepsKey {
		delete(m.keys, subject)
	}
	for id, c := range m.commands {
		if erased := len(c.RequestHash) == 33; !erased && m.fault != keepsHashes && (c.Actor == subject || m.fault == erasesAll) {
			c.RequestHash = eventstore.ErasedRequestHash(c.RequestHash)
			m.commands[id] = c
		}
	}
	return ctx.Err()
}

func (m *memory) PersonKeys(context.Context) iter.Seq2[eventstore.PersonKey, error] {
	return func(yield func(eventstore.PersonKey, error) bool) {
		m.content.mu.Lock()
		var all []eventstore.PersonKey
		for subject, k := range m.keys {
			all = append(all, eventstore.PersonKey{Subject: subject, KeyID: k.id, Wrapped: k.wrapped})
		}
		m.content.mu.Unlock()
		for _, k := range all {
			if !yield(k, nil) {
				return
			}
		}
	}
}

func (m *memory) RewrapPersonKey(ctx context.Context, was eventstore.PersonKey, wrapped []byte) (bool, error) {
	m.content.mu.Lock()
	defer m.content.mu.Unlock()
	k, found := m.keys[was.Subject]
	if m.fault != staleWrap && (!found || k.id != was.KeyID || !bytes.Equal(k.wrapped, was.Wrapped)) {
		return false, ctx.Err()
	}
	m.keys[was.Subject] = personKey{was.KeyID, wrapped}
	return true, ctx.Err()
}
