package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/token"
)

// town is people who use a system and remember every answer. What they were told must be found in it at the end.
type town struct {
	writers, readers []string // addresses; anybody may go to any
	mint             func(who domain.Actor) string
	http             *http.Client

	mu       sync.Mutex
	deeds    []deed
	visits   map[string]*visit
	rooms    map[string][]post
	faults   []string // what must not have happened
	retries  int
	reads    int
	tokens   map[domain.Actor]string
	accepted int
}

// deed is a request that was settled: accepted, or refused for good.
type deed struct {
	who               domain.Actor
	name              string // of the command
	method, path, key string
	post              string // the client message ID of a chat message
	status            int
	code              string // of a refusal, "" when it was accepted
	body              string
	seen              token.Token
}

// visit is a reservation as its acknowledgements tell it.
type visit struct {
	id                string
	groomer, customer domain.Actor
	status            string            // by the answer with the highest revision
	latest            string            // that answer
	revision          uint64            // of it
	known             map[uint64]string // revision → what happened then
	seen              token.Token       // of all writes about it
}

// post is an acknowledged message.
type post struct {
	who            domain.Actor
	clientID, text string
	seq            uint64
	seen           token.Token
}

func newTown(writers, readers []string, mint func(domain.Actor) string) *town {
	return &town{
		writers: writers, readers: readers, mint: mint, visits: map[string]*visit{}, rooms: map[string][]post{}, tokens: map[domain.Actor]string{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 45 * time.Second},
	}
}

func (w *town) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// report fails the test for what must not have happened.
func (w *town) report(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, f := range w.faults {
		if i == 20 {
			t.Errorf("… and %d more", len(w.faults)-i)
			break
		}
		t.Error(f)
	}
	w.http.CloseIdleConnections()
}

func (w *town) acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accepted
}

// response is one answer.
type response struct {
	status int
	header http.Header
	body   string
}

func (r response) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(r.body), &p)
	return p.Code
}

// send sends one request; headers are pairs.
func (w *town) send(ctx context.Context, node string, who domain.Actor, method, path string, body any, headers ...string) (response, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return response{}, err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, node+path, content)
	if err != nil {
		return response{}, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if who.Role != "" {
		r.Header.Set("Authorization", "Bearer "+w.bearer(who))
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := w.http.Do(r)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, string(b)}, err
}

func (w *town) bearer(who domain.Actor) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tokens[who] == "" {
		w.tokens[who] = w.mint(who)
	}
	return w.tokens[who]
}

// person is somebody at work: one goroutine.
type person struct {
	*town
	who  domain.Actor
	rand *rand.Rand
	n    int // of requests, for their keys
}

func (p *person) key() string {
	p.n++
	return fmt.Sprintf("%s-%d", p.who.Subject(), p.n)
}

// patience is how long a request is repeated. A process that was killed is back long before.
const patience = 90 * time.Second

// settle sends a write until it is settled, to whichever node, always under the same key. Now and then it sends what
// was accepted once more: the answer must be the same.
func (p *person) settle(ctx context.Context, name, method, path string, body any) (deed, bool) {
	d := deed{who: p.who, method: method, path: path, key: p.key(), name: name}
	if post, ok := body.(commands.PostMessage); ok {
		d.post = post.ClientMessageID
	}
	return p.finish(ctx, d, body)
}

// finish sends a request that was begun until it is settled.
func (p *person) finish(ctx context.Context, d deed, body any) (deed, bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r, err := p.attempt(ctx, d, body)
		if ctx.Err() != nil {
			p.fault("%s %s of %s was not settled in %v: %v %d %s", d.method, d.path, p.who.Subject(), patience, err, r.status, r.body)
			return d, false
		}
		if err == nil && !p.again(r) {
			return p.settled(ctx, d, body, r), true
		}
		p.mu.Lock()
		p.retries++
		p.mu.Unlock()
		pause(ctx, 20*time.Millisecond)
	}
}

// attempt sends a write once, to whichever node.
func (p *person) attempt(ctx context.Context, d deed, body any) (response, error) {
	return p.send(ctx, p.writers[p.rand.IntN(len(p.writers))], p.who, d.method, d.path, body, "Idempotency-Key", d.key)
}

// again tells whether an answer leaves the request unsettled, and checks that it says so properly.
func (p *person) again(r response) bool {
	switch {
	case r.status >= 500:
		if r.status != http.StatusServiceUnavailable || r.code() == "" || r.header.Get("Retry-After") == "" {
			p.fault("an answer that does not help: %d %v %s", r.status, r.header, r.body)
		}
		return true
	case r.code() == "conflict.retry":
		return true
	}
	return false
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// possible are the refusals that this town's life can bring.
var possible = map[string]bool{
	"slot.taken": true, "slot.time_off": true, "reservation.wrong_state": true, "calendar.booked": true, "hold.used": true, "hold.expired": true,
	"hold.unknown": true, "hold.too_many": true, "request.too_many": true,
}

func (p *person) settled(ctx context.Context, d deed, body any, r response) deed {
	d.status, d.body = r.status, r.body
	if r.status >= 300 {
		d.code = r.code()
		if !possible[d.code] {
			p.fault("%s %s of %s: %d %s", d.method, d.path, p.who.Subject(), r.status, r.body)
		}
	} else {
		if tokens, err := token.Parse(r.header.Get("Consistency-Token")); err != nil || len(tokens) != 1 || len(tokens[0].Entries) != 1 {
			p.fault("%s %s answered the token %q", d.method, d.path, r.header.Get("Consistency-Token"))
		} else {
			d.seen = tokens[0]
		}
		if p.rand.IntN(8) == 0 {
			p.repeat(ctx, d, body)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deeds = append(p.deeds, d)
	if d.code == "" {
		p.accepted++
	}
	return d
}

// repeat sends an accepted request again: the same answer from any node, marked as such.
func (p *person) repeat(ctx context.Context, d deed, body any) {
	for ctx.Err() == nil {
		r, err := p.attempt(ctx, d, body)
		if err == nil && !p.again(r) {
			if r.status != d.status || r.body != d.body || r.header.Get("Idempotent-Replayed") != "true" {
				p.fault("%s %s answered twice:\n  %d %s\n  %d %s (replayed %q)", d.method, d.path, d.status, d.body, r.status, r.body, r.header.Get("Idempotent-Replayed"))
			}
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// get reads from whichever node until one has everything that the token asks for.
func (p *person) get(ctx context.Context, path string, seen token.Token) (response, bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r, err := p.glance(ctx, path, seen, "wait=30")
		if ctx.Err() != nil {
			p.fault("GET %s was not answered in %v: %v %d %s", path, patience, err, r.status, r.body)
			return r, false
		}
		if err == nil && !p.again(r) {
			return r, true
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// glance reads once.
func (p *person) glance(ctx context.Context, path string, seen token.Token, prefer string) (response, error) {
	node := p.readers[p.rand.IntN(len(p.readers))]
	r, err := p.send(ctx, node, p.who, http.MethodGet, path, nil, "Consistency-Token", seen.String(), "Prefer", prefer)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	return r, err
}

// command is the identity by which the store remembers the deed.
func (d deed) command() uuid.UUID {
	if d.post != "" {
		room := strings.TrimSuffix(strings.TrimPrefix(d.path, "/v1/chat/rooms/"), "/messages")
		return commands.PostMessageID(d.who, room, d.post)
	}
	return eventstore.CommandID(string(d.who.Role), d.who.ID, d.method, d.path, d.key)
}

// merge is a token that asks for both.
func merge(a, b token.Token) token.Token {
	both, err := token.Parse(a.String() + "," + b.String())
	if err != nil || len(both) != 1 { // too much, or of two lives of the store
		return b
	}
	return both[0]
}

// note remembers an acknowledged write about a reservation.
func (w *town) note(d deed, what ...string) *visit {
	var r struct {
		ID       string `json:"reservation_id"`
		Status   string `json:"status"`
		Groomer  string `json:"groomer_id"`
		Customer string `json:"customer_id"`
		Revision uint64 `json:"revision"`
	}
	if err := json.Unmarshal([]byte(d.body), &r); err != nil || r.ID == "" {
		w.fault("%s %s answered no reservation: %s", d.method, d.path, d.body)
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.visits[r.ID]
	if v == nil {
		v = &visit{
			id: r.ID, groomer: domain.Actor{ID: r.Groomer, Role: domain.Groomer}, customer: domain.Actor{ID: r.Customer, Role: domain.Customer},
			known: map[uint64]string{},
		}
		w.visits[r.ID] = v
	}
	for i, one := range what { // of several, the last is the one that the answer's revision names
		at := r.Revision - uint64(len(what)-1-i)
		if _, stands := v.known[at]; !stands || one != "rescheduled" { // moved to where it was: a success without an event
			v.known[at] = one
		}
	}
	if v.latest == "" || r.Revision > v.revision {
		v.latest, v.revision, v.status = d.body, r.Revision, r.Status
	}
	v.seen = merge(v.seen, d.seen)
	return v
}

// pick chooses one of the visits that fit.
func (p *person) pick(fits func(v *visit) bool) *visit {
	p.mu.Lock()
	defer p.mu.Unlock()
	var of []*visit
	for _, id := range slices.Sorted(maps.Keys(p.visits)) {
		if v := p.visits[id]; fits(v) {
			of = append(of, v)
		}
	}
	if len(of) == 0 {
		return nil
	}
	return of[p.rand.IntN(len(of))]
}
