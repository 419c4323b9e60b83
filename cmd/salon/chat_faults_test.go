package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/readapi/live"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// TestChatOutlivesTheServersBehindIt takes Kafka from everybody, and Redis and the event store from one of two live nodes,
// cut off and silent, while people talk over both. What can go on goes on; at the end each transcript is its room's stream.
func TestChatOutlivesTheServersBehindIt(t *testing.T) {
	harness.NeedsServers(t)
	const rooms = 4
	broker := harness.NewBroker(t)
	c := newCluster(t, harness.Postgres(t), broker.Addr, "", harness.MySQL(t), harness.Redis(t))
	c.prepare(t)
	desk, whole := c.member(t, "commands", "commands", "relay", "projector"), c.member(t, "live 2", "live")
	hurt := *c
	var store, redis *harness.Proxy
	hurt.events, store = harness.Through(t, c.events)
	hurt.redis, redis = harness.Through(t, c.redis)
	cut := hurt.member(t, "live 1", "live")
	all := []*member{desk, whole, cut}
	for _, m := range all {
		m.start(t)
	}
	for _, m := range all {
		m.ready(t)
	}
	w := newTown([]string{desk.url}, nil, c.mint(t))
	talking, stop := context.WithCancel(t.Context())
	defer stop()
	var connected sync.WaitGroup
	var transcripts []*heard
	var presence sync.Map // room → whether the customer is there, as the salon's socket on the hurt node was told last
	join := func(who domain.Actor, room, url string) (*liveclient.Client, *heard) {
		h := &heard{who: who, room: room, grown: make(chan struct{}, 1)}
		transcripts = append(transcripts, h)
		cl := liveclient.New(liveclient.Config{
			URLs: []string{url}, Token: func(context.Context) (string, error) { return w.bearer(who), nil },
			On: func(frame any) {
				if p, ok := frame.(*live.Presence); ok && url == cut.url {
					presence.Store(room, p.Online)
				}
				h.on(frame)
			},
		})
		cl.Follow(room, 0)
		connected.Go(func() {
			if err := cl.Run(talking); err != nil {
				t.Errorf("%s: %v", who.ID, err)
			}
		})
		return cl, h
	}
	var said sync.Map
	type pair struct {
		room            string
		onHurt, onWhole *liveclient.Client
		near, far       *heard // of the hurt node, of the other
		seq             uint64
	}
	var pairs []*pair
	for i := range rooms {
		salon, customer := salons(rooms)[i], customersOf(rooms)[i]
		p := &pair{room: book(t, w, desk.url, salon, customer)}
		p.onHurt, p.near = join(salon, p.room, cut.url)
		p.onWhole, p.far = join(customer, p.room, whole.url)
		pairs = append(pairs, p)
	}
	n := 0
	say := func(p *pair, by *liveclient.Client, within time.Duration) (live.Posted, error) {
		n++
		id, text := fmt.Sprint("m", n), fmt.Sprint("멍 ", n)
		said.Store(p.room+id, text)
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return by.Post(ctx, p.room, id, text)
	}
	posts := func(p *pair, by *liveclient.Client) {
		t.Helper()
		posted, err := say(p, by, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		p.seq = posted.Seq
	}
	arrives := func(p *pair, heards ...*heard) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for _, h := range heards {
			if err := h.until(ctx, p.seq); err != nil {
				t.Fatal(err)
			}
		}
	}
	everybodyTalks := func() {
		t.Helper()
		for _, p := range pairs {
			posts(p, p.onHurt)
			posts(p, p.onWhole)
			arrives(p, p.near, p.far)
		}
	}
	everybodyTalks()

	for _, away := range []struct {
		what          string
		take, restore func()
	}{
		{"cut off", redis.Cut, func() { redis.Restore(t) }},
		{"silent", redis.Freeze, redis.Thaw},
	} {
		away.take()
		everybodyTalks()
		for _, p := range pairs {
			p.onHurt.Typing(p.room)
		}
		everybodyTalks()
		away.restore()
		t.Logf("Redis was %s for one node", away.what)
	}

	broker.Close()
	for _, p := range pairs {
		posts(p, p.onHurt) // the store has it; nobody hears it yet
		posts(p, p.onWhole)
	}
	broker.Open(t)
	for _, p := range pairs {
		arrives(p, p.near, p.far)
	}
	everybodyTalks()
	t.Log("Kafka was away")

	for _, away := range []struct {
		what          string
		take, restore func()
	}{
		{"cut off", store.Cut, func() { store.Restore(t) }},
		{"silent", store.Freeze, store.Thaw},
	} {
		away.take()
		for _, p := range pairs {
			posts(p, p.onWhole)
			arrives(p, p.near, p.far) // delivery goes on at both
		}
		var refused *liveclient.RejectedError
		if _, err := say(pairs[0], pairs[0].onHurt, 2*time.Second); err == nil || errors.As(err, &refused) { // refused for now, and tried again
			t.Errorf("a post without the store: %v", err)
		}
		away.restore()
		everybodyTalks()
		t.Logf("the store was %s for one node", away.what)
	}

	stop()
	connected.Wait()
	events := c.openStore(t)
	for _, h := range transcripts {
		compareTalk(t, h, spoken(t, events, h.room), &said)
	}
	for _, p := range pairs {
		if there, ok := presence.Load(p.room); !ok || there != true {
			t.Errorf("the salon of room %s was not told that its customer is there", p.room)
		}
	}
	for _, m := range all {
		m.end(t, false)
	}
}
