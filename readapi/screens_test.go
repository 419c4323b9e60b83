package readapi

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
)

func TestMe(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		got := want[map[string]any](w.get("groomer:kim", "/v1/me"), http.StatusOK)
		wanted := map[string]any{"sub": "kim", "role": "groomer", "expires_at": "2026-12-01T00:00:00Z"}
		if diff := gocmp.Diff(wanted, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		refused(w.get("", "/v1/me"), http.StatusUnauthorized, "auth.missing")
	})
}

func TestGroomersAreFoundByAreaServiceAndMode(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		w.log.Open("kim", "Asia/Seoul", "seoul/gangnam-gu")
		lee := w.log.Open("lee", "Asia/Seoul", "seoul/mapo-gu", "seoul/gangnam-gu")
		w.log.Open("park", "Asia/Seoul", "busan/haeundae-gu")
		me := domain.Actor{ID: "lee", Role: domain.Groomer}
		lee.Record(me, groomer.ProfileChanged{Name: "리", Areas: []string{"seoul/mapo-gu"}, Modes: []groomer.Mode{"shop", "visit"}})
		lee.Record(me, groomer.MenuChanged{Menu: []groomer.MenuItem{{Service: "trim", Size: "small", Minutes: 60, PriceKRW: 60_000}}})
		w.log.Events = append(w.log.Events, w.log.Open("unseen", "Asia/Seoul").Record(me, groomer.TimeOffRemoved{}))
		w.log.Events = slices.DeleteFunc(w.log.Events, func(e engine.Event) bool {
			_, profile := e.Event.(groomer.ProfileChanged)
			return profile && e.Key == "unseen"
		})
		w.project()
		for query, wanted := range map[string][]string{
			"":                        {"kim", "lee", "park"},
			"area=seoul":              {"kim", "lee"},
			"area=seoul/gangnam-gu":   {"kim"}, // lee has moved away
			"area=seoul%2Fmapo-gu":    {"lee"},
			"area=seo":                nil,
			"area=%25":                nil,
			"service=bath":            {"kim", "park"},
			"service=trim&mode=visit": {"lee"},
			"mode=shop&area=busan":    {"park"},
			"mode=visit&service=bath": nil,
		} {
			for _, limit := range []int{1, 100} {
				var got []string
				for _, g := range walk[Groomer](w, "", "/v1/groomers?"+query, limit) {
					got = append(got, g.GroomerID)
				}
				if diff := gocmp.Diff(wanted, got); diff != "" {
					t.Errorf("?%s by %d (-want +got)\n%s", query, limit, diff)
				}
			}
		}
		for _, id := range []string{"unseen", "nobody", "KIM", "%FF", "a%20b"} {
			refused(w.get("", "/v1/groomers/"+id), http.StatusNotFound, "groomer.unknown")
		}
	})
}

func TestAGroomerLooksAsItWasPut(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		w.log.Open("kim", "Asia/Seoul", "seoul/gangnam-gu")
		w.project()
		got := want[Groomer](w.get("", "/v1/groomers/kim"), http.StatusOK)
		wanted := Groomer{
			GroomerID: "kim", Name: "댕댕살롱 kim", Address: "서울 강남구 1", Areas: []string{"seoul/gangnam-gu"},
			Modes: []groomer.Mode{"shop"}, Zone: "Asia/Seoul",
			Menu:          w.log.Events[2].Event.(groomer.MenuChanged).Menu,
			Hours:         w.log.Events[3].Event.(groomer.HoursChanged).Hours,
			BufferMinutes: 10, MinNoticeMinutes: 60, HorizonDays: 60, Booking: "request", RequestExpiresMinutes: 1440,
			Cancellation: []groomer.RefundTier{{HoursBefore: 24, RefundPercent: 100}},
			Revision:     4,
		}
		if diff := gocmp.Diff(wanted, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// What the contract lets a person write must fit the columns, or that text would park the salon.
func TestTheLongestTextsFit(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		id := strings.Repeat("g", 40)
		customer := strings.Repeat("~", 128)
		area := strings.Repeat("가", 90) + "/" + strings.Repeat("🐶", 89)
		s := w.log.Open(id, "America/Argentina/ComodRivadavia", area)
		s.Record(domain.Actor{ID: id, Role: domain.Groomer}, groomer.ProfileChanged{
			Name: strings.Repeat("댕", 20_000), Address: strings.Repeat("🐶", 15_000), Areas: []string{area, area + "!"}, Modes: []groomer.Mode{"visit"},
		})
		v := s.Request(customer, tenth)
		s.Record(domain.Actor{ID: customer, Role: domain.Customer}, groomer.Cancelled{
			ReservationID: v.ID, Day: v.Day(s), Reason: foldtest.Seal("customer:"+customer, strings.Repeat("ㅠ", 20_000)), RefundPercent: 100,
		})
		w.project()
		got := want[Reservation](w.get("customer:"+customer, "/v1/reservations/"+v.ID), http.StatusOK)
		if got.CustomerID != customer || got.Status != "cancelled" {
			t.Errorf("%+v", got)
		}
		page := want[Page[Happening]](w.get("customer:"+customer, "/v1/reservations/"+v.ID+"/history"), http.StatusOK)
		if last := page.Items[len(page.Items)-1]; utf8.RuneCountInString(*last.Reason) != 20_000 || last.By.ID != customer {
			t.Errorf("cancelled by %s for %d characters", last.By.ID, utf8.RuneCountInString(*last.Reason))
		}
		found := want[Page[Groomer]](w.get("", "/v1/groomers?area="+url.QueryEscape(area)), http.StatusOK)
		if len(found.Items) != 1 || utf8.RuneCountInString(found.Items[0].Name) != 20_000 {
			t.Errorf("found %d by the longest area", len(found.Items))
		}
	})
}

func TestFiguresAreTheGroomersOwnOrAnAnalysts(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		salons := w.busy(rand.Uint64(), 120)
		count := func(figures []Day) (requested, completed, revenue int64) {
			for _, d := range figures {
				requested, completed, revenue = requested+d.Requested, completed+d.Completed, revenue+d.RevenueKRW
			}
			return requested, completed, revenue
		}
		recount := func(from, to string, salons ...*foldtest.Salon) (requested, completed, revenue int64) {
			for _, s := range salons {
				for _, v := range s.Visits {
					if d := v.Day(s); d < from || d > to {
						continue
					}
					requested++
					if v.Status == groomer.StatusCompleted {
						completed++
						revenue += v.PriceKRW
					}
				}
			}
			return requested, completed, revenue
		}
		for _, c := range []struct {
			as, query, from, to string
			salons              []*foldtest.Salon
		}{
			{"groomer:kim", "", "2026", "2027", salons[:1]},
			{"groomer:kim", "groomer_id=kim", "2026", "2027", salons[:1]},
			{"analyst:a", "groomer_id=lee", "2026", "2027", salons[1:2]},
			{"analyst:a", "", "2026", "2027", salons},
			{"admin:a", "from=2026-11-10&to=2026-11-11", "2026-11-10", "2026-11-11", salons},
			// 16:00 UTC on the 10th is the 11th in Seoul and the 10th in New York.
			{"admin:a", "from=2026-11-10T16:00:00Z&groomer_id=kim", "2026-11-11", "2027", salons[:1]},
			{"admin:a", "from=2026-11-10T16:00:00Z&groomer_id=lee", "2026-11-10", "2027", salons[1:2]},
			{"admin:a", "to=2026-11-10T15:00:00Z&groomer_id=kim", "2026", "2026-11-10", salons[:1]},
		} {
			for _, limit := range []int{2, 100} {
				figures := walk[Day](w, c.as, "/v1/stats/daily?"+c.query, limit)
				r1, c1, k1 := count(figures)
				r2, c2, k2 := recount(c.from, c.to, c.salons...)
				if r1 != r2 || c1 != c2 || k1 != k2 {
					t.Errorf("%s ?%s by %d: %d requested, %d completed, %d KRW; recounted %d, %d, %d", c.as, c.query, limit, r1, c1, k1, r2, c2, k2)
				}
				if !slices.IsSortedFunc(figures, func(a, b Day) int { return slices.Compare([]string{a.Day, a.GroomerID}, []string{b.Day, b.GroomerID}) }) {
					t.Errorf("?%s: not oldest first", c.query)
				}
			}
		}
		refused(w.get("groomer:kim", "/v1/stats/daily?groomer_id=lee"), http.StatusForbidden, "auth.forbidden")
		refused(w.get("customer:kim", "/v1/stats/daily"), http.StatusForbidden, "auth.forbidden")
	})
}

func TestAnAnswerTheCallerHasIsNotSentAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		w.project()
		for _, path := range []string{
			"/v1/reservations", "/v1/reservations/" + v.ID, "/v1/reservations/" + v.ID + "/history", "/v1/groomers", "/v1/groomers/kim", "/v1/me",
		} {
			etag := w.get("customer:c1", path).Header().Get("ETag")
			if etag == "" {
				t.Errorf("%s: no ETag", path)
			}
			for _, list := range []string{etag, `"other", W/` + etag, "*"} {
				r := w.get("customer:c1", path, "If-None-Match", list)
				if r.Code != http.StatusNotModified || r.Body.Len() > 0 || r.Header().Get("ETag") != etag {
					t.Errorf("%s If-None-Match: %s: %d %q %s", path, list, r.Code, r.Header().Get("ETag"), r.Body)
				}
			}
			if r := w.get("customer:c1", path, "If-None-Match", `"other"`); r.Code != http.StatusOK {
				t.Errorf("%s with another ETag: %d", path, r.Code)
			}
		}
		before := w.get("customer:c1", "/v1/reservations").Header().Get("ETag")
		s.Confirm(v)
		w.project()
		for path, etag := range map[string]string{"/v1/reservations": before, "/v1/reservations/" + v.ID: `"5"`} {
			if r := w.get("customer:c1", path, "If-None-Match", etag); r.Code != http.StatusOK {
				t.Errorf("%s has changed: %d", path, r.Code)
			}
		}
	})
}

func TestMalformedQueriesAreTheCallersFault(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		w.project()
		for _, path := range []string{
			"/v1/reservations?limit=0", "/v1/reservations?limit=101", "/v1/reservations?limit=x", "/v1/reservations?limit=99999999999999999999",
			"/v1/reservations?status=gone", "/v1/reservations?from=yesterday", "/v1/reservations?from=2026-02-30", "/v1/reservations?to=0000-01-01",
			"/v1/reservations?from=2026-11-12&to=2026-11-10", "/v1/reservations?from=9999-12-31T23:59:59Z", "/v1/reservations?cursor=x",
			"/v1/reservations?cursor=bnVsbA", "/v1/reservations?cursor=e30", "/v1/reservations?customer_id=%FF", "/v1/reservations?groomer_id=%27",
			"/v1/reservations?unknown=1", "/v1/groomers?area=%FF%FE", "/v1/groomers?service=haircut", "/v1/groomers?mode=", "/v1/groomers?cursor=IlwwIg",
			"/v1/stats/daily?from=x", "/v1/stats/daily?cursor=e30", "/v1/stats/daily?groomer_id=Kim!",
		} {
			r := w.get("admin:root", path)
			if path == "/v1/groomers?mode=" {
				continue // an empty one is none
			}
			refused(r, http.StatusBadRequest, "request.invalid")
		}
	})
}

// Whatever stands in a query or a header: an answer or the caller's fault, never ours.
func TestNothingInARequestIsOurFault(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul", "seoul")
		v := s.Request("c1", tenth)
		w.project()
		cursor := want[Page[Groomer]](w.get("", "/v1/groomers?limit=1"), http.StatusOK).NextCursor
		if cursor != nil {
			t.Fatal("one salon is one page")
		}
		paths := []string{"/v1/reservations", "/v1/reservations/" + v.ID, "/v1/reservations/" + v.ID + "/history", "/v1/groomers", "/v1/groomers/kim", "/v1/stats/daily", "/v1/me"}
		names := []string{"limit", "cursor", "from", "to", "status", "customer_id", "groomer_id", "area", "service", "mode"}
		values := rapid.OneOf(
			rapid.String(),
			rapid.SampledFrom([]string{
				"", "0", "-1", "1e9", "null", "%", "_", "'", "\\", "\x00", "\xff\xfe", "2026-11-10", "2026-11-10T00:00:00Z", "1969-12-31", "9999-12-31",
				"bnVsbA", "e30", "MQ", "LTE", "IiI", encodeCursor(startsBefore{-1 << 63, v.ID}), encodeCursor("kim"), encodeCursor(afterDay{"2026-11-10", "kim"}),
				encodeCursor(int64(1) << 62), "seoul", "confirmed", "bath", "shop", "c1", "kim",
			}),
		)
		rapid.Check(t, func(t *rapid.T) {
			query := url.Values{}
			for range rapid.IntRange(0, 4).Draw(t, "parameters") {
				query.Add(rapid.SampledFrom(names).Draw(t, "name"), values.Draw(t, "value"))
			}
			as := rapid.SampledFrom([]string{"customer:c1", "groomer:kim", "admin:root", "analyst:a"}).Draw(t, "as")
			path := rapid.SampledFrom(paths).Draw(t, "path") + "?" + query.Encode()
			headers := []string{"Prefer", "wait=0," + values.Draw(t, "prefer"), "If-None-Match", values.Draw(t, "etag")}
			if rapid.Bool().Draw(t, "token") {
				headers = append(headers, "Consistency-Token", values.Draw(t, "token"))
			}
			r := w.get(as, path, headers...)
			if r.Code >= 500 {
				t.Fatalf("%s GET %s %q: %d %s", as, path, headers, r.Code, r.Body)
			}
			if r.Code >= 400 && r.Header().Get("Content-Type") != "application/problem+json" {
				t.Fatal(fmt.Sprint("not a problem: ", r.Body))
			}
		})
	})
}
