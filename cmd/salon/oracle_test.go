package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// past is all that a store holds. The checks on it answer what is wrong, so that a test can also see them find it.
type past struct {
	recorded []eventstore.Recorded
	events   []engine.Event
	sparse   bool // of EventStoreDB: positions have holes, and time ascends within streams
}

func readPast(ctx context.Context, store eventstore.Store) (past, error) {
	var h past
	c := codec()
	for r, err := range store.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return h, err
		}
		f, err := c.Fact(r)
		if err != nil {
			return h, err
		}
		m, err := eventstore.DecodeMetadata(r.Metadata)
		if err != nil {
			return h, err
		}
		h.recorded = append(h.recorded, r)
		h.events = append(h.events, engine.Event{Fact: f, ID: r.ID, Position: r.Position, Stream: r.Stream, Key: r.Key, Meta: m})
	}
	return h, nil
}

// numbered checks the store's own promises: positions (unless it is sparse) and revisions without holes, time that does
// not go back, contents under their hash.
func (h past) numbered() (wrong []string) {
	next := map[string]eventstore.Revision{}
	at, before := map[string]time.Time{}, uint64(0)
	for i, r := range h.recorded {
		if !h.sparse && r.Position != uint64(i+1) || r.Position <= before {
			wrong = append(wrong, fmt.Sprintf("position %d is the %d-th event", r.Position, i+1))
		}
		before = r.Position
		if r.Revision != next[r.Stream] {
			wrong = append(wrong, fmt.Sprintf("%s has revision %d where %d follows", r.Stream, r.Revision, next[r.Stream]))
		}
		next[r.Stream] = r.Revision + 1
		clock := ""
		if h.sparse {
			clock = r.Stream
		}
		if r.RecordedAt.Before(at[clock]) {
			wrong = append(wrong, fmt.Sprintf("position %d was recorded %v before the one in front of it", r.Position, at[clock].Sub(r.RecordedAt)))
		}
		at[clock] = r.RecordedAt
		if eventstore.ContentHash(r) != r.Hash {
			wrong = append(wrong, fmt.Sprintf("position %d has another hash than its content", r.Position))
		}
	}
	return wrong
}

// finder looks a command up.
type finder func(id uuid.UUID) (eventstore.Command, bool, error)

// once checks that what was acknowledged is stored, once, and nothing else: every event belongs to an accepted deed,
// a deed's events are its first, second … and all in one stream, and the store remembers the accepted ones alone.
func (h past) once(deeds []deed, find finder) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	accepted := map[uuid.UUID]deed{}
	for _, d := range deeds {
		if d.code == "" {
			accepted[d.command()] = d
		}
	}
	made := map[uuid.UUID][]eventstore.Recorded{}
	for i, r := range h.recorded {
		meta := h.events[i].Meta
		d, ok := accepted[meta.CommandID]
		if !ok {
			complain("%s at position %d: nobody was told that it happened (command %s of %s)", r.Type, r.Position, meta.Command, meta.Actor.Subject())
			continue
		}
		if meta.Actor != d.who || meta.Command != commandName(d.name) {
			complain("%s at position %d: %s by %s, but it was %s by %s", r.Type, r.Position, meta.Command, meta.Actor.Subject(), d.name, d.who.Subject())
		}
		of := made[meta.CommandID]
		if r.ID != eventstore.EventID(meta.CommandID, r.Stream, len(of)) || len(of) > 0 && of[0].Stream != r.Stream {
			complain("%s at position %d: not the event %d of its command", r.Type, r.Position, len(of))
		}
		made[meta.CommandID] = append(of, r)
	}
	for id, d := range accepted {
		c, found, err := find(id)
		if err != nil || !found {
			complain("acknowledged and not there: %s %s of %s, key %s: %s (%v)", d.method, d.path, d.who.Subject(), d.key, d.body, err)
			continue
		}
		if of := made[id]; len(of) > 0 && (c.LastRevision != of[len(of)-1].Revision || c.Stream != of[0].Stream || c.Position != of[len(of)-1].Position) {
			complain("command %s ends at %s@%d, its events at %s@%d", id, c.Stream, c.LastRevision, of[0].Stream, of[len(of)-1].Revision)
		}
		if len(d.seen.Entries) == 1 && d.seen.Entries[0].Position != c.Position {
			complain("%s %s was answered with a token of position %d, and stands at %d", d.method, d.path, d.seen.Entries[0].Position, c.Position)
		}
	}
	for _, d := range deeds {
		if d.code == "" {
			continue
		}
		if _, found, err := find(d.command()); found || err != nil {
			complain("refused with %s and stored: %s %s of %s, key %s (%v)", d.code, d.method, d.path, d.who.Subject(), d.key, err)
		}
	}
	return wrong
}

// commandName is what the store calls a town's deed.
func commandName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// apart checks by a bookkeeping of its own that at no moment two visits of a groomer overlapped, buffers included (G9).
// The town's salons never change their buffer, so each visit has that of its salon.
func (h past) apart() (wrong []string) {
	type taken struct {
		from, to, dead time.Time // dead: when a hold ends by itself
		minutes        int
	}
	type book struct {
		buffer int
		taken  map[string]taken
	}
	books := map[string]*book{}
	take := func(e engine.Event, id string, start time.Time, minutes int, dead time.Time) {
		b := books[e.Key]
		t := taken{start, start.Add(time.Duration(minutes+b.buffer) * time.Minute), dead, minutes}
		for other, o := range b.taken {
			if other != id && t.from.Before(o.to) && o.from.Before(t.to) && (o.dead.IsZero() || o.dead.After(e.At)) {
				wrong = append(wrong, fmt.Sprintf("position %d: %s takes [%v, %v), where %s has [%v, %v)", e.Position, id, t.from, t.to, other, o.from, o.to))
			}
		}
		b.taken[id] = t
	}
	for _, e := range h.events {
		b := books[e.Key]
		switch ev := e.Event.(type) {
		case groomer.Registered:
			books[e.Key] = &book{taken: map[string]taken{}}
		case groomer.PoliciesChanged:
			b.buffer = ev.BufferMinutes
		case groomer.SlotHeld:
			take(e, ev.HoldID, ev.Start, ev.Minutes, ev.ExpiresAt)
		case groomer.HoldReleased:
			delete(b.taken, ev.HoldID)
		case groomer.Requested:
			delete(b.taken, ev.HoldID)
			take(e, ev.ReservationID, ev.Start, ev.Minutes, time.Time{})
		case groomer.Rescheduled:
			take(e, ev.ReservationID, ev.Start, b.taken[ev.ReservationID].minutes, time.Time{})
		case groomer.Declined:
			delete(b.taken, ev.ReservationID)
		case groomer.Expired:
			delete(b.taken, ev.ReservationID)
		case groomer.Cancelled:
			delete(b.taken, ev.ReservationID)
		}
	}
	return wrong
}

// said checks that each room's messages are those that were acknowledged: seq 1, 2, 3… and every message once.
func (h past) said(rooms map[string][]post) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	stored := map[string][]chat.MessagePosted{}
	for _, e := range h.events {
		if m, ok := e.Event.(chat.MessagePosted); ok {
			stored[m.RoomID] = append(stored[m.RoomID], m)
		}
	}
	for room, messages := range stored {
		ids := map[domain.Actor]map[string]bool{}
		for i, m := range messages {
			if m.Seq != uint64(i+1) {
				complain("room %s: message %d has seq %d", room, i+1, m.Seq)
			}
			if ids[m.Sender][m.ClientMessageID] {
				complain("room %s: message %s of %s stands twice", room, m.ClientMessageID, m.Sender.Subject())
			}
			if ids[m.Sender] == nil {
				ids[m.Sender] = map[string]bool{}
			}
			ids[m.Sender][m.ClientMessageID] = true
		}
		if len(messages) != len(rooms[room]) {
			complain("room %s has %d messages, %d were acknowledged", room, len(messages), len(rooms[room]))
		}
	}
	for room, posts := range rooms {
		for _, p := range posts {
			if of := stored[room]; p.seq > uint64(len(of)) || of[p.seq-1].ClientMessageID != p.clientID || of[p.seq-1].Sender != p.who {
				complain("room %s: message %s of %s was acknowledged as %d and is not there", room, p.clientID, p.who.Subject(), p.seq)
			}
		}
	}
	return wrong
}

// answers checks over HTTP that everybody finds what they were told: each reservation as it was last answered, its
// history with every step once, each room with every message once. All reads carry the tokens of all writes.
func (w *town) answers(ctx context.Context, seed uint64) (wrong []string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var mu sync.Mutex
	complain := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, fmt.Sprintf(format, args...))
	}
	jobs := make(chan func(p *person))
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			p := &person{town: w, rand: newRand(seed, uint64(i))}
			for job := range jobs {
				job(p)
			}
		})
	}
	for _, id := range slices.Sorted(maps.Keys(w.visits)) {
		v := w.visits[id]
		jobs <- func(p *person) {
			p.who = v.customer
			if r, ok := p.get(ctx, "/v1/reservations/"+v.id, v.seen); ok && r.body != v.latest {
				complain("reservation %s:\n  told %s\n  read %d %s", v.id, v.latest, r.status, r.body)
			}
			p.who = v.groomer
			if err := p.steps(ctx, v); err != nil {
				complain("history of %s: %v", v.id, err)
			}
		}
	}
	for room, posts := range w.rooms {
		jobs <- func(p *person) {
			p.who = posts[0].who
			if err := p.conversation(ctx, room, posts); err != nil {
				complain("room %s: %v", room, err)
			}
		}
	}
	close(jobs)
	workers.Wait()
	return wrong
}

// steps compares a reservation's history with what was acknowledged: the same steps at the same revisions.
func (p *person) steps(ctx context.Context, v *visit) error {
	r, ok := p.get(ctx, "/v1/reservations/"+v.id+"/history?limit=100", v.seen)
	var page struct {
		Items []struct {
			Revision uint64
			What     string
		}
	}
	if !ok || r.status != http.StatusOK || json.Unmarshal([]byte(r.body), &page) != nil {
		return fmt.Errorf("%d %s", r.status, r.body)
	}
	read := map[uint64]string{}
	for _, one := range page.Items {
		read[one.Revision] = one.What
	}
	if len(read) != len(page.Items) || !maps.Equal(read, v.known) {
		return fmt.Errorf("told %v, read %s", v.known, r.body)
	}
	return nil
}

// conversation reads a room from its beginning, page by page.
func (p *person) conversation(ctx context.Context, room string, posts []post) error {
	told := map[uint64]post{}
	seen := posts[0].seen
	for _, one := range posts {
		if _, twice := told[one.seq]; twice {
			return fmt.Errorf("seq %d was given to two messages", one.seq)
		}
		told[one.seq] = one
		seen = merge(seen, one.seen)
	}
	cursor := "after=0"
	next := uint64(1)
	for cursor != "" {
		r, ok := p.get(ctx, "/v1/chat/rooms/"+room+"/messages?limit=100&"+cursor, seen)
		var page struct {
			Items []struct {
				Seq    uint64
				Sender domain.Actor
				ID     string `json:"client_message_id"`
				Text   string
			}
			Next *string `json:"next_cursor"`
		}
		if !ok || r.status != http.StatusOK || json.Unmarshal([]byte(r.body), &page) != nil {
			return fmt.Errorf("%d %s", r.status, r.body)
		}
		for _, m := range page.Items {
			if t := told[m.Seq]; m.Seq != next || m.Sender != t.who || m.ID != t.clientID || m.Text != t.text {
				return fmt.Errorf("message %d is %v, told was %v", next, m, t)
			}
			next++
		}
		cursor = ""
		if page.Next != nil {
			cursor = "cursor=" + *page.Next
		}
	}
	if int(next)-1 != len(posts) { //nolint:gosec // a count of messages
		return errors.New("messages are missing at the end")
	}
	return nil
}

// fail reports what a check found, a little of it.
func fail(t *testing.T, what string, wrong []string) {
	t.Helper()
	for i, s := range wrong {
		if i == 8 {
			t.Errorf("%s: … and %d more", what, len(wrong)-i)
			return
		}
		t.Errorf("%s: %s", what, s)
	}
}
