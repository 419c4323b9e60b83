package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/token"
)

// callers is how many customers act at once, each in a salon of its own.
const callers = 256

// mark is where an accepted command stands in the log.
type mark struct {
	topic string
	key   string
	pos   uint64
}

// desk takes commands: the command layer itself, or HTTP. path and command say the same thing for either.
type desk interface {
	do(ctx context.Context, a action) (mark, error)
}

// action is one command of somebody.
type action struct {
	by     domain.Actor
	name   string  // of the command
	target string  // groomer, reservation or room
	body   any     // the command's own request, nil for none
	key    string  // Idempotency-Key
	id     *string // where the ID that it makes goes, if it makes one
}

// script is one customer's story in ten commands, after which the slot is free again: held, reserved, talked about,
// moved, cancelled.
func script(customer, groomer domain.Actor, start time.Time, round int, hold, reservation *string) []func() action {
	dogs := []commands.DogRequest{{Name: "콩이", Size: "small", Services: []string{"bath", "nails"}}}
	key := func(n int) string { return fmt.Sprintf("bench-%d-%d", round, n) }
	say := func(n int, by domain.Actor, text string) func() action {
		return func() action {
			return action{by: by, name: "post_message", target: *reservation, body: commands.PostMessage{ClientMessageID: key(n), Text: text}, key: key(n)}
		}
	}
	read := func(n int, by domain.Actor, seq uint64) func() action {
		return func() action {
			return action{by: by, name: "mark_read", target: *reservation, body: commands.MarkRead{Seq: seq}, key: key(n)}
		}
	}
	return []func() action{
		func() action {
			return action{by: customer, name: "hold_slot", body: commands.HoldSlot{GroomerID: groomer.ID, Start: start, Mode: "shop", Dogs: dogs}, key: key(0), id: hold}
		},
		func() action {
			return action{by: customer, name: "reserve", body: commands.Reserve{HoldID: *hold, Note: "귀 청소는 살살 부탁드려요"}, key: key(1), id: reservation}
		},
		say(2, customer, "안녕하세요, 콩이가 낯을 조금 가려요"),
		say(3, groomer, "천천히 친해질게요"),
		read(4, customer, 2),
		say(5, customer, "주차는 어디에 하면 되나요?"),
		say(6, groomer, "가게 앞에 두 자리 있어요"),
		read(7, groomer, 3),
		func() action {
			return action{by: customer, name: "reschedule", target: *reservation, body: commands.Reschedule{Start: start.Add(2 * time.Hour)}, key: key(8)}
		},
		func() action {
			return action{by: customer, name: "cancel", target: *reservation, body: commands.Reason{Reason: "여행 일정이 생겼어요"}, key: key(9)}
		},
	}
}

// people are the bench's salons and customers, and the two desks that take their commands.
type people struct {
	run          string // part of every name: a second run on the same store must not be answered what the first one was
	direct, http desk
	reader       func(caller int) *client // who reads back over HTTP
	visible      *visibility
	incarnation  string
	starts       []time.Time // slots that every salon offers
	round        [callers]int
}

// runName tells this run of a benchmark from others on the same store.
func runName() string { return strings.ToLower(rand.Text()[:8]) }

func newPeople(ctx context.Context, n *node, url string, mint minter, visible *visibility) (*people, error) {
	p := &people{run: runName(), direct: &directDesk{n.executor}, visible: visible}
	visible.partitions = n.servers.Topics.Partitions
	head, err := n.store.Head(ctx)
	if err != nil {
		return nil, err
	}
	p.incarnation = head.Incarnation
	h := &httpDesk{url: url, mint: mint, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * callers}, Timeout: 35 * time.Second}}
	p.http = h
	p.reader = func(caller int) *client {
		return &client{url: url, token: h.token(p.customer(caller)), http: h.client}
	}
	salon := demoSalon{name: "벤치 살롱", address: "서울 중구 을지로 1", areas: []string{"seoul/jung-gu"}, modes: []string{"shop"}, booking: "instant", factor: 1000}
	b, err := json.Marshal(salonBody(salon))
	if err != nil {
		return nil, err
	}
	var register commands.RegisterGroomer
	if err := json.Unmarshal(b, &register); err != nil {
		return nil, err
	}
	register.Hours = nil
	for _, d := range []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} {
		register.Hours = append(register.Hours, commands.OpeningHours{Weekday: d, Opens: "00:00", Closes: "24:00"})
	}
	for i := range callers {
		m, err := p.direct.do(ctx, action{by: p.groomer(i), name: "register_groomer", target: p.groomer(i).ID, body: register, key: "bench"})
		if err != nil {
			return nil, err
		}
		visible.accepted(m, time.Now())
	}
	day := time.Now().UTC().Truncate(24 * time.Hour)
	for d := 2; d < 50; d++ {
		for hour := 0; hour < 9; hour++ { // 09:00 to 18:00 in Seoul
			p.starts = append(p.starts, day.AddDate(0, 0, d).Add(time.Duration(hour)*time.Hour))
		}
	}
	_, err = visible.drained(ctx, n)
	return p, err
}

func (p *people) groomer(i int) domain.Actor {
	return domain.Actor{ID: fmt.Sprintf("bench-%s-%d", p.run, i), Role: domain.Groomer}
}

func (p *people) customer(i int) domain.Actor {
	return domain.Actor{ID: fmt.Sprintf("bench-%s-%d", p.run, i), Role: domain.Customer}
}

// token is that of a command's answer.
func (p *people) token(m mark) string {
	return token.Token{Incarnation: p.incarnation, Entries: []token.Entry{{Topic: m.topic, Key: m.key, Position: m.pos}}}.String()
}

// directDesk calls the command layer as its HTTP operations do.
type directDesk struct{ x *commands.Executor }

func (d *directDesk) do(ctx context.Context, a action) (mark, error) {
	id := eventstore.CommandID(string(a.by.Role), a.by.ID, http.MethodPost, a.name+"/"+a.target, a.key)
	if post, ok := a.body.(commands.PostMessage); ok {
		id = commands.PostMessageID(a.by, a.target, post.ClientMessageID)
	}
	m, err := d.x.NewMeta(ctx, a.by, a.name, id, a.body)
	if err != nil {
		return mark{}, err
	}
	switch r := a.body.(type) {
	case commands.RegisterGroomer:
		return placed(d.x.RegisterGroomer(ctx, m, a.target, r))
	case commands.HoldSlot:
		*a.id = commands.HoldID(r.GroomerID, m)
		return placed(d.x.HoldSlot(ctx, m, r))
	case commands.Reserve:
		*a.id = commands.ReservationID(r, m)
		return placed(d.x.Reserve(ctx, m, r))
	case commands.Reschedule:
		return placed(d.x.Reschedule(ctx, m, a.target, r))
	case commands.Reason:
		return placed(d.x.Cancel(ctx, m, a.target, r))
	case commands.PostMessage:
		return placed(d.x.PostMessage(ctx, m, a.target, r))
	case commands.MarkRead:
		return placed(d.x.MarkRead(ctx, m, a.target, r))
	}
	return mark{}, fmt.Errorf("no desk takes %s", a.name)
}

func placed[S any](r commands.Result[S], err error) (mark, error) {
	return mark{wire.TopicOf(r.Stream), r.Key, r.Position}, err
}

// httpDesk calls the API with each person's own token.
type httpDesk struct {
	url    string
	mint   minter
	client *http.Client
	tokens sync.Map // Actor → string
}

func (d *httpDesk) token(by domain.Actor) string {
	if t, ok := d.tokens.Load(by); ok {
		return t.(string)
	}
	t, err := d.mint(by.ID, string(by.Role))
	if err != nil {
		return "" // the first answer will be 401
	}
	d.tokens.Store(by, t)
	return t
}

// route is where an action is posted.
func route(a action) string {
	switch a.name {
	case "hold_slot":
		return "/v1/holds"
	case "reserve":
		return "/v1/reservations"
	case "post_message":
		return "/v1/chat/rooms/" + a.target + "/messages"
	case "mark_read":
		return "/v1/chat/rooms/" + a.target + "/read"
	}
	return "/v1/reservations/" + a.target + "/" + a.name
}

func (d *httpDesk) do(ctx context.Context, a action) (mark, error) {
	c := &client{url: d.url, token: d.token(a.by), http: d.client}
	var made struct {
		Hold        string `json:"hold_id"`
		Reservation string `json:"reservation_id"`
	}
	if _, err := c.must(ctx, http.MethodPost, route(a), a.key, a.body, &made); err != nil {
		return mark{}, err
	}
	if a.id != nil {
		*a.id = made.Hold + made.Reservation // an answer has one of them
	}
	tokens, err := token.Parse(c.seen)
	if err != nil || len(tokens) != 1 || len(tokens[0].Entries) != 1 {
		return mark{}, fmt.Errorf("%s answered the token %q: %w", a.name, c.seen, err)
	}
	e := tokens[0].Entries[0]
	return mark{e.Topic, e.Key, e.Position}, nil
}

// load is callers who play the script over and over, at a rate or as fast as they are answered.
type load struct {
	people    *people
	desk      desk
	callers   int
	rate      float64 // commands a second in all; 0: as fast as they go
	readEvery int     // read back every n-th command over HTTP; 0: none
	// enough, when it is closed, ends it before its time.
	enough <-chan struct{}
}

// tally is what a load did.
type tally struct {
	within int             // commands answered within the load's time; the rest ended stories that had begun
	lasts  time.Duration   // the load's time
	took   []time.Duration // of each command
	read   []time.Duration // from a command's answer to the answer of a read with its token
}

func (t tally) rate() float64 { return float64(t.within) / t.lasts.Seconds() }

// run plays for a while. The first refused command ends it: nothing in the script is refused by a healthy system.
func (l *load) run(ctx context.Context, lasts time.Duration) (tally, error) {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	each := make([]tally, l.callers)
	for i := range l.callers {
		group.Go(func() error { return l.play(ctx, i, began, lasts, &each[i]) })
	}
	err := group.Wait()
	all := tally{lasts: lasts}
	for _, t := range each {
		all.within += t.within
		all.took, all.read = append(all.took, t.took...), append(all.read, t.read...)
	}
	return all, err
}

func (l *load) play(ctx context.Context, caller int, began time.Time, lasts time.Duration, t *tally) error {
	p := l.people
	reader := p.reader(caller)
	for n := 0; time.Since(began) < lasts && !l.ended(); { // a story that began is told to its end: the next load finds the slot free
		round := p.round[caller]
		p.round[caller]++
		var hold, reservation string
		start := p.starts[round%len(p.starts)]
		for _, step := range script(p.customer(caller), p.groomer(caller), start, round, &hold, &reservation) {
			if l.rate > 0 {
				due := began.Add(time.Duration((float64(n*l.callers+caller) / l.rate) * float64(time.Second)))
				if err := until(ctx, due); err != nil {
					return err
				}
			}
			a := step()
			sent := time.Now()
			m, err := l.desk.do(ctx, a)
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			answered := time.Now()
			t.took = append(t.took, answered.Sub(sent))
			if answered.Sub(began) <= lasts {
				t.within++
			}
			p.visible.accepted(m, answered)
			if n++; l.readEvery > 0 && n%l.readEvery == 0 && reservation != "" {
				reader.seen = p.token(m)
				path := "/v1/reservations/" + reservation
				if m.topic == wire.ChatTopic {
					path = "/v1/chat/rooms/" + reservation + "/messages"
				}
				if _, err := reader.must(ctx, http.MethodGet, path, "", nil, nil); err != nil {
					return err
				}
				t.read = append(t.read, time.Since(answered))
			}
		}
	}
	return nil
}

func (l *load) ended() bool {
	select {
	case <-l.enough:
		return true
	default:
		return false
	}
}

func until(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
