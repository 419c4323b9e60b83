package readapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	read "github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/inbox"
)

const notifications = "/v1/notifications"

// mark is what POST /v1/notifications/read records.
func (w *world) mark(by domain.Actor, through uint64) {
	w.log.Now = w.log.Now.Add(time.Second)
	w.log.Events = append(w.log.Events, engine.Event{
		Fact:     domain.Fact{Event: read.Read{Reader: by, Through: through}, At: w.log.Now, By: by},
		Position: uint64(len(w.log.Events) + 1), Key: by.Subject(),
	})
}

// say folds chat into the inboxes. The events are put behind all of the log's.
func (w *world) say(positions uint64, events ...domain.Event) {
	w.t.Helper()
	var log []engine.Event
	for i, e := range events {
		log = append(log, engine.Event{Fact: domain.Fact{Event: e, At: w.log.Now}, Position: positions + uint64(i), Key: "kim.00000000000000000000000001"})
	}
	for part := range int32(partitions) {
		if err := engine.Apply(w.t.Context(), w.db, inbox.Projection(), chatTopic, part, partitions, life, log); err != nil {
			w.t.Fatal(err)
		}
	}
}

var (
	c1  = domain.Actor{ID: "c1", Role: domain.Customer}
	kim = domain.Actor{ID: "kim", Role: domain.Groomer}
)

func kindsOf(p Page[Notification]) (out []string) {
	for _, n := range p.Items {
		k := n.Kind
		if n.Read {
			k += " (read)"
		}
		out = append(out, k)
	}
	return out
}

func TestNotifications(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", seoul("10:00"))
		s.Confirm(v)
		at := w.log.Now
		w.project(inbox.Projection())
		wanted := fmt.Sprintf(`{"items":[{"id":"7","kind":"confirmed","reservation_id":"%s","start":"%s",`+
			`"text":"예약이 확정되었어요: %s","at":"%s","read":false}],"next_cursor":null}`,
			v.ID, v.Start.Format(time.RFC3339), "11월 9일(월) 10:00", at.Format(time.RFC3339Nano))
		r := w.get("customer:c1", notifications)
		if got := strings.TrimSpace(r.Body.String()); r.Code != http.StatusOK || got != wanted {
			t.Fatalf("%d\n%s", r.Code, gocmp.Diff(wanted, got))
		}
		if h := r.Header(); h.Get("Content-Language") != "ko" || !slices.Contains(h.Values("Vary"), "Accept-Language") || h.Get("ETag") == "" {
			t.Errorf("%v", h)
		}
		if again := w.get("customer:c1", notifications, "If-None-Match", r.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("the same again: %d", again.Code)
		}
		for accept, text := range map[string]string{
			"en": "Your booking", "en-GB,ko;q=0.5": "Your booking", "ko-KR,en;q=0.5": "예약이", "fr": "예약이", "fr,en;q=0.1": "Your booking", ";;": "예약이",
		} {
			got := want[Page[Notification]](w.get("customer:c1", notifications, "Accept-Language", accept), http.StatusOK)
			if !strings.HasPrefix(got.Items[0].Text, text) {
				t.Errorf("%q: %s", accept, got.Items[0].Text)
			}
		}
		english := w.get("customer:c1", notifications, "Accept-Language", "en", "If-None-Match", r.Header().Get("ETag"))
		if english.Code != http.StatusOK || english.Header().Get("Content-Language") != "en" {
			t.Errorf("another language is another answer: %d %v", english.Code, english.Header())
		}
	})
}

func TestAnInboxIsItsPersons(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		s.Confirm(s.Request("c1", seoul("10:00")))
		w.project(inbox.Projection())
		for as, wanted := range map[string][]string{
			"customer:c1": {"confirmed"}, "groomer:kim": {"requested"},
			"customer:kim": nil, "groomer:c1": nil, "customer:c2": nil, "admin:kim": nil, "analyst:c1": nil,
		} {
			if got := kindsOf(want[Page[Notification]](w.get(as, notifications), http.StatusOK)); !slices.Equal(got, wanted) {
				t.Errorf("%s sees %v, want %v", as, got, wanted)
			}
		}
		refused(w.get("", notifications), http.StatusUnauthorized, "auth.missing")
		refused(w.get("customer:c1", notifications+"?receiver=groomer:kim"), http.StatusBadRequest, "request.invalid")
	})
}

func TestWhatIsReadStaysRead(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", seoul("10:00"))
		s.Confirm(v)
		confirmed := v.Revision + 1 // positions are one ahead of the only stream's revisions
		s.Remind(v)
		w.project(inbox.Projection())
		check := func(query string, wanted ...string) {
			t.Helper()
			headers := []string{"Consistency-Token", w.token(), "Prefer", "wait=0"}
			if got := kindsOf(want[Page[Notification]](w.get("customer:c1", notifications+query, headers...), http.StatusOK)); !slices.Equal(got, wanted) {
				t.Errorf("%q: %v, want %v", query, got, wanted)
			}
		}
		check("", "reminder", "confirmed")
		w.mark(c1, confirmed)
		refused(w.get("customer:c1", notifications, "Consistency-Token", w.token(), "Prefer", "wait=0"), http.StatusServiceUnavailable, "read_model.behind")
		w.project(inbox.Projection())
		check("", "reminder", "confirmed (read)")
		check("?unread=true", "reminder")
		check("?unread=false", "reminder", "confirmed (read)")
		w.mark(c1, confirmed-1)
		w.project(inbox.Projection())
		check("?unread=true", "reminder")
		w.mark(kim, confirmed+1) // another's mark is another's
		w.project(inbox.Projection())
		check("?unread=true", "reminder")

		room := "kim.00000000000000000000000001"
		w.say(100, chat.Opened{RoomID: room, CustomerID: "c1", GroomerID: "kim"}, chat.MessagePosted{RoomID: room, Seq: 1, Sender: kim})
		check("?unread=true", "message", "reminder")
		if got := want[Page[Notification]](w.get("customer:c1", notifications), http.StatusOK).Items[0]; got.RoomID != room || got.ReservationID != "" || got.Start != nil {
			t.Errorf("a talk: %+v", got)
		}
		w.say(102, chat.ReadMarked{RoomID: room, Reader: c1, Seq: 1})
		check("", "message (read)", "reminder", "confirmed (read)")
		w.say(103, chat.MessagePosted{RoomID: room, Seq: 2, Sender: kim})
		check("?unread=true", "message", "reminder")
		w.mark(c1, 103)
		w.project(inbox.Projection())
		check("?unread=true")
	})
}

func TestPagesOfAnInboxAreStable(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		kim, lee := w.log.Open("kim", "Asia/Seoul"), w.log.Open("lee", "Asia/Seoul")
		var wanted []string // of c1, oldest first
		book := func(s *foldtest.Salon) {
			v := s.Request("c1", seoul("10:00"))
			s.Confirm(v)
			wanted = append(wanted, v.ID)
		}
		for i := range 25 {
			book([]*foldtest.Salon{kim, lee}[i%2])
		}
		w.project(inbox.Projection())
		slices.Reverse(wanted)
		for _, limit := range []int{1, 7, 25, 100} {
			before := slices.Clone(wanted)
			var got []string
			for cursor := ""; ; {
				p := want[Page[Notification]](w.get("customer:c1", fmt.Sprintf("%s?limit=%d&cursor=%s", notifications, limit, cursor)), http.StatusOK)
				for _, n := range p.Items {
					got = append(got, n.ReservationID)
				}
				if len(got) == limit { // something new arrives while somebody turns the pages
					book(kim)
					w.project(inbox.Projection())
					last := wanted[len(wanted)-1]
					wanted = append([]string{last}, wanted[:len(wanted)-1]...)
				}
				if p.NextCursor == nil {
					break
				}
				cursor = *p.NextCursor
			}
			if diff := gocmp.Diff(before, got); diff != "" {
				t.Errorf("limit %d (-want +got)\n%s", limit, diff)
			}
		}
		for _, q := range []string{"limit=0", "limit=101", "cursor=x", "cursor=" + encodeCursor(-1), "cursor=" + encodeCursor("x"), "unread=maybe", "who=me"} {
			refused(w.get("customer:c1", notifications+"?"+q), http.StatusBadRequest, "request.invalid")
		}
	})
}
