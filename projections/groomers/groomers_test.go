package groomers_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/schedule"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/groomers"
)

func replay(t interface{ Fatal(...any) }, events ...engine.Event) *engine.Unit {
	u := engine.NewUnit()
	if err := u.Replay(groomers.Projection(), events...); err != nil {
		t.Fatal(err)
	}
	return u
}

func terms(u *engine.Unit) []string {
	var out []string
	for _, t := range groomers.Terms.Rows(u) {
		out = append(out, t.Term)
	}
	slices.Sort(out)
	return out
}

func TestARowShowsAllOfASalon(t *testing.T) {
	t.Parallel()
	log := foldtest.NewLog()
	log.Open("kim", "Asia/Seoul", "seoul/gangnam-gu", "seoul/seocho-gu")
	u := replay(t, log.Events...)
	want := []groomers.Row{{
		GroomerID: "kim",
		Zone:      "Asia/Seoul",
		Listed:    true,
		Name:      "댕댕살롱 kim",
		Address:   "서울 강남구 1",
		Areas:     []string{"seoul/gangnam-gu", "seoul/seocho-gu"},
		Modes:     []groomer.Mode{"shop"},
		Menu: []groomer.MenuItem{
			{Service: "bath", Size: "small", Minutes: 30, PriceKRW: 25_000},
			{Service: "bath", Size: "large", Minutes: 60, PriceKRW: 50_000},
			{Service: "nails", Size: "small", Minutes: 15, PriceKRW: 10_000},
		},
		Hours:         []schedule.Hours{{Weekday: "mon", Opens: "10:00", Closes: "19:00", Breaks: []schedule.Break{{From: "13:00", To: "14:00"}}}},
		BufferMinutes: 10, MinNoticeMinutes: 60, HorizonDays: 60, Booking: "request", RequestExpiresMinutes: 1440,
		Cancellation: []groomer.RefundTier{{HoursBefore: 24, RefundPercent: 100}},
		Revision:     4,
	}}
	if diff := cmp.Diff(want, groomers.Table.Rows(u)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	wantTerms := []string{"area:seoul", "area:seoul/gangnam-gu", "area:seoul/seocho-gu", "mode:shop", "service:bath", "service:nails"}
	if diff := cmp.Diff(wantTerms, terms(u)); diff != "" {
		t.Errorf("terms (-want +got)\n%s", diff)
	}
}

// However profile and menu change, the terms are those of the last ones: no stale term finds a salon.
func TestTermsFollowProfileAndMenu(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		s := log.Open("kim", "Asia/Seoul", "busan")
		areas := rapid.SliceOfN(rapid.SampledFrom([]string{"seoul", "seoul/a", "seoul/b", "busan/c/d", "busan"}), 0, 4)
		services := rapid.SliceOfN(rapid.SampledFrom([]string{"bath", "trim", "nails"}), 0, 3)
		last := groomer.ProfileChanged{}
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			last = groomer.ProfileChanged{Name: "n", Areas: areas.Draw(t, "areas"), Modes: []groomer.Mode{groomer.House}}
			s.Record(domain.Actor{}, last)
			var menu groomer.MenuChanged
			for _, service := range services.Draw(t, "services") {
				menu.Menu = append(menu.Menu, groomer.MenuItem{Service: service})
			}
			s.Record(domain.Actor{}, menu)
		}
		menu := log.Events[len(log.Events)-1].Event.(groomer.MenuChanged).Menu
		fresh := foldtest.NewLog()
		f := fresh.Open("kim", "Asia/Seoul", "jeju")
		clean := replay(t, fresh.Events[0],
			f.Record(domain.Actor{}, last), f.Record(domain.Actor{}, groomer.MenuChanged{Menu: menu}))
		if diff := cmp.Diff(terms(clean), terms(replay(t, log.Events...))); diff != "" {
			t.Fatalf("(-of the last profile and menu +got)\n%s", diff)
		}
	})
}
