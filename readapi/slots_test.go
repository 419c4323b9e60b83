package readapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/foldtest"
)

// The made-up salon opens on Mondays from 10 to 19 in Seoul, with a break from 13 to 14; this is such a Monday.
const (
	monday    = "from=2026-11-09&to=2026-11-09"
	ofMonday  = "/v1/groomers/kim/slots?" + monday + "&minutes=30"
	everySlot = 30 // of half an hour: 11 before the break, 19 after it
)

func seoul(clock string) time.Time {
	at, err := time.Parse(time.RFC3339, "2026-11-09T"+clock+":00+09:00")
	if err != nil {
		panic(err)
	}
	return at.UTC()
}

func (v *viewed) starts(as, path string, headers ...string) (out []string) {
	v.t.Helper()
	for _, s := range want[Slots](v.get(as, path, headers...), http.StatusOK).Items {
		out = append(out, s.Start.In(time.FixedZone("KST", 9*3600)).Format("15:04"))
	}
	return out
}

func hold(s *foldtest.Salon, id, customer string, start, expires time.Time) {
	s.Record(domain.Actor{ID: customer, Role: domain.Customer}, groomer.SlotHeld{
		HoldID: id, Visit: groomer.Visit{CustomerID: customer, Start: start, Minutes: 30, BufferMinutes: 10}, ExpiresAt: expires,
	})
}

func TestSlots(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		s := w.log.Open("kim", "Asia/Seoul")
		s.Request("c1", seoul("10:30"))
		s.Record(domain.Actor{ID: "kim", Role: domain.Groomer},
			groomer.TimeOffAdded{TimeOffID: "kim.o", From: seoul("14:00"), To: seoul("18:00")})
		w.fill(calendar.View())
		wanted := `{"items":[` + strings.Join([]string{
			// 10:00 would need its buffer until 10:40; the reservation keeps its own until 11:10.
			`{"start":"2026-11-09T02:15:00Z","end":"2026-11-09T03:00:00Z"}`,
			`{"start":"2026-11-09T02:30:00Z","end":"2026-11-09T03:15:00Z"}`,
			`{"start":"2026-11-09T02:45:00Z","end":"2026-11-09T03:30:00Z"}`,
			`{"start":"2026-11-09T03:00:00Z","end":"2026-11-09T03:45:00Z"}`,
			`{"start":"2026-11-09T03:15:00Z","end":"2026-11-09T04:00:00Z"}`,
			`{"start":"2026-11-09T09:00:00Z","end":"2026-11-09T09:45:00Z"}`,
			`{"start":"2026-11-09T09:15:00Z","end":"2026-11-09T10:00:00Z"}`,
		}, ",") + "]}"
		r := w.get("", "/v1/groomers/kim/slots?"+monday+"&services=bath,nails&size=small")
		if got := strings.TrimSpace(r.Body.String()); r.Code != http.StatusOK || got != wanted {
			t.Errorf("%d\n%s", r.Code, gocmp.Diff(wanted, got))
		}
		again := w.get("", "/v1/groomers/kim/slots?"+monday+"&services=bath,nails&size=small", "If-None-Match", r.Header().Get("ETag"))
		if again.Code != http.StatusNotModified {
			t.Errorf("the same again: %d", again.Code)
		}
		// Notice: an hour from now on. Now is Monday the 2nd, 9 o'clock in Seoul.
		if got := w.starts("", "/v1/groomers/kim/slots?minutes=30"); len(got) != everySlot-1 || got[0] != "10:15" {
			t.Errorf("today, by default: %d from %v", len(got), got)
		}
		if got := w.starts("", "/v1/groomers/kim/slots?minutes=30&from=2026-10-01&to=2026-10-30"); got != nil {
			t.Errorf("the past: %v", got)
		}
	})
}

func TestSlotsComeFromWhateverIsWholeAndNewEnough(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		s := w.log.Open("kim", "Asia/Seoul")
		w.fill(calendar.Projection())
		if got := len(w.starts("", ofMonday)); got != everySlot {
			t.Errorf("Redis is empty: %d free by the tables", got)
		}
		s.Request("c1", seoul("10:00"))
		w.fill(calendar.View())
		if got := w.starts("", ofMonday); got[0] != "10:45" {
			t.Errorf("the tables are behind: first free at %s by the view", got[0])
		}
		w.fill(calendar.Projection())
		s.Request("c2", seoul("10:45"))
		r := w.get("", ofMonday, "Consistency-Token", w.token(), "Prefer", "wait=0")
		refused(r, http.StatusServiceUnavailable, "read_model.behind")
		if got := w.starts("", ofMonday); got[0] != "10:45" {
			t.Errorf("without a token: first free at %s", got[0])
		}
		w.fill(calendar.Projection())
		if got := w.starts("", ofMonday, "Consistency-Token", w.token(), "Prefer", "wait=0"); got[0] != "11:30" {
			t.Errorf("the view is behind the token: first free at %s", got[0])
		}
		if err := w.redis.Close(); err != nil {
			t.Fatal(err)
		}
		if got := w.starts("", ofMonday); got[0] != "11:30" {
			t.Errorf("Redis is away: first free at %s", got[0])
		}
	})
}

func TestOnesOwnHoldIsNoObstacle(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		s := w.log.Open("kim", "Asia/Seoul")
		hold(s, "kim.h", "c1", seoul("10:00"), w.now.Add(5*time.Minute))
		w.fill(calendar.Projection())
		for range 2 { // from the tables, then from the view
			for as, wanted := range map[string]string{"customer:c1": "10:00", "customer:c2": "10:45", "": "10:45", "groomer:c1": "10:45"} {
				if got := w.starts(as, ofMonday); got[0] != wanted {
					t.Errorf("%q: first free at %s, want %s", as, got[0], wanted)
				}
			}
			w.fill(calendar.View())
		}
		w.now = w.now.Add(5 * time.Minute)
		if got := w.starts("customer:c2", ofMonday); got[0] != "10:00" {
			t.Errorf("the hold is dead: first free at %s", got[0])
		}
	})
}

func TestAReservationsOwnTimeIsFreeForItsParties(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", seoul("10:00"))
		w.fill(calendar.View())
		path := ofMonday + "&for_reservation=" + v.ID
		for as, wanted := range map[string]string{
			"customer:c1": "10:00", "groomer:kim": "10:00", "admin:a": "10:00",
			"customer:c2": "10:45", "groomer:c1": "10:45", "": "10:45", "analyst:kim": "10:45",
		} {
			if got := w.starts(as, path); got[0] != wanted {
				t.Errorf("%q: first free at %s, want %s", as, got[0], wanted)
			}
		}
		without := strings.Replace(path, "&minutes=30", "", 1)
		if got := want[Slots](w.get("customer:c1", without), http.StatusOK).Items[0]; got.End.Sub(got.Start) != 30*time.Minute {
			t.Errorf("minutes default to the reservation's: %v", got)
		}
		refused(w.get("customer:c2", without), http.StatusBadRequest, "request.invalid")
	})
}

func TestSlotDays(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		s := w.log.Open("kim", "Asia/Seoul")
		s.Request("c1", seoul("10:00"))
		w.fill(calendar.View())
		r := w.get("", "/v1/groomers/kim/slots/days?from=2026-11-08&to=2026-11-10&minutes=30")
		wanted := `{"items":[{"date":"2026-11-08","free":0},{"date":"2026-11-09","free":27},{"date":"2026-11-10","free":0}],"next_free":"2026-11-09T01:45:00Z"}`
		if got := strings.TrimSpace(r.Body.String()); got != wanted {
			t.Errorf("%s", gocmp.Diff(wanted, got))
		}
		got := want[SlotDays](w.get("", "/v1/groomers/kim/slots/days?from=2026-11-10&to=2026-11-12&minutes=30"), http.StatusOK)
		if next := time.Date(2026, 11, 16, 1, 0, 0, 0, time.UTC); got.NextFree == nil || !got.NextFree.Equal(next) {
			t.Errorf("the next free one lies beyond the days asked for: %v", got.NextFree)
		}
		got = want[SlotDays](w.get("", "/v1/groomers/kim/slots/days?from=2027-03-01&minutes=30"), http.StatusOK)
		if got.NextFree != nil || len(got.Items) != 31 {
			t.Errorf("beyond the horizon: %d days, next %v", len(got.Items), got.NextFree)
		}
	})
}

func TestMalformedQuestionsForSlots(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		w.log.Open("kim", "Asia/Seoul")
		w.fill(calendar.Projection(), calendar.View())
		for _, q := range []string{
			"", "minutes=0", "minutes=-5", "minutes=1441", "minutes=ten", "minutes=9223372036854775808", "minutes=30&minutes=x&size=tiny",
			"services=bath", "size=small", "services=bath,bath&size=small", "services=flying&size=small", "services=bath&size=huge",
			"services=,&size=small", "minutes=30&services=bath&size=small", "minutes=30&size=small",
			"minutes=30&from=yesterday", "minutes=30&to=2026-13-01", "minutes=30&from=2026-11-10&to=2026-11-08",
			"minutes=30&from=2026-11-01&to=2027-11-01", "minutes=30&from=0001-01-01", "minutes=30&to=9998-12-31",
			"minutes=30&from=%00", "minutes=30&for_reservation=x", "minutes=30&for_reservation=%F0%9F%90%B6", "minutes=30&who=me",
		} {
			for _, path := range []string{"slots", "slots/days"} {
				refused(w.get("customer:c1", "/v1/groomers/kim/"+path+"?"+q), http.StatusBadRequest, "request.invalid")
			}
		}
		refused(w.get("", "/v1/groomers/kim/slots?services=trim&size=small"), http.StatusUnprocessableEntity, "service.not_offered")
		for _, id := range []string{"nobody", "KIM", "%00", "kim%20", strings.Repeat("k", 300)} {
			refused(w.get("", "/v1/groomers/"+id+"/slots?minutes=30"), http.StatusNotFound, "groomer.unknown")
		}
	})
}

func TestTimeOff(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		s := w.log.Open("kim", "Asia/Seoul")
		w.log.Open("lee", "Asia/Seoul")
		self := domain.Actor{ID: "kim", Role: domain.Groomer}
		for i := range 5 {
			from := seoul("09:00").AddDate(0, 0, i/2) // some begin together
			s.Record(self, groomer.TimeOffAdded{
				TimeOffID: fmt.Sprintf("kim.%026d", i), From: from, To: from.Add(time.Hour), Reason: foldtest.Seal("groomer:kim", "여행"),
			})
		}
		s.Record(self, groomer.TimeOffRemoved{TimeOffID: fmt.Sprintf("kim.%026d", 4)})
		w.fill(calendar.Projection())
		path := "/v1/groomers/kim/time-off"

		r := w.get("groomer:kim", path+"?limit=1")
		first := want[Page[TimeOff]](r, http.StatusOK).Items[0]
		reason := "여행"
		wanted := TimeOff{TimeOffID: "kim.00000000000000000000000000", From: seoul("09:00"), To: seoul("10:00"), Reason: &reason}
		if diff := gocmp.Diff(wanted, first); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		for _, limit := range []int{1, 2, 3, 100} {
			var got []string
			for cursor := ""; ; {
				p := want[Page[TimeOff]](w.get("admin:a", fmt.Sprintf("%s?limit=%d&cursor=%s", path, limit, cursor)), http.StatusOK)
				for _, o := range p.Items {
					got = append(got, o.TimeOffID[len(o.TimeOffID)-1:])
				}
				if p.NextCursor == nil {
					break
				}
				cursor = *p.NextCursor
			}
			if !slices.Equal(got, []string{"0", "1", "2", "3"}) {
				t.Errorf("limit %d: %v", limit, got)
			}
		}
		if got := want[Page[TimeOff]](w.get("groomer:kim", path+"?from=2026-11-10"), http.StatusOK); len(got.Items) != 2 {
			t.Errorf("from the 10th: %+v", got)
		}
		w.texts.erased["groomer:kim"] = true
		if got := want[Page[TimeOff]](w.get("groomer:kim", path), http.StatusOK).Items[0]; got.Reason != nil || len(got.Erased) != 1 {
			t.Errorf("erased: %+v", got)
		}

		refused(w.get("groomer:lee", path), http.StatusForbidden, "auth.forbidden")
		refused(w.get("customer:kim", path), http.StatusForbidden, "auth.forbidden")
		refused(w.get("", path), http.StatusUnauthorized, "auth.missing")
		refused(w.get("admin:a", "/v1/groomers/nobody/time-off"), http.StatusNotFound, "groomer.unknown")
		for _, q := range []string{"limit=0", "limit=101", "cursor=x", "cursor=" + encodeCursor(beginsAfter{1, "lee.x"}), "from=x", "a=b"} {
			refused(w.get("groomer:kim", path+"?"+q), http.StatusBadRequest, "request.invalid")
		}
		s.Record(self, groomer.TimeOffRemoved{TimeOffID: fmt.Sprintf("kim.%026d", 0)})
		refused(w.get("groomer:kim", path, "Consistency-Token", w.token(), "Prefer", "wait=0"),
			http.StatusServiceUnavailable, "read_model.behind")
	})
}
