package live

import (
	"container/list"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/projections/chatrooms"
)

// hub is what this node knows of the rooms: their latest messages, their members, and which sockets are in them.
//
// One lock guards all of it, the sockets' subscriptions included. Whoever holds it does no I/O and opens no text, so it
// is held for about a microsecond; a lock per room would have to be taken in the right order by everybody.
type hub struct {
	most bounds

	mu    sync.Mutex
	rooms map[string]*room
	idle  *list.List // of rooms without subscriptions, the longest untouched first
	bytes int        // of all windows
	order []held     // the messages of all windows as they came: the oldest go first

	stirred map[string]struct{} // rooms that somebody came into or went from; nil: nobody wants to know
	stir    chan struct{}       // there are some
}

// bounds are the most that a node remembers: beyond them it forgets, and asks the read model again.
type bounds struct{ messages, bytes, rooms int }

// held is a message in a window; one that is there no more is passed over.
type held struct {
	in  *room
	seq uint64
}

// room is one room as the tail and the store tell it.
type room struct {
	id   string
	part int32

	loading sync.Mutex // held by who reads the room from the store; taken before the hub's
	loaded  bool
	members [2]string // by side; known once loaded
	left    [2]*uint64
	head    uint64 // the last message that is known of, from either source
	// revision is the last one of the room's stream that is known of, with everything before it that has to be known; -1: none.
	revision int64

	// window is the latest messages that the tail brought, without holes. It is only appended to and resliced: a slice of
	// it may be read without the lock.
	window []chatrooms.Message
	early  []chatrooms.Change // messages that wait for one before them
	gone   int                // messages before the window in the same piece of memory
	read   [2]uint64          // how far a side has read, as the tail brought it
	online [2]presence        // whether a side has a socket on any node; known only while somebody is here

	subs map[*subscription]struct{}
	idle *list.Element // its place among the idle; nil while it has subscriptions
}

// The sides of a room.
const (
	customerSide = 0
	groomerSide  = 1
)

// sideOf is a role's side; ok is false for a role that is in no room.
func sideOf(role string) (side int, ok bool) {
	switch role {
	case "customer":
		return customerSide, true
	case "groomer":
		return groomerSide, true
	}
	return 0, false
}

// subscription is a socket's place in a room.
type subscription struct {
	room *room
	sock *socket
	side int

	next   uint64    // the seq that comes next
	read   uint64    // the other side's mark, as it was told last
	online presence  // whether the other side is there, as it was told last
	typed  time.Time // when its typing was passed on last
	heard  uint64    // the last message that there was when it became live; until then, none is later
	live   bool      // it takes from the window; until then, whoever catches it up has it
	dirty  bool      // it is in its socket's list
	sealed bool      // its next message cannot be opened at the moment: it waits
	lost   bool      // records are missing: it must subscribe again
	ended  bool      // it is in no room any more
}

var (
	errForgotten = errors.New("the room was forgotten meanwhile")
	errNoMember  = errors.New("not a member")
)

func newHub(most bounds) *hub {
	return &hub{most: most, rooms: map[string]*room{}, idle: list.New()}
}

// find is the room, made when there is none. Call with the lock.
func (h *hub) find(id string, part int32) *room {
	r := h.rooms[id]
	if r == nil {
		r = &room{id: id, part: part, revision: -1, subs: map[*subscription]struct{}{}}
		h.rooms[id] = r
		r.idle = h.idle.PushBack(r)
	} else if r.idle != nil {
		h.idle.MoveToBack(r.idle)
	}
	return r
}

// messageSize is about what a message takes without its texts, in bytes.
const messageSize = 320

func sizeOf(m chatrooms.Message) int {
	return messageSize + len(m.RoomID) + len(m.SenderID) + len(m.ClientID) + len(m.Text.Cipher) + len(m.ImageURL.Cipher)
}

// apply is told of every event of a partition, in order.
func (h *hub) apply(part int32, c chatrooms.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.find(c.Room, part)
	r.revision = max(r.revision, c.Revision)
	switch {
	case c.Message != nil:
		h.append(r, *c.Message)
	case c.Read != nil:
		if side, ok := sideOf(c.Read.Role); ok && c.Read.Seq > r.read[side] {
			r.read[side] = c.Read.Seq
			r.wake(func(s *subscription) bool { return s.side != side })
		}
	case c.Left != nil:
		if side, ok := sideOf(c.Left.Role); ok {
			r.leave(side, c.Left.Seq)
		}
	}
	h.takeEarly(r)
	h.trim()
}

// maxEarly is how many early messages of a room wait for one before them.
const maxEarly = 8

// ahead is told of a message that was recorded a moment ago, before the log brings it: by whoever posted it here, or by
// another node. It is taken only when nothing stands between it and what is known of the room, so that nobody who left in
// between hears it, and the log will bring it as a repeat. Two that crossed on their way wait for each other. Otherwise the
// log is waited for: that it brings everything is what chat rests on; this makes it sooner.
func (h *hub) ahead(c chatrooms.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[c.Room]
	if r == nil || c.Message == nil || !r.follows(c) && (len(r.subs) == 0 || len(r.early) == maxEarly) {
		return
	}
	r.early = append(r.early, c)
	h.takeEarly(r)
	h.trim()
}

// takeEarly takes the early messages that are next, one after the other, and forgets those that came otherwise.
func (h *hub) takeEarly(r *room) {
	for i := 0; i < len(r.early); i++ {
		c := r.early[i]
		next, came := r.follows(c), c.Revision <= r.revision
		if !next && !came {
			continue
		}
		r.early = slices.Delete(r.early, i, i+1)
		i = -1 // it may be what another waited for
		if n := len(r.window); came || n > 0 && r.window[n-1].Seq != r.head {
			continue // the log lags behind the store: the window would get a hole
		}
		r.revision = c.Revision
		h.append(r, *c.Message)
	}
}

// follows tells whether a message is the very next event of the room's stream. A room's first one is, too: its opening
// stands before it, and nothing else, and was recorded together with it.
func (r *room) follows(c chatrooms.Change) bool {
	return c.Revision == r.revision+1 || r.loaded && r.revision == -1 && c.Revision == 1 && c.Message.Seq == 1
}

func (h *hub) append(r *room, m chatrooms.Message) {
	if n := len(r.window); n > 0 {
		switch last := r.window[n-1].Seq; {
		case m.Seq <= last:
			return // the log may bring a message twice
		case m.Seq > last+1:
			h.drop(r) // messages are missing: whoever needs them is not reached by the window any more
		}
	}
	r.window = append(r.window, m)
	h.bytes += sizeOf(m)
	h.order = append(h.order, held{r, m.Seq})
	r.head = max(r.head, m.Seq)
	r.wake(func(*subscription) bool { return true })
}

// drop empties a room's window.
func (h *hub) drop(r *room) {
	for _, m := range r.window {
		h.bytes -= sizeOf(m)
	}
	r.window, r.gone = nil, 0
}

func (r *room) leave(side int, seq uint64) {
	if r.left[side] == nil {
		r.left[side] = &seq
		r.wake(func(s *subscription) bool { return s.side == side })
	}
}

// wake lets the writers of these subscriptions look.
func (r *room) wake(which func(*subscription) bool) {
	for s := range r.subs {
		if s.live && which(s) {
			s.wake()
		}
	}
}

func (s *subscription) wake() {
	if s.sealed {
		return // it is looked at again soon
	}
	if !s.dirty {
		s.dirty = true
		s.sock.dirty = append(s.sock.dirty, s)
	}
	s.sock.wake()
}

// trim keeps to the bounds: the oldest messages go first, and of rooms that nobody is in, the longest untouched.
func (h *hub) trim() {
	for len(h.order) > 0 && (len(h.order) > h.most.messages || h.bytes > h.most.bytes) {
		oldest := h.order[0]
		h.order = h.order[1:] // append moves what is left to a new array at times
		if r := oldest.in; len(r.window) > 0 && r.window[0].Seq == oldest.seq {
			h.bytes -= sizeOf(r.window[0])
			r.window = r.window[1:]
			// What went is memory as long as the window lies in the same piece, however quiet the room is from now on.
			if r.gone++; r.gone > len(r.window) {
				r.window, r.gone = slices.Clone(r.window), 0
			}
		}
	}
	for len(h.rooms) > h.most.rooms && h.idle.Len() > 0 {
		h.remove(h.idle.Front().Value.(*room))
	}
}

func (h *hub) remove(r *room) {
	h.drop(r)
	delete(h.rooms, r.id)
	if r.idle != nil {
		h.idle.Remove(r.idle)
		r.idle = nil
	}
}

// forget is for when records of a partition are missing: what it told of its rooms may be wrong. part < 0 is all of them.
func (h *hub) forget(part int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.rooms {
		if part < 0 || r.part == part {
			h.lose(r)
		}
	}
}

// forgetRoom is for when an event of one room is missing.
func (h *hub) forgetRoom(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[id]; r != nil {
		h.lose(r)
	}
}

// lose lets everybody in a room begin again.
func (h *hub) lose(r *room) {
	h.remove(r)
	for s := range r.subs {
		s.lost = true
		if s.live {
			s.wake()
		}
	}
}

// Membership is a room as the store tells it.
type Membership struct {
	CustomerID, GroomerID     string
	HeadSeq                   uint64
	Revision                  int64   // of its stream; -1 before its first event
	CustomerLeft, GroomerLeft *uint64 // the last message that one who left may read; nil: they are there
}

// enter makes sure that the room is loaded, by load, which reads it from the store. Whoever comes while it is read waits.
// The tail has its place before: what happens in the room after the store was read is brought by it.
func (h *hub) enter(id string, part int32, load func() (Membership, error)) (*room, error) {
	h.mu.Lock()
	r := h.find(id, part)
	loaded := r.loaded
	h.mu.Unlock()
	if loaded {
		return r, nil
	}
	r.loading.Lock()
	defer r.loading.Unlock()
	h.mu.Lock()
	loaded = r.loaded
	h.mu.Unlock()
	if loaded {
		return r, nil
	}
	m, err := load()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if r.idle != nil && len(r.window) == 0 { // who guesses IDs leaves nothing behind
			h.remove(r)
		}
		return nil, err
	}
	r.members = [2]string{m.CustomerID, m.GroomerID}
	r.head, r.revision = max(r.head, m.HeadSeq), max(r.revision, m.Revision)
	if m.CustomerLeft != nil {
		r.leave(customerSide, *m.CustomerLeft)
	}
	if m.GroomerLeft != nil {
		r.leave(groomerSide, *m.GroomerLeft)
	}
	r.loaded = true
	return r, nil
}

// attach puts a socket's subscription into a room, catching up. head is the last message for it. A room that was
// forgotten since it was entered is errForgotten: enter it again.
func (h *hub) attach(r *room, sock *socket, after uint64) (s *subscription, head uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rooms[r.id] != r {
		return nil, 0, errForgotten
	}
	if r.members[sock.side] != sock.id.Sub {
		return nil, 0, errNoMember
	}
	s = &subscription{room: r, sock: sock, side: sock.side, next: after + 1, heard: math.MaxUint64}
	r.subs[s] = struct{}{}
	if r.idle != nil {
		h.idle.Remove(r.idle)
		r.idle = nil
	}
	sock.subs[r.id] = s
	h.note(r)
	return s, r.end(s.side), nil
}

// knowHead is told by the store how far the room is, and says what the last message for the subscription is.
func (h *hub) knowHead(s *subscription, head uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.room.head = max(s.room.head, head)
	return s.room.end(s.side)
}

// end is the last message that a side may read.
func (r *room) end(side int) uint64 {
	if left := r.left[side]; left != nil {
		return min(*left, r.head)
	}
	return r.head
}

// detach ends a subscription. Call with the lock.
func (h *hub) detach(s *subscription) {
	if s.ended {
		return
	}
	s.ended = true
	if s.sock.subs[s.room.id] == s {
		delete(s.sock.subs, s.room.id)
	}
	delete(s.room.subs, s)
	h.note(s.room)
	if len(s.room.subs) == 0 && h.rooms[s.room.id] == s.room {
		s.room.online = [2]presence{}
		s.room.idle = h.idle.PushBack(s.room)
		h.trim()
	}
}
