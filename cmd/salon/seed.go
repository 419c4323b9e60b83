package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// minter makes a token for somebody; the demo plays several people.
type minter func(sub, role string) (string, error)

type demoSalon struct {
	id, name, address string
	areas, modes      []string
	booking           string
	factor            int64 // of the price list
}

// demoSalons are the three salons of --demo.
var demoSalons = []demoSalon{
	{"kongi", "콩이네 미용실", "서울 강남구 테헤란로 12", []string{"seoul/gangnam-gu", "seoul/seocho-gu"}, []string{"shop", "visit"}, "instant", 1000},
	{"mongsil", "몽실몽실 애견살롱", "서울 마포구 와우산로 34", []string{"seoul/mapo-gu"}, []string{"shop"}, "request", 900},
	{"bada", "바다 방문 미용", "부산 해운대구 해운대로 56", []string{"busan/haeundae-gu", "busan/suyeong-gu"}, []string{"visit"}, "instant", 1100},
}

// demoCustomers and their dogs.
var demoCustomers = []struct{ sub, dog, size string }{
	{"minji", "콩이", "small"}, {"jiho", "초코", "medium"}, {"seoyeon", "보리", "small"}, {"doyun", "구름", "large"},
}

func salonBody(s demoSalon) map[string]any {
	var menu []map[string]any
	for i, size := range []string{"small", "medium", "large"} {
		for _, m := range []struct {
			service string
			minutes int
			price   int64
		}{{"bath", 30, 25}, {"trim", 45, 35}, {"full_clip", 60, 50}, {"scissor_cut", 75, 70}, {"nails", 15, 8}, {"teeth", 15, 10}, {"ears", 15, 8}} {
			menu = append(menu, map[string]any{
				"service": m.service, "size": size, "minutes": m.minutes + 15*i, "price_krw": (m.price + 5*int64(i)) * s.factor,
			})
		}
	}
	var hours []map[string]any
	for _, d := range []string{"tue", "wed", "thu", "fri", "sat", "sun"} {
		hours = append(hours, map[string]any{
			"weekday": d, "opens": "10:00", "closes": "19:00", "breaks": []map[string]any{{"from": "13:00", "to": "14:00"}},
		})
	}
	return map[string]any{
		"name": s.name, "address": s.address, "areas": s.areas, "modes": s.modes, "zone": "Asia/Seoul", "menu": menu, "hours": hours,
		"buffer_minutes": 10, "min_notice_minutes": 60, "horizon_days": 60, "booking": s.booking, "request_expires_minutes": 1440,
		"cancellation": []map[string]any{{"hours_before": 24, "refund_percent": 100}, {"hours_before": 3, "refund_percent": 50}, {"hours_before": 0, "refund_percent": 0}},
	}
}

// slot is an item of the free-slot screen.
type slot struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// seed opens the demo salons and books a week, through the API as anybody would. It does nothing for a salon that is
// there: a second start must not book again.
func seed(ctx context.Context, url string, mint minter, out io.Writer) error {
	for n, s := range demoSalons {
		owner, err := as(url, mint, s.id, "groomer")
		if err != nil {
			return err
		}
		switch a, err := owner.call(ctx, http.MethodGet, "/v1/groomers/"+s.id, "", nil); {
		case err != nil:
			return err
		case a.status == http.StatusOK:
			continue
		}
		if _, err := owner.must(ctx, http.MethodPut, "/v1/groomers/"+s.id, "seed", salonBody(s), nil); err != nil {
			return err
		}
		booked := 0
		for day := range 7 {
			c := demoCustomers[(n+day)%len(demoCustomers)]
			made, err := seedBooking(ctx, url, mint, owner, s, c.sub, c.dog, c.size, day)
			if err != nil {
				return err
			}
			booked += made
		}
		fmt.Fprintf(out, "  %s (%s): open, %d bookings in the week ahead\n", s.name, s.id, booked)
	}
	return nil
}

// seedBooking books the first free slot of a day; a day without one (the salon is shut) gives 0.
func seedBooking(ctx context.Context, url string, mint minter, owner *client, s demoSalon, sub, dog, size string, day int) (int, error) {
	customer, err := as(url, mint, sub, "customer")
	if err != nil {
		return 0, err
	}
	customer.seen = owner.seen
	date := time.Now().AddDate(0, 0, day+1).Format(time.DateOnly)
	var free struct{ Items []slot }
	path := fmt.Sprintf("/v1/groomers/%s/slots?from=%s&to=%s&services=bath,nails&size=%s", s.id, date, date, size)
	if _, err := customer.must(ctx, http.MethodGet, path, "", nil, &free); err != nil {
		return 0, err
	}
	if len(free.Items) == 0 {
		return 0, nil
	}
	body := map[string]any{
		"groomer_id": s.id, "start": free.Items[0].Start, "mode": s.modes[len(s.modes)-1],
		"dogs": []map[string]any{{"name": dog, "size": size, "services": []string{"bath", "nails"}}},
	}
	if s.modes[len(s.modes)-1] == "visit" {
		body["visit_address"], body["phone"] = "서울 강남구 역삼로 7, 301호", "010-0000-1234"
	}
	if _, err := customer.must(ctx, http.MethodPost, "/v1/reservations", fmt.Sprintf("seed-%s-%d", s.id, day), body, nil); err != nil {
		return 0, err
	}
	owner.seen = customer.seen
	return 1, nil
}

func as(url string, mint minter, sub, role string) (*client, error) {
	token, err := mint(sub, role)
	if err != nil {
		return nil, err
	}
	c := newClient(url, token)
	c.wait = 20 // the system may have begun just now
	return c, nil
}

// printTokens shows people how to try the system: tokens, and three lines that work when pasted.
func printTokens(ctx context.Context, url string, mint minter, out io.Writer) error {
	fmt.Fprintln(out, "\nTokens to try, valid for a day:")
	for _, p := range []struct{ name, sub, role string }{
		{"CUSTOMER", "minji", "customer"}, {"GROOMER", "kongi", "groomer"}, {"ADMIN", "operator", "admin"},
	} {
		token, err := mint(p.sub, p.role)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  export %s=%s\n", p.name, token)
	}
	customer, err := as(url, mint, "minji", "customer")
	if err != nil {
		return err
	}
	from, to := time.Now().AddDate(0, 0, 8), time.Now().AddDate(0, 0, 14)
	days := fmt.Sprintf("from=%s&to=%s", from.Format(time.DateOnly), to.Format(time.DateOnly))
	var free struct{ Items []slot }
	if _, err := customer.must(ctx, http.MethodGet, "/v1/groomers/kongi/slots?services=bath&size=small&"+days, "", nil, &free); err != nil {
		return err
	}
	if len(free.Items) == 0 {
		return errors.New("the demo salon has no free slot in the second week: was its book changed?")
	}
	fmt.Fprintf(out, "\nThree lines to paste into another shell, after the exports:\n"+
		"  curl -s '%[1]s/v1/groomers/kongi/slots?services=bath&size=small&%[2]s'\n"+
		"  curl -s -X POST %[1]s/v1/reservations -H \"Authorization: Bearer $CUSTOMER\" -H 'Content-Type: application/json' -d '{\"groomer_id\":\"kongi\",\"start\":\"%[3]s\",\"mode\":\"shop\",\"dogs\":[{\"name\":\"콩이\",\"size\":\"small\",\"services\":[\"bath\"]}]}'\n"+
		"  curl -s %[1]s/v1/reservations -H \"Authorization: Bearer $CUSTOMER\"\n",
		url, days, free.Items[0].Start.Format(time.RFC3339))
	return nil
}
