package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/internal/token"
)

// outage is a running system whose servers can be taken away, and somebody who tries what works meanwhile. Others go on
// living all the time.
type outage struct {
	*person
	t       *testing.T
	town    *town
	booking int
	old     deed     // a reservation from before any outage
	begun   []func() // what is to be settled when the store is back
}

// TestServersMayGoAwayAndComeBack takes Kafka, Redis, MySQL and PostgreSQL away one after the other while people live
// on: refusing connections, as a server that ended does, or silent, as a host that is gone. Writes need PostgreSQL
// alone; reads answer from what is whole and say how far behind they are when a token asks for more; everything catches
// up by itself. At the end every acknowledged write is there, once.
func TestServersMayGoAwayAndComeBack(t *testing.T) {
	harness.NeedsServers(t)
	seed := newSeed(t)
	broker := harness.NewBroker(t)
	direct := newCluster(t, harness.Postgres(t), broker.Addr, "", harness.MySQL(t), harness.Redis(t))
	c := *direct
	var postgres, mysql, redis *harness.Proxy
	c.events, postgres = harness.Through(t, direct.events)
	c.reads, mysql = harness.Through(t, direct.reads)
	c.redis, redis = harness.Through(t, direct.redis)
	direct.prepare(t)
	front, back := c.member(t, "front", "commands", "readapi"), c.member(t, "back", "relay", "projector")
	front.start(t)
	back.start(t)
	front.ready(t)
	store, models := direct.openStore(t), direct.openModels(t)

	w := newTown([]string{front.url}, []string{front.url}, c.mint(t))
	groomers := salons(4)
	w.open(t.Context(), seed, groomers)
	quiet := domain.Actor{ID: "quiet", Role: domain.Groomer} // where nobody but the tester books
	w.open(t.Context(), seed+1, []domain.Actor{quiet})
	whole, done := context.WithCancel(t.Context())
	var living sync.WaitGroup
	living.Go(func() { w.live(whole, t.Context(), seed, 50*time.Millisecond, groomers, customersOf(4)) })
	o := &outage{t: t, town: w, person: &person{town: w, who: domain.Actor{ID: "tester", Role: domain.Customer}, rand: newRand(seed, 99)}}
	o.old = o.books()
	o.sees(o.old)

	for _, away := range []struct {
		what     string
		cut      func()
		meantime func(o *outage)
		restore  func()
	}{
		{"Kafka", broker.Close, (*outage).withoutKafka, func() { broker.Open(t) }},
		{"Redis", redis.Cut, (*outage).withoutRedis, func() { redis.Restore(t) }},
		{"Redis' memory", func() { models.redis.FlushDB(t.Context()) }, (*outage).withoutRedis, func() {}},
		{"MySQL", mysql.Cut, (*outage).withoutMySQL, func() { mysql.Restore(t) }},
		{"frozen Redis", redis.Freeze, (*outage).withoutRedis, redis.Thaw},
		{"frozen MySQL", mysql.Freeze, (*outage).withSilentMySQL, mysql.Thaw},
		{"PostgreSQL", postgres.Cut, (*outage).withoutPostgreSQL, func() { postgres.Restore(t) }},
	} {
		away.cut()
		began := time.Now()
		away.meantime(o)
		gone := time.Since(began)
		away.restore()
		began = time.Now()
		for _, finish := range o.begun {
			finish()
		}
		o.begun = nil
		o.sees(o.books())
		seen := time.Since(began)
		models.caughtUp(t, mustRead(t, store))
		t.Logf("%s was away for %.1f s: a new write is read %.1f s after its return, all caught up after %.1f s",
			away.what, gone.Seconds(), seen.Seconds(), time.Since(began).Seconds())
	}
	done()
	living.Wait()
	h := mustRead(t, store)
	models.caughtUp(t, h)
	fail(t, "answers", w.answers(t.Context(), seed))
	w.report(t)
	fail(t, "store", h.numbered())
	fail(t, "store", h.once(w.deeds, commandsOf(t, store)))
	fail(t, "bookings", h.apart())
	fail(t, "chat", h.said(w.rooms))
	fail(t, "log", must(logged(t.Context(), c.kafka, c.prefix, clusterPartitions, h))(t))
	fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
	t.Logf("%d writes acknowledged, %d refused, %d sent again, %d reads", w.acknowledged(), len(w.deeds)-w.acknowledged(), w.retries, w.reads)
	front.end(t, false)
	back.end(t, false)
}

func (o *outage) body() map[string]any {
	o.booking++
	start := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 3+o.booking/8).Add(time.Duration(o.booking%8) * time.Hour)
	return map[string]any{
		"groomer_id": "quiet", "start": start, "mode": "shop", "dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
	}
}

// books makes a reservation, however long it takes.
func (o *outage) books() deed {
	d, ok := o.settle(o.t.Context(), "reserve", http.MethodPost, "/v1/reservations", o.body())
	if !ok || d.code != "" {
		o.t.Fatalf("not booked: %d %s", d.status, d.body)
	}
	o.note(d, "requested", "confirmed")
	return d
}

// booksAtOnce makes one without a second try.
func (o *outage) booksAtOnce() deed {
	o.t.Helper()
	d := deed{who: o.who, name: "reserve", method: http.MethodPost, path: "/v1/reservations", key: o.key()}
	body := o.body()
	began := time.Now()
	r, err := o.attempt(o.t.Context(), d, body)
	if err != nil || r.status != http.StatusCreated {
		o.t.Fatalf("a write while the read side is in trouble: %v %d %s", err, r.status, r.body)
	}
	if took := time.Since(began); took > 2*time.Second {
		o.t.Errorf("a write took %v", took)
	}
	d = o.settled(o.t.Context(), d, body, r)
	o.note(d, "requested", "confirmed")
	return d
}

func (d deed) reservation() string {
	var r struct {
		ID string `json:"reservation_id"`
	}
	_ = json.Unmarshal([]byte(d.body), &r)
	return r.ID
}

// sees reads a write back.
func (o *outage) sees(d deed) {
	o.t.Helper()
	if r, ok := o.get(o.t.Context(), "/v1/reservations/"+d.reservation(), d.seen); !ok || r.body != d.body {
		o.t.Errorf("told %s\nread %d %s", d.body, r.status, r.body)
	}
}

// reads reads once, without a token unless given, and wants the status.
func (o *outage) reads(path string, status int, tokens ...token.Token) response {
	o.t.Helper()
	var seen token.Token
	for _, one := range tokens {
		seen = one
	}
	began := time.Now()
	r, err := o.glance(o.t.Context(), path, seen, "wait=1")
	if err != nil || r.status != status {
		o.t.Errorf("GET %s: %v %d %s, want %d", path, err, r.status, r.body, status)
	}
	if took := time.Since(began); took > 8*time.Second { // a second for the token, five for a server that says nothing
		o.t.Errorf("GET %s took %v to answer %d", path, took, r.status)
	}
	if err == nil && r.status == http.StatusServiceUnavailable && path != "/readyz" {
		o.again(r) // it says why and when to come again
	}
	return r
}

const quietSlots = "/v1/groomers/quiet/slots?services=bath&size=small"

// withoutKafka: nothing new reaches the read models.
func (o *outage) withoutKafka() {
	d := o.booksAtOnce()
	path := "/v1/reservations/" + d.reservation()
	o.reads("/v1/reservations/"+o.old.reservation(), http.StatusOK)
	o.reads("/v1/reservations/"+o.old.reservation(), http.StatusOK, o.old.seen)
	o.reads(quietSlots, http.StatusOK)
	o.reads(path, http.StatusNotFound) // without a token: as it is
	for _, p := range []string{path, quietSlots} {
		r := o.reads(p, http.StatusServiceUnavailable, d.seen)
		// A partition that Kafka left before it had brought anything says that instead of how far behind it is.
		if r.code() != "read_model.behind" || !strings.Contains(r.body, "before the one asked for") && !strings.Contains(r.body, "has read nothing") {
			o.t.Errorf("GET %s with a token that cannot be met: %s", p, r.body)
		}
	}
	o.goesOn(o.t, 100)
	o.reads("/readyz", http.StatusOK)
}

// withoutRedis: the tables behind the views answer.
func (o *outage) withoutRedis() {
	d := o.booksAtOnce()
	o.reads(quietSlots, http.StatusOK)
	o.sees(d)
	o.reads(quietSlots, http.StatusOK, d.seen)
	o.reads("/v1/chat/rooms/"+d.reservation()+"/messages", http.StatusOK, d.seen)
	o.goesOn(o.t, 100)
	o.reads("/readyz", http.StatusOK)
}

// withoutMySQL: the views answer what they have, the rest says so.
func (o *outage) withoutMySQL() {
	d := o.booksAtOnce()
	for _, path := range []string{"/v1/reservations", "/v1/reservations/" + o.old.reservation(), "/v1/groomers", "/v1/chat/rooms"} {
		if r := o.reads(path, http.StatusServiceUnavailable); r.code() != "read_model.unavailable" {
			o.t.Errorf("GET %s without MySQL: %s", path, r.body)
		}
	}
	o.reads(quietSlots, http.StatusOK)
	if r, ok := o.get(o.t.Context(), quietSlots, d.seen); !ok || r.status != http.StatusOK { // from Redis, as soon as that has it
		o.t.Errorf("free slots of the view, with a token: %d %s", r.status, r.body)
	}
	o.goesOn(o.t, 100)
	o.reads("/readyz", http.StatusOK)
}

// withSilentMySQL: it takes a while to find out.
func (o *outage) withSilentMySQL() {
	o.booksAtOnce()
	if r := o.reads("/v1/reservations/"+o.old.reservation(), http.StatusServiceUnavailable); r.code() != "read_model.unavailable" {
		o.t.Errorf("a read of a silent MySQL: %s", r.body)
	}
	o.reads(quietSlots, http.StatusOK)
	o.goesOn(o.t, 25)
}

// withoutPostgreSQL: nothing can be written; what is written can be read as long as the persons' keys are known.
func (o *outage) withoutPostgreSQL() {
	for range 3 {
		d := deed{who: o.who, name: "hold_slot", method: http.MethodPost, path: "/v1/holds", key: o.key()}
		body := o.body()
		r, err := o.attempt(o.t.Context(), d, body)
		if err != nil || r.status != http.StatusServiceUnavailable || r.code() != "store.unavailable" && r.code() != "outcome.unknown" {
			o.t.Errorf("a write without the store: %v %d %s", err, r.status, r.body)
		}
		o.again(r)
		o.begun = append(o.begun, func() { o.finish(o.t.Context(), d, body) })
	}
	o.reads("/v1/reservations/"+o.old.reservation(), http.StatusOK)
	o.reads(quietSlots, http.StatusOK)
	o.reads("/v1/groomers", http.StatusOK)
	o.isRefused(20)
	if r := o.reads("/readyz", http.StatusServiceUnavailable); !strings.Contains(r.body, "event store") {
		o.t.Errorf("/readyz without the store: %s", r.body)
	}
}

// isRefused waits until people had to send writes again n more times.
func (o *outage) isRefused(n int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	count := func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.retries
	}
	for until := count() + n; count() < until; {
		<-tick.C
	}
}
