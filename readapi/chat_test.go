package readapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// talk is a world with one reservation, of customer c1 at kim, and its room.
func talk(w *viewed) (*foldtest.Salon, *chatRoom) {
	s := w.log.Open("kim", "Asia/Seoul")
	return s, w.room(s.Request("c1", seoul("10:00")), s)
}

func (r *chatRoom) path(query string) string {
	return "/v1/chat/rooms/" + r.id + "/messages" + query
}

func seqsOf(m Messages) (out []uint64) {
	for _, item := range m.Items {
		out = append(out, item.Seq)
	}
	return out
}

// upTo is the seqs from first to last.
func upTo(first, last uint64) (out []uint64) {
	for ; first <= last; first++ {
		out = append(out, first)
	}
	return out
}

func TestMessages(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		_, room := talk(w)
		room.post(domain.Customer, 1)
		sent := w.log.Now
		room.post(domain.Groomer, 1)
		room.read(domain.Groomer, 1)
		w.fill(chatrooms.View())
		wanted := fmt.Sprintf(`{"items":[`+
			`{"room_id":"%[1]s","seq":1,"sender":{"id":"c1","role":"customer"},"client_message_id":"c-1","text":"말 1","sent_at":"%[2]s"},`+
			`{"room_id":"%[1]s","seq":2,"sender":{"id":"kim","role":"groomer"},"client_message_id":"c-2","text":"말 2","sent_at":"%[3]s"}`+
			`],"next_cursor":null,"head_seq":2,"unread":1,"read_seq":1,"own_read_seq":0}`,
			room.id, sent.Format(time.RFC3339Nano), sent.Add(time.Second).Format(time.RFC3339Nano))
		r := w.get("customer:c1", room.path(""))
		if got := strings.TrimSpace(r.Body.String()); r.Code != http.StatusOK || got != wanted {
			t.Errorf("%d\n%s", r.Code, gocmp.Diff(wanted, got))
		}
		w.texts.erased["customer:c1"] = true
		got := want[Messages](w.get("groomer:kim", room.path("")), http.StatusOK)
		if m := got.Items[0]; m.Text != nil || !slices.Equal(m.Erased, []string{"text"}) {
			t.Errorf("erased: %+v", m)
		}
		if got.Unread != 0 || got.OwnReadSeq != 1 || got.ReadSeq != 0 {
			t.Errorf("the groomer's side: %+v", got)
		}
	})
}

func TestPagesOfMessages(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		_, room := talk(w)
		for range 40 {
			room.post(domain.Customer, 1)
			room.post(domain.Groomer, 2)
		}
		w.fill(chatrooms.Projection(), chatrooms.View()) // 120 messages, of which the view has 71 and later
		for query, wanted := range map[string][]uint64{
			"":                            upTo(101, 120),
			"?limit=100":                  upTo(21, 120),
			"?limit=50":                   upTo(71, 120),
			"?before=101":                 upTo(81, 100),
			"?before=101&limit=100":       upTo(1, 100),
			"?before=1":                   nil,
			"?before=9223372036854775807": upTo(101, 120),
			"?after=0":                    upTo(1, 20),
			"?after=118":                  upTo(119, 120),
			"?after=120":                  nil,
			"?after=9223372036854775807":  nil,
			"?after=10&before=15":         upTo(11, 14),
			"?after=10&before=90":         upTo(11, 30),
			"?after=50&before=40":         nil,
		} {
			if got := seqsOf(want[Messages](w.get("customer:c1", room.path(query)), http.StatusOK)); !slices.Equal(got, wanted) {
				t.Errorf("%s: %v, want %v", query, got, wanted)
			}
		}
		for _, start := range []string{"limit=7", "limit=7&after=0", "limit=100&after=0", "limit=33&before=121"} {
			var got []uint64
			for cursor := ""; ; {
				page := want[Messages](w.get("groomer:kim", room.path("?"+start+"&cursor="+cursor)), http.StatusOK)
				got = append(got, seqsOf(page)...)
				if page.NextCursor == nil {
					break
				}
				cursor = *page.NextCursor
			}
			slices.Sort(got)
			if !slices.Equal(got, upTo(1, 120)) {
				t.Errorf("%s: %v", start, got)
			}
		}
	})
}

// Every page from everywhere is what a plain look at the numbers gives.
func TestSpans(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seq := rapid.SampledFrom([]int64{0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 13, 20, 1 << 62})
		s := seqs{After: seq.Draw(t, "after"), Before: seq.Draw(t, "before"), Up: rapid.Bool().Draw(t, "up")}
		end, limit := rapid.Int64Range(0, 12).Draw(t, "end"), rapid.Int64Range(1, 4).Draw(t, "limit")
		var all []int64
		for i := int64(1); i <= end; i++ {
			if i > s.After && (s.Before == 0 || i < s.Before) {
				all = append(all, i)
			}
		}
		wanted, more := all, int64(len(all)) > limit
		if more && s.Up {
			wanted = all[:limit]
		} else if more {
			wanted = all[int64(len(all))-limit:]
		}
		p := s.span(end, limit)
		var got []int64
		for i := p.first; i <= p.last; i++ {
			got = append(got, i)
		}
		if !slices.Equal(got, wanted) || (p.next != nil) != more {
			t.Fatalf("%+v of %d, %d a page: %v and next %+v, want %v", s, end, limit, got, p.next, wanted)
		}
	})
}

func TestMessagesComeFromWhateverIsWholeAndNewEnough(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		_, room := talk(w)
		room.post(domain.Groomer, 60)
		w.fill(chatrooms.Projection(), chatrooms.View())
		unread := func(wanted uint64, why string, headers ...string) {
			t.Helper()
			if got := want[Messages](w.get("customer:c1", room.path(""), headers...), http.StatusOK); got.Unread != wanted {
				t.Errorf("%s: %d unread, want %d", why, got.Unread, wanted)
			}
		}
		room.read(domain.Customer, 3) // further back than the view knows
		w.fill(chatrooms.View())
		unread(60, "the view cannot tell, the tables are behind")
		w.fill(chatrooms.Projection())
		unread(57, "the view cannot tell, the tables can")
		room.post(domain.Groomer, 1)
		refused(w.get("customer:c1", room.path(""), "Consistency-Token", w.chatToken(), "Prefer", "wait=0"),
			http.StatusServiceUnavailable, "read_model.behind")
		w.fill(chatrooms.Projection())
		unread(58, "the view is behind the token", "Consistency-Token", w.chatToken(), "Prefer", "wait=0")
		room.read(domain.Customer, 61)
		w.fill(chatrooms.View())
		unread(0, "the view is at the token, the tables are not", "Consistency-Token", w.chatToken(), "Prefer", "wait=0")
		if err := w.redis.Close(); err != nil {
			t.Fatal(err)
		}
		unread(58, "Redis is away")
	})
}

func TestARoomIsItsMembers(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		s, room := talk(w)
		silentRoom := w.room(s.Request("c2", seoul("12:00")), s)
		room.post(domain.Customer, 1)
		w.project(reservations.Projection())
		w.fill(chatrooms.Projection())
		for range 2 { // from the tables, then from the view
			for _, r := range []*chatRoom{room, silentRoom} {
				for _, as := range []string{"customer:c9", "groomer:lee", "groomer:" + r.customer, "customer:kim"} {
					refused(w.get(as, r.path("")), http.StatusNotFound, "room.unknown")
				}
				for _, as := range []string{"admin:kim", "analyst:c1"} {
					refused(w.get(as, r.path("")), http.StatusForbidden, "auth.forbidden")
				}
				refused(w.get("", r.path("")), http.StatusUnauthorized, "auth.missing")
				want[Messages](w.get("customer:"+r.customer, r.path("")), http.StatusOK)
				want[Messages](w.get("groomer:kim", r.path("")), http.StatusOK)
			}
			w.fill(chatrooms.View())
		}
		if got := want[Messages](w.get("groomer:kim", silentRoom.path("")), http.StatusOK); len(got.Items) != 0 || got.HeadSeq != 0 {
			t.Errorf("nobody has said anything: %+v", got)
		}
		fresh := w.room(s.Request("c3", seoul("15:00")), s)
		refused(w.get("customer:c3", fresh.path(""), "Consistency-Token", w.token(), "Prefer", "wait=0"),
			http.StatusServiceUnavailable, "read_model.behind")
		w.project(reservations.Projection())
		want[Messages](w.get("customer:c3", fresh.path(""), "Consistency-Token", w.token(), "Prefer", "wait=0"), http.StatusOK)
	})
}

func TestWhoLeftReadsWhatWasThereUntilThen(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		_, room := talk(w)
		room.post(domain.Groomer, 5)
		room.leave(domain.Customer)
		room.post(domain.Groomer, 100)
		w.project(reservations.Projection())
		w.fill(chatrooms.Projection(), chatrooms.View())
		for _, query := range []string{"", "?after=0", "?after=3&before=90", "?before=100"} {
			got := want[Messages](w.get("customer:c1", room.path(query)), http.StatusOK)
			if all := seqsOf(got); all[len(all)-1] != 5 || got.HeadSeq != 5 || got.Unread != 5 || got.NextCursor != nil {
				t.Errorf("%s: %+v", query, got)
			}
		}
		rooms := want[Page[Room]](w.get("customer:c1", "/v1/chat/rooms"), http.StatusOK).Items
		if len(rooms) != 1 || rooms[0].LastMessage.Seq != 5 || rooms[0].HeadSeq != 5 || !rooms[0].Left {
			t.Errorf("the list: %+v", rooms)
		}
		if got := want[Messages](w.get("groomer:kim", room.path("")), http.StatusOK); got.HeadSeq != 105 {
			t.Errorf("who stayed: %+v", got)
		}
	})
}

func TestRoomsAreListedByTheirLatestActivity(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		kim, lee := w.log.Open("kim", "Asia/Seoul"), w.log.Open("lee", "Asia/Seoul")
		var wanted []string // of c1, oldest first
		touch := func(id string) {
			wanted = append(slices.DeleteFunc(wanted, func(x string) bool { return x == id }), id)
		}
		var rooms []*chatRoom
		for i := range 12 {
			s := []*foldtest.Salon{kim, lee}[i%2]
			v := s.Request("c1", seoul("10:00").Add(time.Duration(i)*time.Hour))
			rooms = append(rooms, w.room(v, s))
			touch(v.ID)
			w.room(s.Request("c2", seoul("11:00")), s)
			if i%3 == 0 {
				r := rooms[i/2]
				r.post(domain.Groomer, 1+i)
				touch(r.id)
			}
		}
		kim.Cancel(kim.Visits[0], 100) // a room outlives its reservation, and this is no word in it
		w.project(reservations.Projection())
		w.fill(chatrooms.Projection())
		slices.Reverse(wanted)
		for _, limit := range []int{1, 2, 5, 100} {
			var got []string
			for cursor := ""; ; {
				p := want[Page[Room]](w.get("customer:c1", fmt.Sprintf("/v1/chat/rooms?limit=%d&cursor=%s", limit, cursor)), http.StatusOK)
				for _, r := range p.Items {
					got = append(got, r.RoomID)
				}
				if p.NextCursor == nil {
					break
				}
				cursor = *p.NextCursor
			}
			if diff := gocmp.Diff(wanted, got); diff != "" {
				t.Errorf("limit %d (-want +got)\n%s", limit, diff)
			}
		}
		of := want[Page[Room]](w.get("groomer:lee", "/v1/chat/rooms?limit=100"), http.StatusOK).Items
		if len(of) != 12 || slices.ContainsFunc(of, func(r Room) bool { return r.GroomerID != "lee" }) {
			t.Errorf("lee's: %d rooms", len(of))
		}
		if got := want[Page[Room]](w.get("groomer:c1", "/v1/chat/rooms"), http.StatusOK).Items; len(got) != 0 {
			t.Errorf("groomer c1 is not customer c1: %+v", got)
		}
	})
}

func TestTheListOfRooms(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		s, room := talk(w)
		w.project(reservations.Projection())
		silent := fmt.Sprintf(`{"items":[{"room_id":"%s","customer_id":"c1","groomer_id":"kim","last_message":null,`+
			`"head_seq":0,"unread":0,"read_seq":0,"own_read_seq":0,"left":false}],"next_cursor":null}`, room.id)
		if got := strings.TrimSpace(w.get("customer:c1", "/v1/chat/rooms").Body.String()); got != silent {
			t.Error(gocmp.Diff(silent, got))
		}
		room.post(domain.Groomer, 2)
		room.post(domain.Customer, 1)
		room.read(domain.Groomer, 3)
		room.read(domain.Customer, 1)
		list := func(as string, headers ...string) Room {
			t.Helper()
			return want[Page[Room]](w.get(as, "/v1/chat/rooms", headers...), http.StatusOK).Items[0]
		}
		refused(w.get("customer:c1", "/v1/chat/rooms", "Consistency-Token", w.chatToken(), "Prefer", "wait=0"),
			http.StatusServiceUnavailable, "read_model.behind")
		w.fill(chatrooms.Projection())
		got := list("customer:c1", "Consistency-Token", w.chatToken()+","+w.token(), "Prefer", "wait=0")
		if got.Unread != 1 || got.ReadSeq != 3 || got.OwnReadSeq != 1 || got.HeadSeq != 3 || *got.LastMessage.Text != "말 3" {
			t.Errorf("the customer's: %+v", got)
		}
		if got := list("groomer:kim"); got.Unread != 0 || got.ReadSeq != 1 || got.LastMessage.Sender != (Person{"c1", "customer"}) {
			t.Errorf("the groomer's: %+v", got)
		}
		s.Request("c1", seoul("15:00"))
		refused(w.get("customer:c1", "/v1/chat/rooms", "Consistency-Token", w.token(), "Prefer", "wait=0"),
			http.StatusServiceUnavailable, "read_model.behind")
		refused(w.get("admin:a", "/v1/chat/rooms"), http.StatusForbidden, "auth.forbidden")
	})
}

func TestMalformedQuestionsForChat(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		_, room := talk(w)
		room.post(domain.Customer, 3)
		w.project(reservations.Projection())
		w.fill(chatrooms.Projection(), chatrooms.View())
		for _, q := range []string{
			"before=0", "before=-1", "before=x", "before=9223372036854775808", "after=-1", "after=x", "after=1e3", "after=18446744073709551615",
			"limit=0", "limit=101", "limit=x", "cursor=x", "cursor=" + encodeCursor(seqs{After: -1}), "cursor=" + encodeCursor("x"), "who=me",
		} {
			refused(w.get("customer:c1", room.path("?"+q)), http.StatusBadRequest, "request.invalid")
		}
		for _, q := range []string{
			"limit=0", "limit=101", "limit=x", "cursor=x", "cursor=" + encodeCursor(activeBefore{1, "'; DROP"}), "cursor=" + encodeCursor(1), "who=me",
		} {
			refused(w.get("customer:c1", "/v1/chat/rooms?"+q), http.StatusBadRequest, "request.invalid")
		}
		for _, id := range []string{"x", "kim.x", "%00", room.id + "x", strings.ToUpper(room.id), strings.Repeat("k", 4000)} {
			refused(w.get("customer:c1", "/v1/chat/rooms/"+id+"/messages"), http.StatusNotFound, "room.unknown")
		}
	})
}
