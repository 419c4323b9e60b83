package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
)

// TestAStreamOutlivesItsProjector follows a reservation, by its customer and its salon, while the projector is killed and
// the node that they read from is killed and restarted, and the visit is moved all the while. What each was told is the
// reservation's events in the store: none missing, none twice.
func TestAStreamOutlivesItsProjector(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	c.prepare(t)
	desk, node, projector := c.member(t, "commands", "commands", "relay"), c.member(t, "readapi", "readapi"), c.member(t, "projector", "projector")
	all := []*member{desk, node, projector}
	for _, m := range all {
		m.start(t)
	}
	for _, m := range all {
		m.ready(t)
	}
	store := c.openStore(t)
	w := newTown([]string{desk.url}, nil, c.mint(t))
	salon, customer := salons(1)[0], customersOf(1)[0]
	visit := book(t, w, desk.url, salon, customer)
	move := mover(t, w, desk.url, customer, visit)

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	readers := []*reader{newReader(node.url, w.bearer(customer)), newReader(node.url, w.bearer(salon))}
	for _, r := range readers {
		go r.follow(ctx, visit)
	}
	hear := func() {
		t.Helper()
		want := happened(t, store, salon, visit)
		for n, r := range readers {
			if err := r.until(len(want)); err != nil {
				t.Fatalf("reader %d was told %v of %v: %v", n, r.told, want, err)
			}
		}
	}
	hear()
	for round, hurt := range []*member{projector, node, projector, node} {
		for range 5 {
			move()
		}
		hurt.end(t, round < 3) // once as a deployment does
		for range 5 {
			move()
		}
		hurt.start(t)
		hurt.ready(t)
		for range 5 {
			move()
		}
		hear()
		t.Logf("the %s was away", hurt.name)
	}
	leave()
	want := happened(t, store, salon, visit)
	for n, r := range readers {
		for id := range r.news { // it is closed when the reader has left
			r.told = append(r.told, id)
		}
		if diff := cmp.Diff(want, r.told); diff != "" {
			t.Errorf("reader %d (-store +told)\n%s", n, diff)
		}
	}
	t.Logf("%d changes, in %d and %d connections", len(want), readers[0].connections, readers[1].connections)
	for _, m := range all {
		m.end(t, false)
	}
}

// happened is the revisions of a reservation's events.
func happened(t *testing.T, store eventstore.Store, salon domain.Actor, visit string) (out []string) {
	t.Helper()
	for r, err := range store.ReadStream(t.Context(), eventstore.GroomerStream(salon.ID), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(r.Type, "reservation.") && strings.Contains(string(r.Data), visit) {
			out = append(out, fmt.Sprint(r.Revision))
		}
	}
	return out
}

// reader follows a stream of Server-Sent Events as a browser does: it comes again with the last id that it was told.
type reader struct {
	node, bearer string
	news         chan string // ids, in the order in which they came
	connections  int

	told []string // of news; the test's
}

func newReader(node, bearer string) *reader {
	return &reader{node: node, bearer: bearer, news: make(chan string, 1000)}
}

// follow comes again until ctx ends, and closes news then.
func (r *reader) follow(ctx context.Context, visit string) {
	defer close(r.news)
	for last := ""; ctx.Err() == nil; {
		last = r.listen(ctx, visit, last)
		pause(ctx, 50*time.Millisecond)
	}
}

// listen is one connection. It answers the last id that it was told.
func (r *reader) listen(ctx context.Context, visit, last string) string {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, r.node+"/v1/reservations/"+visit+"/events", nil)
	if err != nil {
		return last
	}
	ask.Header.Set("Authorization", "Bearer "+r.bearer)
	if last != "" {
		ask.Header.Set("Last-Event-ID", last)
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return last
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return last // the read model may not have the reservation yet
	}
	r.connections++
	id := ""
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ": "); name == "id" {
			id = value
		} else if lines.Text() == "" && id != "" { // the event is whole
			last, id = id, ""
			r.news <- last
		}
	}
	return last
}

// until waits until so many events were told.
func (r *reader) until(n int) error {
	patience := time.After(time.Minute)
	for len(r.told) < n {
		select {
		case id := <-r.news:
			r.told = append(r.told, id)
		case <-patience:
			return context.DeadlineExceeded
		}
	}
	return nil
}

// mover answers what moves a visit to another time, at each call.
func mover(t *testing.T, w *town, url string, who domain.Actor, visit string) func() {
	t.Helper()
	moves := 0
	return func() {
		t.Helper()
		moves++
		r, err := w.send(t.Context(), url, who, http.MethodPost, "/v1/reservations/"+visit+"/reschedule",
			map[string]any{"start": noonIn(3).Add(time.Duration(moves%8) * 30 * time.Minute)}, "Idempotency-Key", fmt.Sprint("move ", moves))
		if err != nil || r.status != http.StatusOK {
			t.Fatalf("move %d: %d %s, %v", moves, r.status, r.body, err)
		}
	}
}
