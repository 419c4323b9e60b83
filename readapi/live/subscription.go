package live

import (
	"maps"
	"slices"
	"time"

	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/readapi"
)

// caughtUp makes a subscription live when the window reaches its place, or it has all that there is. Otherwise it says
// up to which message other sources have to go on. done is true also of one that has ended.
func (h *hub) caughtUp(s *subscription) (upTo uint64, done bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := s.room
	if s.ended {
		return 0, true
	}
	upTo = r.end(s.side)
	if n := len(r.window); n > 0 && r.window[n-1].Seq >= r.head { // not one that lags behind what the store told
		if first := r.window[0].Seq; s.next >= first {
			upTo = 0
		} else {
			upTo = min(upTo, first-1)
		}
	}
	if s.next <= upTo && !s.lost {
		return upTo, false
	}
	s.live, s.heard = true, r.head
	s.wake()
	return 0, true
}

// news is what a subscription has to be told: one of these, or nothing.
type news struct {
	messages []chatrooms.Message // in order; moved is to be called with how many were sent
	other    string              // who is on the other side, of whom the next two tell
	read     uint64              // how far they have read
	presence presence            // whether they are there
	resync   uint64              // the seq from which to subscribe again: the subscription is to be ended
	left     bool                // the member left and has it all: the subscription is to be ended
}

// pull takes what a live subscription has to be told next, at most limit messages. ok is false when there is nothing.
func (h *hub) pull(s *subscription, limit int) (n news, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.ended || !s.live || s.sealed {
		return news{}, false
	}
	r := s.room
	end := r.end(s.side)
	if s.next <= end && !s.lost {
		switch k := len(r.window); {
		case k > 0 && s.next > r.window[k-1].Seq: // the store told of more than the log has brought yet
		case k > 0 && s.next >= r.window[0].Seq:
			first := r.window[0].Seq
			from := int(s.next - first)                                     //nolint:gosec // within the window
			to := min(from+limit, int(min(end, r.window[k-1].Seq)-first)+1) //nolint:gosec // within the window
			return news{messages: r.window[from:to:to]}, true
		default:
			s.lost = true // the window has gone past it
		}
	}
	other := 1 - s.side
	switch read := min(r.read[other], end); {
	case s.lost:
		return news{resync: s.next}, true
	case read > s.read:
		s.read = read
		return news{other: r.members[other], read: read}, true
	case r.left[s.side] != nil && s.next > end:
		return news{left: true}, true
	case r.online[other] != unknown && r.online[other] != s.online:
		s.online = r.online[other]
		return news{other: r.members[other], presence: s.online}, true
	}
	return news{}, false
}

// moved is told that so many messages were sent.
func (h *hub) moved(s *subscription, by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.next += uint64(by) //nolint:gosec // a count
}

// takeDirty is the socket's next subscription that may have something new; nil when there is none.
func (h *hub) takeDirty(s *socket) *subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(s.dirty) == 0 {
		s.dirty = nil
		return nil
	}
	sub := s.dirty[0]
	s.dirty = s.dirty[1:]
	sub.dirty = false
	return sub
}

// lookAgain puts a subscription behind the socket's others.
func (h *hub) lookAgain(sub *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sub.sealed = false; !sub.ended {
		sub.wake()
	}
}

// seal lets a subscription wait until somebody looks again, whatever comes meanwhile.
func (h *hub) seal(sub *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sub.sealed = true
}

// subscription is a socket's in a room; nil when it has none.
func (h *hub) subscription(s *socket, roomID string) *subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.subs[roomID]
}

// count is how many rooms a socket is in.
func (h *hub) count(s *socket) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(s.subs)
}

// end ends a subscription. It answers false when that has ended before.
func (h *hub) end(sub *subscription) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sub.ended {
		return false
	}
	h.detach(sub)
	return true
}

// over tells whether a subscription has ended.
func (h *hub) over(sub *subscription) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return sub.ended
}

// leave ends all subscriptions of a socket.
func (h *hub) leave(s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, sub := range s.subs {
		h.detach(sub)
	}
	s.dirty = nil
}

// typeEvery is how often a subscription's typing is passed on.
const typeEvery = time.Second

// mayType tells whether a socket is in a room, and has not been typing there a moment ago.
func (h *hub) mayType(s *socket, room string, now time.Time) (allowed, in bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sub := s.subs[room]
	if sub == nil || now.Sub(sub.typed) < typeEvery {
		return false, sub != nil
	}
	sub.typed = now
	return true, true
}

// typing offers the other side's sockets that somebody of this one is writing.
func (h *hub) typing(room string, side int, who readapi.Person) {
	frame := encode(IsTyping{"typing", room, who})
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[room]; r != nil {
		for s := range r.subs {
			if s.side != side {
				s.sock.offer(frame)
			}
		}
	}
}

// note remembers that somebody came into a room or went. Call with the lock.
func (h *hub) note(r *room) {
	if h.stirred == nil {
		return
	}
	h.stirred[r.id] = struct{}{}
	select {
	case h.stir <- struct{}{}:
	default:
	}
}

// takeStirred is the rooms that somebody came into or went from since the last call.
func (h *hub) takeStirred() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	rooms := slices.Collect(maps.Keys(h.stirred))
	clear(h.stirred)
	return rooms
}

// crowd tells which sides of a room have sockets here.
func (h *hub) crowd(room string) (here [2]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[room]; r != nil {
		for s := range r.subs {
			here[s.side] = true
		}
	}
	return here
}

// present takes who is in a room, on whichever node.
func (h *hub) present(room string, there [2]presence) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.rooms[room]; r != nil && len(r.subs) > 0 {
		for side, p := range there {
			if r.online[side] != p {
				r.online[side] = p
				r.wake(func(s *subscription) bool { return s.side != side })
			}
		}
	}
}
