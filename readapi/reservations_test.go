package readapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/projections/foldtest"
)

func TestAReservationLooksAsTheContractSays(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		s.Confirm(v)
		w.project()
		r := w.get("customer:c1", "/v1/reservations/"+v.ID)
		got := want[map[string]any](r, http.StatusOK)
		var wanted map[string]any
		err := json.Unmarshal([]byte(`{
			"reservation_id": "kim.00000000000000000000000001", "status": "confirmed", "groomer_id": "kim", "customer_id": "c1",
			"start": "2026-11-10T01:00:00Z", "end": "2026-11-10T01:30:00Z", "minutes": 30, "mode": "shop",
			"dogs": [{"name": "콩이", "size": "small", "services": ["bath"]}],
			"visit_address": null, "phone": "010-1234-5678", "note": "겁이 많아요",
			"price_krw": 25000, "refund_percent": null, "room_id": "kim.00000000000000000000000001",
			"cancellation": [{"hours_before": 24, "refund_percent": 100}],
			"created_at": "2026-11-02T00:00:06.000123Z", "updated_at": "2026-11-02T00:00:07.000123Z", "revision": 6
		}`), &wanted)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(wanted, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if got := r.Header().Get("ETag"); got != `"6"` {
			t.Errorf("ETag %s, want the revision", got)
		}
	})
}

func TestOnlyThePartiesAndAdminsSeeAReservation(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		v := w.log.Open("kim", "Asia/Seoul").Request("c1", tenth)
		w.project()
		for _, path := range []string{"/v1/reservations/" + v.ID, "/v1/reservations/" + v.ID + "/history"} {
			for as, status := range map[string]int{
				"customer:c1": 200, "groomer:kim": 200, "admin:root": 200,
				"customer:c2": 404, "groomer:lee": 404, "customer:kim": 404, "groomer:c1": 404,
				"analyst:a": 403, "": 401,
			} {
				r := w.get(as, path)
				if r.Code != status {
					t.Errorf("%q GET %s: %d, want %d", as, path, r.Code, status)
				}
				if status == http.StatusNotFound {
					refused(r, status, "reservation.unknown")
				}
			}
		}
		for _, id := range []string{"kim.00000000000000000000000009", "nobody", "kim.", "%00", "%FF", "..%2F", "kim.%27%20OR%201=1"} {
			refused(w.get("admin:root", "/v1/reservations/"+id), http.StatusNotFound, "reservation.unknown")
			refused(w.get("admin:root", "/v1/reservations/"+id+"/history"), http.StatusNotFound, "reservation.unknown")
		}
	})
}

func TestWhatAPersonHadErasedIsNullAndSaysSo(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		s.Cancel(v, 50)
		w.project()
		w.texts.erased["customer:c1"] = true
		got := want[Reservation](w.get("groomer:kim", "/v1/reservations/"+v.ID), http.StatusOK)
		if got.Phone != nil || got.Note != nil || got.Dogs[0].Name != nil {
			t.Errorf("something is left: %+v", got)
		}
		if diff := gocmp.Diff([]string{"dogs[0].name", "phone", "note"}, got.Erased); diff != "" {
			t.Errorf("erased (-want +got)\n%s", diff)
		}
		page := want[Page[Happening]](w.get("groomer:kim", "/v1/reservations/"+v.ID+"/history"), http.StatusOK)
		if last := page.Items[1]; last.Reason != nil || !slices.Equal(last.Erased, []string{"reason"}) {
			t.Errorf("something is left: %+v", last)
		}
	})
}

func TestHistoryIsWhoDidWhatWhenOldestFirst(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		s.Confirm(v)
		s.Move(v, tenth.Add(24*time.Hour))
		s.Cancel(v, 50)
		w.project()
		var got []string
		path := "/v1/reservations/" + v.ID + "/history?limit=3"
		for cursor := ""; ; {
			p := want[Page[Happening]](w.get("customer:c1", path+"&cursor="+cursor), http.StatusOK)
			for _, h := range p.Items {
				got = append(got, fmt.Sprintf("%s by %s %s at %s", h.What, h.By.Role, h.By.ID, h.At.Format(time.TimeOnly)))
			}
			if p.NextCursor == nil {
				if last := p.Items[len(p.Items)-1]; *last.Reason != "감기" || *last.RefundPercent != 50 {
					t.Errorf("cancelled: %+v", last)
				}
				break
			}
			cursor = *p.NextCursor
		}
		wanted := []string{
			"requested by customer c1 at 00:00:06", "confirmed by groomer kim at 00:00:07",
			"rescheduled by customer c1 at 00:00:08", "cancelled by customer c1 at 00:00:09",
		}
		if diff := gocmp.Diff(wanted, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// busy fills the log with a random life of several salons.
func (w *world) busy(seed uint64, steps int) []*foldtest.Salon {
	w.t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's dice
	salons := []*foldtest.Salon{w.log.Open("kim", "Asia/Seoul"), w.log.Open("lee", "America/New_York"), w.log.Open("park", "Asia/Seoul")}
	for range steps {
		salons[random.IntN(len(salons))].Step(random.IntN)
	}
	w.project()
	return salons
}

// walk reads a list page by page.
func walk[T any](w *world, as, path string, limit int) (items []T) {
	w.t.Helper()
	cursor := ""
	for {
		p := want[Page[T]](w.get(as, fmt.Sprintf("%s&limit=%d&cursor=%s", path, limit, cursor)), http.StatusOK)
		items = append(items, p.Items...)
		if len(p.Items) > limit {
			w.t.Fatalf("%d items with a limit of %d", len(p.Items), limit)
		}
		if p.NextCursor == nil {
			return items
		}
		cursor = *p.NextCursor
	}
}

func TestListsShowEachOnesOwnLatestStartFirstOnEveryPage(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		salons := w.busy(rand.Uint64(), 120)
		type one struct {
			*foldtest.Visit
			salon *foldtest.Salon
		}
		var all []one
		for _, s := range salons {
			for _, v := range s.Visits {
				all = append(all, one{v, s})
			}
		}
		slices.SortFunc(all, func(a, b one) int { return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(b.ID, a.ID)) })
		seoul, _ := time.LoadLocation("Asia/Seoul")
		newYork, _ := time.LoadLocation("America/New_York")
		day := func(d int, z *time.Location) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, z) }
		between := func(v one, from, to time.Time) bool { return !v.Start.Before(from) && v.Start.Before(to) }
		noon := time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC)
		for _, c := range []struct {
			as, query string
			shown     func(one) bool
		}{
			{"customer:c1", "", func(v one) bool { return v.CustomerID == "c1" }},
			{"customer:c1", "status=confirmed", func(v one) bool { return v.CustomerID == "c1" && v.Status == "confirmed" }},
			{"customer:c1", "customer_id=c2", func(one) bool { return false }},
			{"customer:c1", "groomer_id=lee", func(v one) bool { return v.CustomerID == "c1" && v.salon.ID == "lee" }},
			{"groomer:kim", "", func(v one) bool { return v.salon.ID == "kim" }},
			{"groomer:kim", "customer_id=c2", func(v one) bool { return v.salon.ID == "kim" && v.CustomerID == "c2" }},
			{"groomer:kim", "groomer_id=lee", func(one) bool { return false }},
			{"admin:a", "", func(one) bool { return true }},
			{"admin:a", "status=cancelled", func(v one) bool { return v.Status == "cancelled" }},
			{"admin:a", "customer_id=c0&groomer_id=park", func(v one) bool { return v.CustomerID == "c0" && v.salon.ID == "park" }},
			{"admin:a", "from=2026-11-10&to=2026-11-10", func(v one) bool { return between(v, day(10, seoul), day(11, seoul)) }},
			{"admin:a", "from=2026-11-10&to=2026-11-11&groomer_id=lee", func(v one) bool {
				return v.salon.ID == "lee" && between(v, day(10, newYork), day(12, newYork))
			}},
			{"groomer:lee", "to=2026-11-09", func(v one) bool { return v.salon.ID == "lee" && v.Start.Before(day(10, newYork)) }},
			{"admin:a", "from=2026-11-10T21:00:00%2B09:00", func(v one) bool { return !v.Start.Before(noon) }},
			{"admin:a", "to=2026-11-10T12:00:00Z", func(v one) bool { return v.Start.Before(noon) }},
		} {
			var wanted []string
			for _, v := range all {
				if c.shown(v) {
					wanted = append(wanted, v.ID)
				}
			}
			for _, limit := range []int{3, 100} {
				var got []string
				for _, r := range walk[Reservation](w, c.as, "/v1/reservations?"+c.query, limit) {
					got = append(got, r.ReservationID)
				}
				if diff := gocmp.Diff(wanted, got); diff != "" {
					t.Errorf("%s ?%s by %d (-want +got)\n%s", c.as, c.query, limit, diff)
				}
			}
		}
	})
}

func TestAPageStaysStableWhenSomethingIsInserted(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.log.Open("kim", "Asia/Seoul")
		for i := range 4 {
			s.Request("c1", tenth.Add(time.Duration(i)*time.Hour))
		}
		w.project()
		first := want[Page[Reservation]](w.get("customer:c1", "/v1/reservations?limit=2"), http.StatusOK)
		s.Request("c1", tenth.Add(10*time.Hour)) // before the first page
		w.project()
		second := want[Page[Reservation]](w.get("customer:c1", "/v1/reservations?limit=2&cursor="+url.QueryEscape(*first.NextCursor)), http.StatusOK)
		got := []string{first.Items[0].ReservationID, first.Items[1].ReservationID, second.Items[0].ReservationID, second.Items[1].ReservationID}
		wanted := []string{s.Visits[3].ID, s.Visits[2].ID, s.Visits[1].ID, s.Visits[0].ID}
		if diff := gocmp.Diff(wanted, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}
