package readapi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/token"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
)

const chatTopic = "salon.chat.v1"

// viewed is a world with Redis views over it, a clock, and a log of chat.
type viewed struct {
	*world
	redis *redis.Client
	now   time.Time
	rooms map[string]*chatRoom
	chat  []engine.Event
}

// withViews runs a test on each pair of databases that reads may come from.
func withViews(t *testing.T, test func(t *testing.T, w *viewed)) {
	everywhere(t, func(t *testing.T, w *world) {
		url := "redis://" + miniredis.RunT(t).Addr() + "/0"
		if strings.HasSuffix(t.Name(), "/mariadb") {
			url = harness.Redis(t) // one of the three on a real server
		}
		options, err := redis.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		v := &viewed{world: w, redis: redis.NewClient(options), now: w.log.Now, rooms: map[string]*chatRoom{}}
		t.Cleanup(func() { v.redis.Close() })
		if err := engine.EnsureTables(t.Context(), w.db, calendar.Projection(), chatrooms.Projection()); err != nil {
			t.Fatal(err)
		}
		_, err = w.db.Writer().ExecContext(t.Context(),
			"INSERT INTO projection_topics (topic, partitions, topic_id) VALUES (?, ?, ?)", chatTopic, partitions, "id2")
		if err != nil {
			t.Fatal(err)
		}
		view := func(p engine.Projection) *engine.View {
			return &engine.View{Redis: v.redis, Projection: p, Partitions: func(context.Context, string) (int, error) { return partitions, nil }}
		}
		w.screens = newScreens(Deps{
			Reads: w.db, Texts: w.texts, Slots: view(calendar.View()), Rooms: view(chatrooms.View()), Now: func() time.Time { return v.now },
		})
		server := httpserver.New(httpserver.Config{Verifier: verifier{}})
		w.screens.register(server.API())
		w.handler = server.Handler()
		test(t, v)
	})
}

// fill brings projections up to the end of the logs, in SQL or in Redis as each is made.
func (v *viewed) fill(of ...engine.Projection) {
	v.t.Helper()
	for _, p := range of {
		topic, events := p.Topics[0], v.log.Events
		if topic == chatTopic {
			events = v.chat
		}
		for part := range int32(partitions) {
			var err error
			if p.Target == engine.Redis {
				err = engine.ApplyView(v.t.Context(), v.redis, p, topic, part, partitions, life, events)
			} else {
				err = engine.Apply(v.t.Context(), v.db, p, topic, part, partitions, life, events)
			}
			if err != nil {
				v.t.Fatal(err)
			}
		}
	}
}

// chatRoom writes a room's part of the chat log.
type chatRoom struct {
	*viewed
	id, customer, groomer string
	seq                   uint64
}

// room is the room of a reservation.
func (v *viewed) room(r *foldtest.Visit, s *foldtest.Salon) *chatRoom {
	if v.rooms[r.ID] == nil {
		v.rooms[r.ID] = &chatRoom{v, r.ID, r.CustomerID, s.ID, 0}
	}
	return v.rooms[r.ID]
}

func (r *chatRoom) member(role domain.Role) domain.Actor {
	if role == domain.Groomer {
		return domain.Actor{ID: r.groomer, Role: role}
	}
	return domain.Actor{ID: r.customer, Role: role}
}

func (r *chatRoom) record(events ...domain.Event) {
	for _, e := range events {
		r.log.Now = r.log.Now.Add(time.Second)
		r.chat = append(r.chat, engine.Event{
			Fact:     domain.Fact{Event: e, At: r.log.Now},
			Position: uint64(len(r.chat) + 1), Key: r.id,
		})
	}
}

// post posts n messages of one member.
func (r *chatRoom) post(role domain.Role, n int) {
	for range n {
		if r.seq == 0 {
			r.record(chat.Opened{RoomID: r.id, CustomerID: r.customer, GroomerID: r.groomer})
		}
		r.seq++
		by := r.member(role)
		r.record(chat.MessagePosted{
			RoomID: r.id, Seq: r.seq, Sender: by, ClientMessageID: fmt.Sprintf("c-%d", r.seq),
			Text: foldtest.Seal(by.Subject(), fmt.Sprintf("말 %d", r.seq)),
		})
	}
}

func (r *chatRoom) read(role domain.Role, seq uint64) {
	r.record(chat.ReadMarked{RoomID: r.id, Reader: r.member(role), Seq: seq})
}

func (r *chatRoom) leave(role domain.Role) {
	r.record(chat.MemberLeft{RoomID: r.id, Member: r.member(role), Seq: r.seq})
}

// chatToken is what the write of the last chat event answered.
func (v *viewed) chatToken() string {
	last := v.chat[len(v.chat)-1]
	return token.Token{Incarnation: life, Entries: []token.Entry{{Topic: chatTopic, Key: last.Key, Position: last.Position}}}.String()
}
