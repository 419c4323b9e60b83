package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
)

// salons of the town: every second one asks before it confirms.
func salons(n int) []domain.Actor { return crowd(domain.Groomer, "salon-%d", n) }

func customersOf(n int) []domain.Actor { return crowd(domain.Customer, "kim-%d", n) }

func crowd(role domain.Role, name string, n int) []domain.Actor {
	out := make([]domain.Actor, n)
	for i := range out {
		out[i] = domain.Actor{ID: fmt.Sprintf(name, i), Role: role}
	}
	return out
}

// body is what a salon says of itself, in its n-th version.
func bodyOf(salon domain.Actor, n int) map[string]any {
	booking := "instant"
	if strings.HasSuffix(salon.ID, "1") || strings.HasSuffix(salon.ID, "3") {
		booking = "request"
	}
	b := salonBody(demoSalon{salon.ID, fmt.Sprintf("살롱 %s 제%d판", salon.ID, n), "서울 중구 을지로 1", []string{"seoul/jung-gu"}, []string{"shop", "visit"}, booking, 1000})
	var hours []map[string]any
	for _, d := range []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} {
		hours = append(hours, map[string]any{"weekday": d, "opens": "08:00", "closes": "22:00"})
	}
	b["hours"] = hours
	return b
}

// open opens the salons.
func (w *town) open(ctx context.Context, seed uint64, of []domain.Actor) {
	for i, s := range of {
		p := &person{town: w, who: s, rand: rand.New(rand.NewPCG(seed, uint64(1000+i)))}
		p.settle(ctx, "register_groomer", http.MethodPut, "/v1/groomers/"+s.ID, bodyOf(s, 0))
	}
}

// live lets everybody do something every so often until ctx ends. What was begun is settled all the same.
func (w *town) live(ctx, whole context.Context, seed uint64, every time.Duration, groomers, customers []domain.Actor) {
	var all sync.WaitGroup
	act := func(i int, who domain.Actor, do func(ctx context.Context, p *person)) {
		p := &person{town: w, who: who, rand: rand.New(rand.NewPCG(seed, uint64(i))), n: 1}
		all.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					do(whole, p)
				}
			}
		})
	}
	for i, who := range groomers {
		act(i, who, func(ctx context.Context, p *person) { p.groom(ctx) })
	}
	for i, who := range customers {
		act(100+i, who, func(ctx context.Context, p *person) { p.shop(ctx, groomers) })
	}
	all.Wait()
}

// someStart is a quarter of an hour in few enough days that people get into each other's way.
func (p *person) someStart() time.Time {
	seoul := time.FixedZone("KST", 9*3600)
	day := time.Now().In(seoul).AddDate(0, 0, 2+p.rand.IntN(6))
	return time.Date(day.Year(), day.Month(), day.Day(), 8, 15*p.rand.IntN(52), 0, 0, seoul)
}

func (p *person) someDogs() []map[string]any {
	services := []string{"bath"}
	if p.rand.IntN(2) == 0 {
		services = append(services, "nails")
	}
	return []map[string]any{{"name": "콩이", "size": []string{"small", "medium"}[p.rand.IntN(2)], "services": services}}
}

// shop is one thing that a customer does.
func (p *person) shop(ctx context.Context, salons []domain.Actor) {
	mine := func(status ...string) *visit {
		return p.pick(func(v *visit) bool { return v.customer == p.who && contains(status, v.status) })
	}
	switch n := p.rand.IntN(100); {
	case n < 30:
		p.reserve(ctx, salons[p.rand.IntN(len(salons))].ID)
	case n < 50:
		p.hold(ctx, salons[p.rand.IntN(len(salons))].ID)
	case n < 62:
		p.change(ctx, mine("requested", "confirmed"), "cancel", map[string]any{"reason": "여행"}, "cancelled")
	case n < 75:
		p.change(ctx, mine("requested", "confirmed"), "reschedule", move{p.someStart()}, "rescheduled")
	default:
		p.talk(ctx, mine("requested", "confirmed", "cancelled", "declined"))
	}
}

// groom is one thing that a groomer does.
func (p *person) groom(ctx context.Context) {
	mine := func(status ...string) *visit {
		return p.pick(func(v *visit) bool { return v.groomer == p.who && contains(status, v.status) })
	}
	switch n := p.rand.IntN(100); {
	case n < 40:
		p.change(ctx, mine("requested"), "confirm", nil, "confirmed")
	case n < 50:
		p.change(ctx, mine("requested"), "decline", map[string]any{"reason": "휴무"}, "declined")
	case n < 55:
		p.change(ctx, mine("requested", "confirmed"), "cancel", nil, "cancelled")
	case n < 60:
		p.change(ctx, mine("requested", "confirmed"), "reschedule", move{p.someStart()}, "rescheduled")
	case n < 65:
		p.settle(ctx, "register_groomer", http.MethodPut, "/v1/groomers/"+p.who.ID, bodyOf(p.who, p.n))
	case n < 75:
		p.rest(ctx)
	default:
		p.talk(ctx, mine("requested", "confirmed", "cancelled"))
	}
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

func (p *person) reserve(ctx context.Context, salon string) {
	p.booked(ctx, map[string]any{
		"groomer_id": salon, "start": p.someStart(), "mode": "visit", "dogs": p.someDogs(),
		"visit_address": "서울 강남구 역삼로 7", "phone": "010-0000-1234", "note": "살살 부탁드려요",
	})
}

// hold holds a slot; then it is booked, given back, or forgotten.
func (p *person) hold(ctx context.Context, salon string) {
	d, ok := p.settle(ctx, "hold_slot", http.MethodPost, "/v1/holds", map[string]any{
		"groomer_id": salon, "start": p.someStart(), "mode": "shop", "dogs": p.someDogs(),
	})
	var hold struct {
		ID string `json:"hold_id"`
	}
	if !ok || d.code != "" || json.Unmarshal([]byte(d.body), &hold) != nil {
		return
	}
	switch n := p.rand.IntN(10); {
	case n < 6:
		p.booked(ctx, map[string]any{"hold_id": hold.ID})
	case n < 9:
		p.settle(ctx, "release_hold", http.MethodDelete, "/v1/holds/"+hold.ID, nil)
	}
}

func (p *person) booked(ctx context.Context, body any) {
	d, ok := p.settle(ctx, "reserve", http.MethodPost, "/v1/reservations", body)
	if !ok || d.code != "" {
		return
	}
	what := []string{"requested"}
	if strings.Contains(d.body, `"status":"confirmed"`) {
		what = append(what, "confirmed")
	}
	p.look(ctx, d, p.note(d, what...))
}

// move is what asks for another start.
type move struct {
	Start time.Time `json:"start"`
}

// change moves a visit on. Now and then the same is asked again under another key: a success that changes nothing.
func (p *person) change(ctx context.Context, v *visit, verb string, body any, what string) {
	if v == nil {
		return
	}
	path := "/v1/reservations/" + v.id + "/" + verb
	d, ok := p.settle(ctx, verb, http.MethodPost, path, body)
	if !ok || d.code != "" {
		return
	}
	p.note(d, what)
	if to, moved := body.(move); moved {
		var now struct{ Start time.Time }
		if err := json.Unmarshal([]byte(d.body), &now); err != nil || !now.Start.Equal(to.Start) {
			p.fault("moved to %v, answered %s", to.Start, d.body)
		}
	}
	if verb == "cancel" && p.rand.IntN(3) == 0 {
		again, ok := p.settle(ctx, verb, http.MethodPost, path, body)
		if ok && again.body != d.body {
			p.fault("cancelled twice:\n  %s\n  %s", d.body, again.body)
		}
	}
	p.look(ctx, d, v)
}

// look reads a visit back, now and then: never older than what was just acknowledged. While a projector is away it is
// told so; life goes on.
func (p *person) look(ctx context.Context, d deed, v *visit) {
	if v == nil || p.rand.IntN(3) > 0 {
		return
	}
	r, err := p.glance(ctx, "/v1/reservations/"+v.id, d.seen, "wait=1")
	if err != nil || p.again(r) {
		return
	}
	var told, read struct{ Revision uint64 }
	if json.Unmarshal([]byte(d.body), &told) != nil || json.Unmarshal([]byte(r.body), &read) != nil || r.status != http.StatusOK {
		p.fault("read after the write: %d %s", r.status, r.body)
		return
	}
	if read.Revision < told.Revision || read.Revision == told.Revision && r.body != d.body {
		p.fault("read older or other than what was acknowledged:\n  %s\n  %s", d.body, r.body)
	}
}

func (p *person) talk(ctx context.Context, v *visit) {
	if v == nil {
		return
	}
	id := "m-" + p.key()
	text := fmt.Sprintf("안녕하세요, %s입니다 (%s)", p.who.ID, id)
	path := "/v1/chat/rooms/" + v.id
	d, ok := p.settle(ctx, "post_message", http.MethodPost, path+"/messages", commands.PostMessage{ClientMessageID: id, Text: text})
	if !ok || d.code != "" {
		return
	}
	var posted struct{ Seq uint64 }
	if err := json.Unmarshal([]byte(d.body), &posted); err != nil || posted.Seq == 0 {
		p.fault("a message without a seq: %s", d.body)
	}
	p.mu.Lock()
	p.rooms[v.id] = append(p.rooms[v.id], post{p.who, id, text, posted.Seq, d.seen})
	p.mu.Unlock()
	switch p.rand.IntN(4) {
	case 0:
		p.settle(ctx, "mark_read", http.MethodPost, path+"/read", map[string]any{"seq": posted.Seq})
	case 1:
		r, err := p.glance(ctx, fmt.Sprintf("%s/messages?after=%d&limit=1", path, posted.Seq-1), d.seen, "wait=1")
		if err == nil && !p.again(r) && !strings.Contains(r.body, id) {
			p.fault("message %s is not there right after it was acknowledged: %d %s", id, r.status, r.body)
		}
	}
}

// rest takes an hour off and, as a rule, works after all.
func (p *person) rest(ctx context.Context) {
	from := p.someStart()
	path := "/v1/groomers/" + p.who.ID + "/time-off"
	d, ok := p.settle(ctx, "add_time_off", http.MethodPost, path, map[string]any{"from": from, "to": from.Add(time.Hour), "reason": "치과"})
	var off struct {
		ID string `json:"time_off_id"`
	}
	if ok && d.code == "" && json.Unmarshal([]byte(d.body), &off) == nil && p.rand.IntN(4) > 0 {
		p.settle(ctx, "remove_time_off", http.MethodDelete, path+"/"+off.ID, nil)
	}
}
