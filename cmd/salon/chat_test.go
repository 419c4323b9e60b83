package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/readapi/live"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// chatRooms and chatTime are how much is said; each room has two people, and each of them two sockets.
const (
	chatRooms = 25
	chatTime  = time.Minute
)

// heard is what one socket's client was told of a room.
type heard struct {
	who  domain.Actor
	room string

	mu       sync.Mutex
	messages []live.Message
	grown    chan struct{}
}

func (h *heard) on(frame any) {
	m, ok := frame.(*live.Message)
	if !ok {
		return
	}
	h.mu.Lock()
	h.messages = append(h.messages, *m)
	h.mu.Unlock()
	select {
	case h.grown <- struct{}{}:
	default:
	}
}

// last is the last message.
func (h *heard) last() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.messages) == 0 {
		return 0
	}
	return h.messages[len(h.messages)-1].Seq
}

// until waits for the message with this seq.
func (h *heard) until(ctx context.Context, seq uint64) error {
	for {
		h.mu.Lock()
		n := len(h.messages)
		there := n > 0 && h.messages[n-1].Seq >= seq
		h.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s/%s has %d messages of room %s, and waits for %d", h.who.Role, h.who.ID, n, h.room, seq)
		case <-h.grown:
		}
	}
}

// book makes a salon and a reservation in it, whose ID is a room's.
func book(t *testing.T, w *town, node string, salon, customer domain.Actor) (room string) {
	t.Helper()
	do := func(who domain.Actor, method, path string, body any, status int, into any) {
		t.Helper()
		r, err := w.send(t.Context(), node, who, method, path, body, "Idempotency-Key", path+who.ID)
		if err != nil || r.status != status {
			t.Fatalf("%s %s: %d %s, %v", method, path, r.status, r.body, err)
		}
		if into != nil {
			if err := json.Unmarshal([]byte(r.body), into); err != nil {
				t.Fatal(err)
			}
		}
	}
	do(salon, http.MethodPut, "/v1/groomers/"+salon.ID, bodyOf(salon, 0), 200, nil)
	var made struct {
		ID string `json:"reservation_id"`
	}
	do(customer, http.MethodPost, "/v1/reservations", map[string]any{
		"groomer_id": salon.ID, "start": noonIn(3), "mode": "shop", "dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
	}, 201, &made)
	return made.ID
}

// TestEveryMemberHearsEveryMessageOnceInOrder lets people talk over two nodes, with two sockets each on nodes of their own
// choice, while nodes are killed, frozen and restarted. At the end every socket's transcript is the room's stream; who is
// in no room heard nothing.
func TestEveryMemberHearsEveryMessageOnceInOrder(t *testing.T) {
	harness.NeedsServers(t)
	seed := newSeed(t)
	dice := newRand(seed, 0)
	c := realCluster(t)
	c.prepare(t)
	desk := c.member(t, "commands", "commands", "relay", "projector")
	nodes := []*member{c.member(t, "live 1", "live"), c.member(t, "live 2", "live")}
	for _, m := range append(nodes, desk) {
		m.start(t)
	}
	for _, m := range append(nodes, desk) {
		m.ready(t)
	}
	store := c.openStore(t)
	w := newTown([]string{desk.url}, nil, c.mint(t))
	urls := []string{nodes[0].url, nodes[1].url}

	talking, stop := context.WithCancel(t.Context())
	defer stop()
	var connected, people sync.WaitGroup
	var transcripts []*heard
	join := func(who domain.Actor, room string) *liveclient.Client {
		h := &heard{who: who, room: room, grown: make(chan struct{}, 1)}
		transcripts = append(transcripts, h)
		cl := liveclient.New(liveclient.Config{URLs: urls, On: h.on, Token: func(context.Context) (string, error) { return w.bearer(who), nil }})
		cl.Follow(room, 0)
		connected.Go(func() {
			if err := cl.Run(talking); err != nil {
				t.Errorf("%s: %v", who.ID, err)
			}
		})
		return cl
	}
	var said sync.Map // room + client message ID → text
	began := time.Now()
	until := began.Add(chatTime)
	for i := range chatRooms {
		salon, customer := salons(chatRooms)[i], customersOf(chatRooms)[i]
		room := book(t, w, desk.url, salon, customer)
		for n, who := range []domain.Actor{salon, customer} {
			talker := join(who, room)
			join(who, room)
			random := newRand(seed, uint64(1+2*i+n)) //nolint:gosec // small
			people.Go(func() { chatter(t, talking, until, random, talker, who, room, &said) })
		}
	}
	stranger := domain.Actor{ID: "nobody", Role: domain.Customer}
	for _, h := range slices.Clone(transcripts)[:4] {
		join(stranger, h.room)
	}

	for time.Now().Before(until) {
		m := nodes[dice.IntN(2)]
		switch what := dice.IntN(3); what {
		case 0:
			m.process.Kill()
			m.start(t)
			m.ready(t)
			t.Logf("%v %s was killed", time.Since(began), m.name)
		case 1:
			m.end(t, false)
			m.start(t)
			m.ready(t)
			t.Logf("%s was restarted", m.name)
		case 2:
			if err := m.process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			pause(t.Context(), time.Second)
			if err := m.process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s was frozen for a second", m.name)
		}
		pause(t.Context(), 500*time.Millisecond)
	}
	t.Logf("%v end of faults", time.Since(began))
	people.Wait()
	t.Logf("%v people done", time.Since(began))

	waiting, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	total := 0
	for _, h := range transcripts {
		stream := spoken(t, store, h.room)
		if h.who == stranger {
			if len(h.messages) > 0 {
				t.Errorf("a stranger heard %d messages of room %s", len(h.messages), h.room)
			}
			continue
		}
		if err := h.until(waiting, uint64(len(stream))); err != nil {
			t.Error(err)
		}
		total += len(stream)
		h.mu.Lock()
		compareTalk(t, h, stream, &said)
		h.mu.Unlock()
	}
	t.Logf("%v compared", time.Since(began))
	stop()
	connected.Wait()
	t.Logf("%v disconnected", time.Since(began))
	t.Logf("%d messages were delivered to %d sockets", total, len(transcripts)-4)
	if total < 1000 {
		t.Error("too little was said to show anything")
	}
	for _, m := range append(nodes, desk) {
		m.end(t, false)
	}
}

// chatter posts until it is time to stop.
func chatter(t *testing.T, ctx context.Context, until time.Time, random *rand.Rand, c *liveclient.Client, who domain.Actor, room string, said *sync.Map) {
	for n := 0; time.Now().Before(until); n++ {
		id, text := fmt.Sprintf("%s-%d", who.Role, n), fmt.Sprintf("%s says %d 🐶", who.ID, random.Uint32())
		said.Store(room+id, text)
		posting, cancel := context.WithTimeout(ctx, time.Minute)
		_, err := c.Post(posting, room, id, text)
		cancel()
		if err != nil {
			t.Errorf("%s: %v", who.ID, err)
			return
		}
		pause(ctx, time.Duration(random.IntN(400))*time.Millisecond)
	}
}

// spoken is a room's messages in the store.
func spoken(t *testing.T, store eventstore.Store, room string) (out []chat.MessagePosted) {
	t.Helper()
	for r, err := range store.ReadStream(t.Context(), eventstore.ChatStream(room), 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := codec().Decode(r.Type, r.Data)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := e.(chat.MessagePosted); ok {
			out = append(out, m)
		}
	}
	return out
}

func compareTalk(t *testing.T, h *heard, stream []chat.MessagePosted, said *sync.Map) {
	t.Helper()
	if len(h.messages) != len(stream) {
		t.Errorf("%s heard %d messages of room %s, which has %d", h.who.ID, len(h.messages), h.room, len(stream))
		return
	}
	for i, m := range h.messages {
		want := stream[i]
		text, _ := said.Load(h.room + want.ClientMessageID)
		if m.Seq != want.Seq || m.Sender.ID != want.Sender.ID || m.ClientMessageID != want.ClientMessageID || m.Text == nil || *m.Text != text {
			t.Errorf("%s heard %+v as message %d of room %s, which is %+v", h.who.ID, m, i+1, h.room, want)
			return
		}
	}
}

// noonIn is noon in Seoul, so many days from now.
func noonIn(days int) time.Time {
	seoul := time.FixedZone("KST", 9*3600)
	day := time.Now().In(seoul).AddDate(0, 0, days)
	return time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, seoul)
}
