package readapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// standing is what a member is to be told of a room.
type standing struct{ Head, Unread, ReadSeq, OwnReadSeq uint64 }

// recount tells how a room stands for a role after its first n events: from the events alone, counted one by one.
func recount(events []engine.Event, n int, role domain.Role) standing {
	var s standing
	var theirs []uint64
	for _, e := range events[:n] {
		switch e := e.Event.(type) {
		case chat.MessagePosted:
			s.Head = e.Seq
			if e.Sender.Role != role {
				theirs = append(theirs, e.Seq)
			}
		case chat.ReadMarked:
			if e.Reader.Role == role {
				s.OwnReadSeq = e.Seq
			} else {
				s.ReadSeq = e.Seq
			}
		}
	}
	for _, seq := range theirs {
		if seq > s.OwnReadSeq {
			s.Unread++
		}
	}
	return s
}

// TestListsAndPagesAreExactWhileManyWrite reads lists of rooms, and rooms from both ends, while their members post and read
// in all of them and projectors follow, tables and view each at their own pace. Whatever is told of a room is how it stood
// at one moment between the question and the answer; pages of messages have no hole, and none twice.
func TestListsAndPagesAreExactWhileManyWrite(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		dice := rand.New(rand.NewPCG(seed, 1))
		s := w.log.Open("kim", "Asia/Seoul")
		var rooms []*chatRoom
		for i := range 7 {
			rooms = append(rooms, w.room(s.Request("c1", seoul("10:00").Add(time.Duration(i)*time.Hour)), s))
		}
		w.project(reservations.Projection())
		marks := map[domain.Actor]map[string]uint64{}
		for len(w.chat) < 250 {
			r, role := rooms[dice.IntN(len(rooms))], []domain.Role{domain.Customer, domain.Groomer}[dice.IntN(2)]
			by := r.member(role)
			if marks[by] == nil {
				marks[by] = map[string]uint64{}
			}
			if at := marks[by][r.id]; dice.IntN(3) == 0 && at < r.seq {
				marks[by][r.id] = at + 1 + dice.Uint64N(r.seq-at)
				r.read(role, marks[by][r.id])
			} else {
				r.post(role, 1+dice.IntN(3))
			}
		}
		of := map[string][]engine.Event{}
		for _, e := range w.chat {
			of[e.Key] = append(of[e.Key], e)
		}
		// within is how many events of a room are among the first n of all.
		within := func(room string, n int64) int {
			return slices.IndexFunc(append(slices.Clone(of[room]), engine.Event{Position: 1 << 62}), func(e engine.Event) bool { return int64(e.Position) > n }) //nolint:gosec // small
		}

		var done, begun atomic.Int64 // events that every reader sees, and that one may see
		over := make(chan struct{})
		var readers sync.WaitGroup
		var answers atomic.Int64
		ask := func(as, path string, into any, check func(from, to int64)) bool {
			from := done.Load()
			r := w.get(as, path)
			to := begun.Load()
			if err := json.Unmarshal(r.Body.Bytes(), into); r.Code != http.StatusOK || err != nil {
				t.Errorf("%s: %d %s %v", path, r.Code, r.Body, err)
				return false
			}
			answers.Add(1)
			check(from, to)
			return true
		}
		// stood checks that a room was so at one moment.
		stood := func(what, room string, role domain.Role, got standing, from, to int64) {
			for n := within(room, from); n <= within(room, to); n++ {
				if recount(of[room], n, role) == got {
					return
				}
			}
			t.Errorf("%s of %s for the %s: %+v; it was %+v, then %+v", what, room, role, got,
				recount(of[room], within(room, from), role), recount(of[room], within(room, to), role))
		}
		n := 0
		fold := func() {
			n = min(len(w.chat), n+1+dice.IntN(40))
			begun.Store(int64(n))
			folds := []engine.Projection{chatrooms.Projection(), chatrooms.View()}
			dice.Shuffle(len(folds), func(i, j int) { folds[i], folds[j] = folds[j], folds[i] })
			for _, p := range folds {
				for part := range int32(partitions) {
					var err error
					if p.Target == engine.Redis {
						err = engine.ApplyView(t.Context(), w.redis, p, chatTopic, part, partitions, life, w.chat[:n])
					} else {
						err = engine.Apply(t.Context(), w.db, p, chatTopic, part, partitions, life, w.chat[:n])
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
			done.Store(int64(n))
		}
		// Whoever pages back beyond what the view has comes to the tables: where these have nothing at all yet, to an end.
		fold()
		for _, role := range []domain.Role{domain.Customer, domain.Groomer} {
			as := "customer:c1"
			if role == domain.Groomer {
				as = "groomer:kim"
			}
			list := func() bool {
				var p Page[Room]
				return ask(as, "/v1/chat/rooms?limit=100", &p, func(from, to int64) {
					seen := map[string]bool{}
					last := time.Time{}
					for _, r := range p.Items {
						stood("the list", r.RoomID, role, standing{r.HeadSeq, r.Unread, r.ReadSeq, r.OwnReadSeq}, from, to)
						seen[r.RoomID] = true
						switch m := r.LastMessage; {
						case m == nil && r.HeadSeq > 0, m != nil && (m.Seq != r.HeadSeq || *m.Text != fmt.Sprintf("말 %d", m.Seq)):
							t.Errorf("the list: %+v with the last message %+v", r, m)
						case m != nil && !last.IsZero() && m.SentAt.After(last):
							t.Errorf("the list is not in order at %s", r.RoomID)
						case m != nil:
							last = m.SentAt
						}
					}
					if len(seen) != len(rooms) || len(p.Items) != len(rooms) {
						t.Errorf("%d rooms, %d of them others, of %d", len(p.Items), len(seen), len(rooms))
					}
				})
			}
			// walk pages through a room, up from its first message or down from its last.
			walk := func(room *chatRoom, up bool) bool {
				query, cursor := "?limit=7", ""
				if up {
					query += "&after=0"
				}
				next := uint64(1)
				for first := true; ; first = false {
					var p Messages
					if !ask(as, room.path(query+"&cursor="+cursor), &p, func(from, to int64) {
						stood("a page", room.id, role, standing{p.HeadSeq, p.Unread, p.ReadSeq, p.OwnReadSeq}, from, to)
						if first && !up {
							next = p.HeadSeq
						}
					}) {
						return false
					}
					if !up {
						slices.Reverse(p.Items)
					}
					for _, m := range p.Items {
						if m.Seq != next || m.ClientMessageID != fmt.Sprintf("c-%d", m.Seq) || *m.Text != fmt.Sprintf("말 %d", m.Seq) {
							t.Errorf("up %v: %+v, want message %d", up, m, next)
							return false
						}
						if next--; up {
							next += 2
						}
					}
					if p.NextCursor == nil {
						if end := p.HeadSeq + 1; up && next != end || !up && next != 0 {
							t.Errorf("up %v: the last page ends before message %d of %d", up, next, p.HeadSeq)
						}
						return true
					}
					cursor = *p.NextCursor
				}
			}
			read := func(seed uint64, one func(dice *rand.Rand) bool) {
				dice := rand.New(rand.NewPCG(seed, 2))
				readers.Go(func() {
					for {
						select {
						case <-over:
							one(dice) // once more, of all
							return
						default:
							if !one(dice) {
								return
							}
						}
					}
				})
			}
			read(seed, func(*rand.Rand) bool { return list() })
			read(seed, func(dice *rand.Rand) bool { return walk(rooms[dice.IntN(len(rooms))], true) })
			read(seed+1, func(dice *rand.Rand) bool { return walk(rooms[dice.IntN(len(rooms))], false) })
		}
		for n < len(w.chat) {
			fold()
		}
		close(over)
		readers.Wait()
		t.Logf("%d answers while %d events were projected", answers.Load(), len(w.chat))
	})
}
