package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/readapi/live"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// lounge is people who talk over two live nodes, one of which is to be hurt. In each room the salon sits at that one, the
// customer at the other.
type lounge struct {
	t                 *testing.T
	c                 *cluster
	w                 *town
	desk, hurt, whole *member
	pairs             []*pair
	apart             []*pair  // whose salon left the room
	presence          sync.Map // room → whether the customer is there, as the salon was told last
	said              sync.Map // room + client message ID → text
	stop              context.CancelFunc
	connected         sync.WaitGroup

	mu sync.Mutex
	n  int // messages
}

// pair is a room and who is in it.
type pair struct {
	room            string
	salon, customer domain.Actor
	onHurt, onWhole *liveclient.Client // by which they post
	near, far       *heard             // as their nodes sent it, at the hurt node and at the other

	mu  sync.Mutex
	seq uint64 // the last message that was acknowledged
	bye uint64 // the last one when the salon left
}

// newLounge starts the nodes and seats people in so many rooms. The hurt node is of a cluster that is this one, by ways
// of its own.
func newLounge(t *testing.T, c, hurt *cluster, rooms int) *lounge {
	t.Helper()
	p := &lounge{
		t: t, c: c, desk: c.member(t, "commands", "commands", "relay", "projector"), whole: c.member(t, "live 2", "live"), hurt: hurt.member(t, "live 1", "live"),
	}
	for _, m := range p.members() {
		m.start(t)
	}
	for _, m := range p.members() {
		m.ready(t)
	}
	p.w = newTown([]string{p.desk.url}, nil, c.mint(t))
	var talking context.Context
	talking, p.stop = context.WithCancel(t.Context())
	t.Cleanup(func() { p.stop(); p.connected.Wait() })
	for i := range rooms {
		r := &pair{salon: salons(rooms)[i], customer: customersOf(rooms)[i]}
		r.room = book(t, p.w, p.desk.url, r.salon, r.customer)
		r.onHurt, r.near = p.join(talking, r.salon, r.room, p.hurt.url)
		r.onWhole, r.far = p.join(talking, r.customer, r.room, p.whole.url)
		p.pairs = append(p.pairs, r)
	}
	return p
}

func (p *lounge) members() []*member { return []*member{p.desk, p.whole, p.hurt} }

// join seats somebody at a node: a client that posts, and an ear that hears.
func (p *lounge) join(ctx context.Context, who domain.Actor, room, url string) (*liveclient.Client, *heard) {
	cl := liveclient.New(liveclient.Config{
		URLs: []string{url}, Token: func(context.Context) (string, error) { return p.w.bearer(who), nil },
		On: func(frame any) {
			if f, ok := frame.(*live.Presence); ok && url == p.hurt.url {
				p.presence.Store(room, f.Online)
			}
		},
	})
	cl.Follow(room, 0)
	p.connected.Go(func() {
		if err := cl.Run(ctx); err != nil {
			p.t.Errorf("%s: %v", who.ID, err)
		}
	})
	return cl, p.listen(ctx, who, room, url)
}

// listen notes every message of a room as a node sends it, also what comes twice or in another order, which liveclient
// would pass over. An ear that loses its connection comes back and asks for what follows the last that it heard.
func (p *lounge) listen(ctx context.Context, who domain.Actor, room, url string) *heard {
	h := &heard{who: who, room: room, grown: make(chan struct{}, 1)}
	p.connected.Go(func() {
		for ctx.Err() == nil && !p.hear(ctx, h, url) {
			pause(ctx, 50*time.Millisecond)
		}
	})
	return h
}

// hear is one connection of an ear. It answers true when its member has left the room.
func (p *lounge) hear(ctx context.Context, h *heard, url string) (left bool) {
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(url, "http")+"/v1/live",
		&websocket.DialOptions{Subprotocols: []string{live.Subprotocol, live.BearerPrefix + p.w.bearer(h.who)}})
	if err != nil {
		return false
	}
	defer func() { _ = conn.CloseNow() }()
	subscribe := func() error {
		return conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"type":"subscribe","room_id":%q,"after_seq":%d}`, h.room, h.last()))
	}
	for err = subscribe(); err == nil; {
		var frame any
		if _, b, reading := conn.Read(ctx); reading != nil {
			return false
		} else if frame, err = live.ParseServer(b); err != nil {
			p.t.Error(err)
		}
		switch f := frame.(type) {
		case *live.Resync:
			err = subscribe()
		case *live.Error:
			return f.Code == "room.left"
		}
		h.on(frame)
	}
	return false
}

// say posts and waits for the acknowledgement.
func (p *lounge) say(r *pair, by *liveclient.Client, within time.Duration) error {
	p.mu.Lock()
	p.n++
	id, text := fmt.Sprint("m", p.n), fmt.Sprint("멍 ", p.n)
	p.mu.Unlock()
	p.said.Store(r.room+id, text)
	ctx, cancel := context.WithTimeout(p.t.Context(), within)
	defer cancel()
	posted, err := by.Post(ctx, r.room, id, text)
	r.acknowledged(posted.Seq)
	return err
}

// mail posts over HTTP: only the log brings it.
func (p *lounge) mail(r *pair) {
	p.t.Helper()
	id := "mail-" + fmt.Sprint(r.end()+1)
	p.said.Store(r.room+id, id)
	var posted struct{ Seq uint64 }
	_, err := newClient(p.desk.url, p.w.bearer(r.customer)).must(p.t.Context(), http.MethodPost, "/v1/chat/rooms/"+r.room+"/messages", "",
		map[string]any{"client_message_id": id, "text": id}, &posted)
	if err != nil {
		p.t.Fatal(err)
	}
	r.acknowledged(posted.Seq)
}

// leave lets the salon leave the last of the rooms, over HTTP.
func (p *lounge) leave() *pair {
	p.t.Helper()
	r := p.pairs[len(p.pairs)-1]
	p.pairs, p.apart = p.pairs[:len(p.pairs)-1], append(p.apart, r)
	r.bye = r.end()
	if _, err := newClient(p.desk.url, p.w.bearer(r.salon)).must(p.t.Context(), http.MethodPost, "/v1/chat/rooms/"+r.room+"/leave", "", nil, nil); err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (r *pair) acknowledged(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq = max(r.seq, seq)
}

func (r *pair) end() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

func (p *lounge) posts(r *pair, by *liveclient.Client) {
	p.t.Helper()
	if err := p.say(r, by, time.Minute); err != nil {
		p.t.Fatal(err)
	}
}

// arrives waits until these have heard all that was acknowledged in their room.
func (p *lounge) arrives(r *pair, heards ...*heard) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for _, h := range heards {
		if err := h.until(ctx, r.end()); err != nil {
			p.t.Fatal(err)
		}
	}
}

// everybodyTalks lets each say something, and hear all.
func (p *lounge) everybodyTalks() {
	p.t.Helper()
	for _, r := range p.pairs {
		p.posts(r, r.onHurt)
		p.posts(r, r.onWhole)
		p.arrives(r, r.near, r.far)
	}
}

// murmur lets all talk at once, beside whatever else is done, until it is ended.
func (p *lounge) murmur() (end func()) {
	ctx, stop := context.WithCancel(p.t.Context())
	var all sync.WaitGroup
	for _, r := range p.pairs {
		for _, by := range []*liveclient.Client{r.onHurt, r.onWhole} {
			all.Go(func() {
				for ctx.Err() == nil {
					if err := p.say(r, by, time.Minute); err != nil && p.t.Context().Err() == nil {
						p.t.Errorf("room %s: %v", r.room, err)
					}
					pause(ctx, 100*time.Millisecond)
				}
			})
		}
	}
	end = func() { stop(); all.Wait() }
	p.t.Cleanup(end)
	return end
}

// compare ends all connections, holds what each ear heard to its room's stream, and ends the nodes. Who left heard what was
// said until then.
func (p *lounge) compare() {
	p.t.Helper()
	for _, r := range p.pairs {
		p.arrives(r, r.near, r.far)
	}
	for _, r := range p.apart {
		p.arrives(r, r.far)
	}
	p.stop()
	p.connected.Wait()
	store := p.c.openStore(p.t)
	total := 0
	for _, r := range append(p.pairs, p.apart...) {
		stream := spoken(p.t, store, r.room)
		compareTalk(p.t, r.far, stream, &p.said)
		heard := stream
		if r.bye > 0 {
			heard = stream[:r.bye]
		}
		compareTalk(p.t, r.near, heard, &p.said)
		total += len(stream)
	}
	p.t.Logf("%d messages, each heard by both sides", total)
	for _, m := range p.members() {
		m.end(p.t, false)
	}
}
