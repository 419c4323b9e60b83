package live

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/readapi"
)

// presence is whether somebody has a socket in a room.
type presence int8

const (
	unknown presence = iota
	offline
	online
)

// ephemeral carries between the nodes what is kept nowhere: who is typing, who is there, and that something was said, before
// the log brings it. Chat goes on without it.
//
// Who is there stands in Redis, for a while: in each room's sorted set, the sides that a node has sockets of, by when that
// is true no longer, by Redis' clock. Each node says again what it knows before that, and reads the rest; a node that died
// is seen gone when its entries have expired. On the channel goes who is typing, what was said a moment
// ago, and which rooms are worth a look now.
//
// One goroutine speaks to Redis. Nobody waits for it: what it cannot take is dropped (hints) or done later (presence).
type ephemeral struct {
	hub    *hub
	redis  *redis.Client
	prefix string // of the keys
	node   string // names this one
	log    *slog.Logger

	channel string

	keepFor, sayEvery, linger time.Duration

	hints chan hint

	said    map[seat]bool      // what this node has in Redis
	leaving map[seat]time.Time // who of them went, and when: most come back at once
	looks   map[string]bool    // rooms that are to be told and read
	skew    time.Duration      // what Redis' clock is ahead of this node's
	away    time.Time          // until then Redis is left alone
}

// seat is one side of a room.
type seat struct {
	room string
	side int
}

// hint is what goes on the channel.
type hint struct {
	Node   string         `json:"node"` // that says it
	Room   string         `json:"room"`
	Typing readapi.Person `json:"typing,omitzero"` // who is typing
	// Message is one that was recorded a moment ago, its texts sealed. Neither: who is there has changed.
	Message *chatrooms.Change `json:"message,omitzero"`
}

func newEphemeral(h *hub, c *redis.Client, prefix string, hurry int, log *slog.Logger) *ephemeral {
	fast := time.Duration(hurry)
	e := &ephemeral{
		hub: h, redis: c, prefix: prefix + "live", node: rand.Text(), log: log,
		// A node's word outlives two that were lost, and a dead node's people are gone within half a minute.
		keepFor: 24 * time.Second / fast, sayEvery: 8 * time.Second / fast,
		linger: 3 * time.Second / fast, // a connection that is lost and made again is nobody's news
		hints:  make(chan hint, 256),
		said:   map[seat]bool{}, leaving: map[seat]time.Time{}, looks: map[string]bool{},
	}
	if c != nil {
		e.channel = fmt.Sprintf("%s@%d", e.prefix, c.Options().DB) // Redis' databases share their channels
		h.stirred, h.stir = map[string]struct{}{}, make(chan struct{}, 1)
	}
	return e
}

const (
	redisWithin = time.Second     // a Redis that says nothing is away
	redisAgain  = 2 * time.Second // how long it is left alone then
	roomsAtOnce = 200             // of a pipeline: up to a thousand commands
)

// run speaks to Redis until ctx ends. What it has said then expires by itself: the sockets come back to another node.
func (e *ephemeral) run(ctx context.Context) {
	if e.redis == nil {
		return
	}
	news := e.redis.Subscribe(ctx, e.channel)
	defer news.Close()
	heard := news.Channel(redis.WithChannelSize(4*roomsAtOnce), redis.WithChannelHealthCheckInterval(3*time.Second))
	sweep, refresh := time.NewTicker(e.linger/3), time.NewTicker(e.sayEvery)
	defer sweep.Stop()
	defer refresh.Stop()
	said := ""
	for fresh := false; ; {
		var err error
		select {
		case <-ctx.Done():
			return
		case m := <-heard:
			e.hear(m)
		case t := <-e.hints:
			err = e.publish(ctx, t)
		case <-e.hub.stir:
		case <-sweep.C:
			for s := range e.leaving {
				e.looks[s.room] = true
			}
		case <-refresh.C:
			fresh = false
		}
		if now := time.Now(); err == nil && now.After(e.away) {
			if !fresh {
				err = e.setClock(ctx)
				for s := range e.said {
					e.looks[s.room] = true
				}
			}
			if err == nil {
				err = e.look(ctx)
			}
			fresh = err == nil
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.away = time.Now().Add(redisAgain)
			if why := err.Error(); why != said {
				e.log.WarnContext(ctx, "typing and presence stop at this node until Redis is back", "error", err)
				said = why
			}
		} else if fresh && said != "" {
			e.log.InfoContext(ctx, "typing and presence go on")
			said = ""
		}
	}
}

// hear takes what another node said.
func (e *ephemeral) hear(m *redis.Message) {
	var h hint
	if m == nil || json.Unmarshal([]byte(m.Payload), &h) != nil || h.Node == e.node {
		return // nobody else's
	}
	if h.Message != nil {
		e.hub.ahead(*h.Message)
	} else if side, ok := sideOf(h.Typing.Role); ok {
		e.hub.typing(h.Room, side, h.Typing)
	} else if e.hub.crowd(h.Room) != ([2]bool{}) {
		e.looks[h.Room] = true
	}
}

// publish gives a hint to the other nodes, and all that wait. While Redis is away they are dropped.
func (e *ephemeral) publish(ctx context.Context, t hint) error {
	ctx, cancel := context.WithTimeout(ctx, redisWithin)
	defer cancel()
	away := time.Now().Before(e.away)
	p := e.redis.Pipeline()
	for n := len(e.hints); ; n-- {
		p.Publish(ctx, e.channel, encode(t))
		if n == 0 {
			break
		}
		t = <-e.hints
	}
	if away {
		return nil
	}
	_, err := p.Exec(ctx)
	return err
}

func (e *ephemeral) setClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisWithin)
	defer cancel()
	began := time.Now()
	now, err := e.redis.Time(ctx).Result()
	if err == nil {
		e.skew = now.Sub(began)
	}
	return err
}

// look says of rooms who is here, and reads who is there: of those that somebody came into or went from, and those in looks.
func (e *ephemeral) look(ctx context.Context) error {
	for _, room := range e.hub.takeStirred() {
		e.looks[room] = true
	}
	rooms := slices.Collect(maps.Keys(e.looks))
	for some := range slices.Chunk(rooms, roomsAtOnce) {
		if err := e.exchange(ctx, some); err != nil {
			return err
		}
		for _, room := range some {
			delete(e.looks, room)
		}
	}
	return nil
}

// exchange does it of a few rooms. After an error it is not known what of it happened: everything is said again later.
func (e *ephemeral) exchange(ctx context.Context, rooms []string) error {
	ctx, cancel := context.WithTimeout(ctx, redisWithin)
	defer cancel()
	local := time.Now()
	now := local.Add(e.skew)
	until := float64(now.Add(e.keepFor).UnixMilli())
	p := e.redis.Pipeline()
	answers := map[string]*redis.StringSliceCmd{}
	var left []seat
	for _, room := range rooms {
		key, changed := e.prefix+":"+room, false
		here := e.hub.crowd(room)
		for side := range here {
			at := seat{room, side}
			if here[side] || !e.said[at] {
				delete(e.leaving, at)
			} else if e.leaving[at].IsZero() {
				e.leaving[at] = local
			}
			entry := strconv.Itoa(side) + e.node
			switch gone := e.leaving[at]; {
			case here[side], e.said[at] && local.Sub(gone) < e.linger:
				p.ZAdd(ctx, key, redis.Z{Score: until, Member: entry})
				changed = changed || !e.said[at]
				e.said[at] = true
			case e.said[at]:
				p.ZRem(ctx, key, entry)
				changed = true
				left = append(left, at)
			}
		}
		p.ZRemRangeByScore(ctx, key, "-inf", strconv.FormatInt(now.UnixMilli(), 10))
		p.PExpire(ctx, key, 2*e.keepFor)
		answers[room] = p.ZRange(ctx, key, 0, -1)
		if changed {
			p.Publish(ctx, e.channel, encode(hint{Node: e.node, Room: room}))
		}
	}
	if _, err := p.Exec(ctx); err != nil {
		return err
	}
	for _, at := range left {
		delete(e.said, at)
		delete(e.leaving, at)
	}
	for room, answer := range answers {
		there := [2]presence{offline, offline}
		for _, entry := range answer.Val() {
			for side := range there {
				if strings.HasPrefix(entry, strconv.Itoa(side)) {
					there[side] = online
				}
			}
		}
		e.hub.present(room, there)
	}
	return nil
}

// typing tells the other side. Who is in no room is told so; who types without end is passed over.
func (g *Gateway) typing(s *socket, room string) {
	allowed, in := g.hub.mayType(s, room, time.Now())
	if !in {
		s.answer(refusal(problem.From(unknownRoom()), &Typing{RoomID: room}))
	}
	if !allowed {
		return
	}
	g.hub.typing(room, s.side, person(s.id))
	g.ephemeral.tell(hint{Node: g.ephemeral.node, Room: room, Typing: person(s.id)})
}

// tell says something to the other nodes, if it can be said at once.
func (e *ephemeral) tell(h hint) {
	select {
	case e.hints <- h:
	default: // Redis is slow or away
	}
}
