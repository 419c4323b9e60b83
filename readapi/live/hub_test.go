package live

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/projections/chatrooms"
)

// fact is an event of a room in the model's log.
type fact struct {
	room string
	what string // "opened", "message", "read", "left"
	side int
	seq  uint64

	revision int64 // of the room's stream; -1 of a read mark
}

// town is a model of everything around a hub: a store, a log of it that the hub is told of later, and sockets. What it
// holds the hub to: each subscription is told after+1, after+2, …, none missing and none twice, up to what its member may
// read; who is no member is told nothing; nobody is told to begin again without a reason.
type town struct {
	hub     *hub
	roomy   bool // nothing is ever evicted
	rooms   []string
	heads   map[string]uint64
	length  map[string]int64 // of a room's stream
	left    map[string]*[2]*uint64
	log     [2][]fact      // by partition
	at      [2]int         // how far the hub was told
	forgot  map[string]int // how often records of a room were missing
	sockets []*socket
	told    map[*subscription]*telling
	ended   []*telling
	online  map[string][2]presence
}

// telling is what a subscription was told.
type telling struct {
	sub    *subscription
	after  uint64 // the last message
	read   uint64
	seen   presence
	live   bool // somebody has caught it up
	forgot int  // what the room's count was when it began
	resync bool
	left   bool
}

func newTown(t *rapid.T) *town {
	w := &town{
		roomy: rapid.Bool().Draw(t, "roomy"), heads: map[string]uint64{}, left: map[string]*[2]*uint64{}, told: map[*subscription]*telling{},
		online: map[string][2]presence{}, length: map[string]int64{}, forgot: map[string]int{},
	}
	most := bounds{messages: 1 << 20, bytes: 1 << 30, rooms: 100}
	if !w.roomy {
		most = bounds{
			messages: rapid.IntRange(1, 12).Draw(t, "most messages"), bytes: 400 * rapid.IntRange(1, 12).Draw(t, "most bytes"),
			rooms: rapid.IntRange(1, 4).Draw(t, "most rooms"),
		}
	}
	w.hub = newHub(most)
	for n := range 3 {
		room := fmt.Sprintf("kim.%026d", n)
		w.rooms = append(w.rooms, room)
		w.left[room] = &[2]*uint64{}
	}
	for _, who := range []auth.Identity{
		{Sub: "c", Role: "customer"}, {Sub: "c", Role: "customer"}, {Sub: "g", Role: "groomer"}, {Sub: "g", Role: "groomer"},
		{Sub: "x", Role: "customer"}, {Sub: "c", Role: "groomer"}, // outsiders, one of whom has a member's name
	} {
		side, _ := sideOf(who.Role)
		w.sockets = append(w.sockets, &socket{id: who, side: side, woken: make(chan struct{}, 1), subs: map[string]*subscription{}})
	}
	return w
}

func partOf(room string) int32 { return int32(room[len(room)-1]-'0') % 2 }

func (w *town) record(f fact) {
	if f.revision = -1; f.what != "read" {
		if w.length[f.room] == 0 && f.what != "opened" { // with whatever is first
			w.record(fact{room: f.room, what: "opened"})
		}
		f.revision = w.length[f.room]
		w.length[f.room]++
	}
	part := partOf(f.room)
	w.log[part] = append(w.log[part], f)
}

func (w *town) post(room string) {
	w.heads[room]++
	w.record(fact{room: room, what: "message", side: int(w.heads[room] % 2), seq: w.heads[room]})
}

func (w *town) leave(room string, side int) {
	if w.left[room][side] == nil {
		seq := w.heads[room]
		w.left[room][side] = &seq
		w.record(fact{room: room, what: "left", side: side, seq: seq})
	}
}

func message(room string, seq uint64) chatrooms.Message {
	return chatrooms.Message{RoomID: room, Seq: seq, Text: domain.Sealed{Cipher: []byte("woof")}}
}

func (f fact) change() chatrooms.Change {
	c := chatrooms.Change{Room: f.room, Revision: f.revision}
	mark := &chatrooms.Mark{Role: roleOf(f.side), Seq: f.seq}
	switch f.what {
	case "message":
		m := message(f.room, f.seq)
		c.Message = &m
	case "read":
		c.Read = mark
	case "left":
		c.Left = mark
	}
	return c
}

// tail tells the hub of the next events of a partition.
func (w *town) tail(part int32, n int) {
	for ; n > 0 && w.at[part] < len(w.log[part]); n-- {
		w.hub.apply(part, w.log[part][w.at[part]].change())
		w.at[part]++
	}
}

func (w *town) end(room string, side int) uint64 {
	if left := w.left[room][side]; left != nil {
		return *left
	}
	return w.heads[room]
}

func (w *town) membership(room string) Membership {
	l := w.left[room]
	return Membership{CustomerID: "c", GroomerID: "g", HeadSeq: w.heads[room], Revision: w.length[room] - 1, CustomerLeft: l[customerSide], GroomerLeft: l[groomerSide]}
}

// subscribe does what the gateway does. meanwhile is what happens while the store is read.
func (w *town) subscribe(t *rapid.T, s *socket, room string, after uint64, meanwhile func()) {
	if old := w.hub.subscription(s, room); old != nil {
		w.hub.end(old)
		w.ended = append(w.ended, w.told[old])
		delete(w.told, old)
	}
	for {
		forgot := w.forgot[room]
		r, err := w.hub.enter(room, partOf(room), func() (Membership, error) {
			meanwhile()
			m := w.membership(room)
			meanwhile()
			return m, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		sub, head, err := w.hub.attach(r, s, after)
		switch member := s.id == (auth.Identity{Sub: "c", Role: "customer"}) || s.id == (auth.Identity{Sub: "g", Role: "groomer"}); {
		case errors.Is(err, errForgotten):
			meanwhile = func() {}
			continue
		case !member && err == nil:
			t.Fatalf("%v was let into a room", s.id)
		case member && err != nil:
			t.Fatal(err)
		case member:
			if end := w.end(room, s.side); head > end {
				t.Fatalf("the head is told to be %d, and is %d", head, end)
			}
			w.told[sub] = &telling{sub: sub, after: after, forgot: forgot}
		}
		return
	}
}

// tell notes messages that a subscription was sent.
func (w *town) tell(t *rapid.T, sub *subscription, seqs ...uint64) {
	x := w.told[sub]
	for _, seq := range seqs {
		if seq != x.after+1 || seq > w.end(sub.room.id, sub.side) {
			t.Fatalf("told %d after %d, and the end is %d", seq, x.after, w.end(sub.room.id, sub.side))
		}
		x.after++
	}
	w.hub.moved(sub, len(seqs))
}

// catchUp does one step of a subscription that is not live, as the gateway's goroutine does.
func (w *town) catchUp(t *rapid.T, x *telling, most int) {
	upTo, done := w.hub.caughtUp(x.sub)
	if done {
		x.live = true
		return
	}
	for n := 0; n < most && x.after < upTo; n++ {
		w.tell(t, x.sub, x.after+1)
	}
}

// write does one step of a socket's writer. It answers false when there was nothing.
func (w *town) write(t *rapid.T, s *socket, most int) bool {
	sub := w.hub.takeDirty(s)
	if sub == nil {
		return false
	}
	n, ok := w.hub.pull(sub, most)
	if !ok {
		return true
	}
	x := w.told[sub]
	for _, m := range n.messages {
		w.tell(t, sub, m.Seq)
	}
	switch {
	case n.read > 0:
		if n.read <= x.read || n.read > w.end(sub.room.id, sub.side) {
			t.Fatalf("told that %d was read after %d", n.read, x.read)
		}
		x.read = n.read
	case n.presence != unknown:
		if n.presence == x.seen {
			t.Fatalf("told %v twice", x.seen)
		}
		x.seen = n.presence
	case n.resync > 0:
		if n.resync != x.after+1 {
			t.Fatalf("told to begin again at %d after %d", n.resync, x.after)
		}
		if w.roomy && w.forgot[sub.room.id] == x.forgot {
			t.Fatal("told to begin again for no reason")
		}
		x.resync = true
	case n.left:
		if w.left[sub.room.id][sub.side] == nil || x.after < w.end(sub.room.id, sub.side) {
			t.Fatalf("told that it left at %d", x.after)
		}
		x.left = true
	}
	if x.resync || x.left {
		w.hub.end(sub)
		w.ended = append(w.ended, x)
		delete(w.told, sub)
	}
	w.hub.lookAgain(sub)
	return true
}

// whole holds the hub's own books together.
func (w *town) whole(t *rapid.T) {
	h := w.hub
	bytes, idle := 0, 0
	for id, r := range h.rooms {
		for i, m := range r.window {
			bytes += sizeOf(m)
			if m.Seq != r.window[0].Seq+uint64(i) { //nolint:gosec // an index
				t.Fatalf("the window of room %s has a hole", id)
			}
		}
		if len(r.early) > maxEarly || slices.ContainsFunc(r.early, func(c chatrooms.Change) bool { return r.follows(c) || c.Revision <= r.revision }) {
			t.Fatalf("%d early messages of room %s wait after revision %d: %+v", len(r.early), id, r.revision, r.early)
		}
		if r.gone > len(r.window) {
			t.Fatalf("the window of room %s keeps %d messages that went, beside %d", id, r.gone, len(r.window))
		}
		if (r.idle != nil) != (len(r.subs) == 0) {
			t.Fatalf("room %s with %d subscriptions is idle: %v", id, len(r.subs), r.idle != nil)
		}
		if r.idle != nil {
			idle++
		}
	}
	if bytes != h.bytes || idle != h.idle.Len() {
		t.Fatalf("%d bytes counted as %d, %d idle rooms as %d", bytes, h.bytes, idle, h.idle.Len())
	}
	if len(h.order) > h.most.messages || h.bytes > h.most.bytes && len(h.order) > 0 {
		t.Fatalf("%d messages, %d bytes, are more than %+v", len(h.order), h.bytes, h.most)
	}
}

func (w *town) subs() []*telling {
	var out []*telling
	for _, s := range w.sockets {
		for _, room := range w.rooms {
			if sub := s.subs[room]; sub != nil {
				out = append(out, w.told[sub])
			}
		}
	}
	return out
}

// TestEachSubscriptionIsToldWhatFollowsItsPlace lets everything happen in any order.
func TestEachSubscriptionIsToldWhatFollowsItsPlace(t *testing.T) {
	t.Parallel()
	for n := range 60 { // of a hundred lives each, as rapid has it: some faults need several thousand to show
		t.Run(strconv.Itoa(n), func(t *testing.T) { rapid.Check(t, oneLife) })
	}
}

func oneLife(t *rapid.T) {
	w := newTown(t)
	room := func() string { return rapid.SampledFrom(w.rooms).Draw(t, "room") }
	side := func() int { return rapid.IntRange(0, 1).Draw(t, "side") }
	tail := func() { w.tail(int32(rapid.IntRange(0, 1).Draw(t, "part")), rapid.IntRange(0, 6).Draw(t, "records")) }
	post := func() {
		r := room()
		for range rapid.IntRange(1, 5).Draw(t, "posts") {
			w.post(r)
		}
	}
	lose := func() {
		part := int32(rapid.IntRange(0, 1).Draw(t, "part"))
		w.at[part] = min(len(w.log[part]), w.at[part]+rapid.IntRange(0, 3).Draw(t, "lost"))
		for _, r := range w.rooms {
			if partOf(r) == part {
				w.forgot[r]++
			}
		}
		w.hub.forget(part)
	}
	actions := map[string]func(*rapid.T){
		"post": func(*rapid.T) { post() },
		"mark": func(*rapid.T) {
			r, s := room(), side()
			if end := w.end(r, s); end > 0 {
				w.record(fact{room: r, what: "read", side: s, seq: rapid.Uint64Range(1, end).Draw(t, "mark")})
			}
		},
		"leave": func(*rapid.T) {
			if rapid.IntRange(0, 4).Draw(t, "rarely") == 0 {
				w.leave(room(), side())
			}
		},
		"tail": func(*rapid.T) { tail() },
		"ahead": func(*rapid.T) { // what was posted a moment ago, or a while, in any order
			part := rapid.IntRange(0, 1).Draw(t, "part")
			for range rapid.IntRange(1, 4).Draw(t, "hints") {
				if n := len(w.log[part]); n > 0 {
					w.hub.ahead(w.log[part][n-1-min(n-1, rapid.IntRange(0, 8).Draw(t, "ago"))].change())
				}
			}
		},
		"repeat": func(*rapid.T) { // the log brings again what it has brought
			part := int32(rapid.IntRange(0, 1).Draw(t, "part"))
			for n := max(0, w.at[part]-rapid.IntRange(0, 4).Draw(t, "again")); n < w.at[part]; n++ {
				w.hub.apply(part, w.log[part][n].change())
			}
		},
		"lose": func(*rapid.T) { lose() },
		"misread": func(*rapid.T) { // an event of which nothing but its room can be read
			part := int32(rapid.IntRange(0, 1).Draw(t, "part"))
			if w.at[part] < len(w.log[part]) {
				r := w.log[part][w.at[part]].room
				w.at[part]++
				w.forgot[r]++
				w.hub.forgetRoom(r)
			}
		},
		"subscribe": func(*rapid.T) {
			s, r := rapid.SampledFrom(w.sockets).Draw(t, "socket"), room()
			after := rapid.Uint64Range(0, w.end(r, s.side)).Draw(t, "after")
			w.subscribe(t, s, r, after, func() {
				for range rapid.IntRange(0, 2).Draw(t, "meanwhile") {
					rapid.SampledFrom([]func(){post, tail, lose}).Draw(t, "what")()
				}
			})
		},
		"unsubscribe": func(*rapid.T) {
			if all := w.subs(); len(all) > 0 {
				x := rapid.SampledFrom(all).Draw(t, "subscription")
				w.hub.end(x.sub)
				delete(w.told, x.sub)
			}
		},
		"disconnect": func(*rapid.T) {
			s := rapid.SampledFrom(w.sockets).Draw(t, "socket")
			for _, sub := range maps.Clone(s.subs) {
				delete(w.told, sub)
			}
			w.hub.leave(s)
		},
		"catch up": func(*rapid.T) {
			if all := slices.DeleteFunc(w.subs(), func(x *telling) bool { return x.live }); len(all) > 0 {
				w.catchUp(t, rapid.SampledFrom(all).Draw(t, "subscription"), rapid.IntRange(0, 4).Draw(t, "page"))
			}
		},
		"write": func(*rapid.T) {
			w.write(t, rapid.SampledFrom(w.sockets).Draw(t, "socket"), rapid.IntRange(1, 4).Draw(t, "most"))
		},
		"seal": func(*rapid.T) {
			if all := w.subs(); len(all) > 0 {
				w.hub.seal(rapid.SampledFrom(all).Draw(t, "subscription").sub)
			}
		},
		"be there": func(*rapid.T) {
			r, there := room(), [2]presence{}
			for side := range there {
				there[side] = rapid.SampledFrom([]presence{offline, online}).Draw(t, "there")
			}
			w.hub.present(r, there)
		},
		"": func(t *rapid.T) { w.whole(t) },
	}
	for range 3 { // a life of about a hundred steps
		t.Repeat(actions)
	}
	w.settle(t)
}

// settle lets everything come to rest: then everybody who is in a room has all of it.
func (w *town) settle(t *rapid.T) {
	for part := range int32(2) {
		w.tail(part, len(w.log[part]))
	}
	want := map[*socket]map[string]bool{}
	for _, x := range w.subs() {
		w.hub.lookAgain(x.sub)
		if want[x.sub.sock] == nil {
			want[x.sub.sock] = map[string]bool{}
		}
		want[x.sub.sock][x.sub.room.id] = true
	}
	w.ended = nil
	for rounds, again := 0, true; again; rounds++ {
		if again = false; rounds > 1000 {
			t.Fatal("it does not come to rest")
		}
		for _, x := range w.subs() {
			for !x.live {
				w.catchUp(t, x, 200)
			}
		}
		for _, s := range w.sockets {
			for n := 0; w.write(t, s, 64); n++ {
				if n > 1000 {
					t.Fatal("a socket is woken without end")
				}
			}
		}
		for _, x := range w.ended {
			if x.resync {
				w.subscribe(t, x.sub.sock, x.sub.room.id, x.after, func() {})
				again = true
			}
			if x.left {
				delete(want[x.sub.sock], x.sub.room.id)
			}
		}
		w.ended = nil
	}
	w.whole(t)
	for s, rooms := range want {
		for room := range rooms {
			x := w.told[s.subs[room]]
			if x == nil {
				t.Fatalf("%v is not in room %s any more", s.id, room)
			}
			if end := w.end(room, s.side); x.after != end || w.left[room][s.side] != nil {
				t.Fatalf("%v has %d messages of %d in room %s, and left: %v", s.id, x.after, end, room, w.left[room][s.side])
			}
			if there := s.subs[room].room.online[1-s.side]; x.seen != there {
				t.Fatalf("%v was told %v of who is %v", s.id, x.seen, there)
			}
		}
	}
}

// TestAMissingMessageEmptiesTheWindow: a hole that only the seqs show.
func TestAMissingMessageEmptiesTheWindow(t *testing.T) {
	t.Parallel()
	h := newHub(bounds{100, 1 << 20, 100})
	s := &socket{id: auth.Identity{Sub: "c", Role: "customer"}, woken: make(chan struct{}, 1), subs: map[string]*subscription{}}
	tell := func(seq uint64) {
		h.apply(0, fact{room: "r", what: "message", seq: seq, revision: int64(seq)}.change())
	}
	tell(1)
	r, err := h.enter("r", 0, func() (Membership, error) { return Membership{CustomerID: "c", GroomerID: "g", HeadSeq: 1}, nil })
	if err != nil {
		t.Fatal(err)
	}
	sub, _, err := h.attach(r, s, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, done := h.caughtUp(sub); !done {
		t.Fatal("the window has all of it")
	}
	if n, _ := h.pull(sub, 10); len(n.messages) != 1 {
		t.Fatalf("%+v", n)
	}
	h.moved(sub, 1)
	tell(3)
	if n, _ := h.pull(sub, 10); n.resync != 2 {
		t.Errorf("with message 2 missing it is told %+v", n)
	}
}

// TestTheFirstMessageDoesNotWaitForTheLog: it was recorded with the room's opening, which is no message.
func TestTheFirstMessageDoesNotWaitForTheLog(t *testing.T) {
	t.Parallel()
	first := func(revision int64) chatrooms.Change {
		return fact{room: "r", what: "message", seq: 1, revision: revision}.change()
	}
	for _, c := range []struct {
		what   string
		loaded bool
		hint   chatrooms.Change
		head   uint64
	}{
		{"it is shown", true, first(1), 1},
		{"somebody may have left before it", true, first(2), 0},
		{"it may be any message of a room that is not known", false, first(1), 0},
	} {
		h := newHub(bounds{100, 1 << 20, 100})
		r := h.find("r", 0)
		if c.loaded {
			if _, err := h.enter("r", 0, func() (Membership, error) { return Membership{Revision: -1}, nil }); err != nil {
				t.Fatal(err)
			}
		}
		h.ahead(c.hint)
		if r.head != c.head {
			t.Errorf("%s: the last message is %d, want %d", c.what, r.head, c.head)
		}
	}
}

// TestEarlyMessagesThatCrossWaitForEachOther: two nodes tell each other of what was posted at nearly the same time.
func TestEarlyMessagesThatCrossWaitForEachOther(t *testing.T) {
	t.Parallel()
	h := newHub(bounds{100, 1 << 20, 100})
	s := &socket{id: auth.Identity{Sub: "c", Role: "customer"}, woken: make(chan struct{}, 1), subs: map[string]*subscription{}}
	r, err := h.enter("r", 0, func() (Membership, error) { return Membership{CustomerID: "c", GroomerID: "g", Revision: -1}, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.attach(r, s, 0); err != nil {
		t.Fatal(err)
	}
	said := func(seq uint64, revision int64) chatrooms.Change {
		return fact{room: "r", what: "message", seq: seq, revision: revision}.change()
	}
	for _, step := range []struct {
		what string
		do   func()
		head uint64
	}{
		{"the third comes first", func() { h.ahead(said(3, 3)) }, 0},
		{"then the second", func() { h.ahead(said(2, 2)) }, 0},
		{"then the first, and all are shown", func() { h.ahead(said(1, 1)) }, 3},
		{"one is missing", func() { h.ahead(said(5, 5)) }, 3},
		{"which the log brings", func() { h.apply(0, said(4, 4)) }, 5},
		{"somebody left meanwhile", func() { h.ahead(said(6, 7)) }, 5},
		{"which the log brings as well", func() { h.apply(0, fact{room: "r", what: "left", side: customerSide, seq: 5, revision: 6}.change()) }, 6},
		{"what came is not waited for", func() { h.ahead(said(6, 7)) }, 6},
	} {
		if step.do(); r.head != step.head {
			t.Errorf("%s: the last message is %d, want %d", step.what, r.head, step.head)
		}
	}
	if end := r.end(customerSide); end != 5 || len(r.early) != 0 {
		t.Errorf("who left may read up to %d; %d messages wait", end, len(r.early))
	}
}
