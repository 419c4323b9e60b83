package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestAStreamGoesThroughTheFrontDoor follows a reservation through Nginx as it is deployed, with two nodes behind it: each event
// comes by itself, held back by nobody, and when either node ends the stream goes on at the other, with nothing missing or twice.
func TestAStreamGoesThroughTheFrontDoor(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	f := &fleet{cluster: realCluster(t), dir: t.TempDir()}
	f.prepare(t)
	rest, a, b := f.member(t, "rest", "commands", "relay", "projector"), f.member(t, "a", "readapi"), f.member(t, "b", "readapi")
	if err := os.Mkdir(filepath.Join(f.dir, "nginx"), 0o700); err != nil {
		t.Fatal(err)
	}
	upstreams := []string{"readapi-a:8080", a.url[len("http://"):], "readapi-b:8080", b.url[len("http://"):]}
	for _, role := range []string{"commands", "live", "admin"} { // nobody is there: only the streams go through it
		for _, n := range []string{"a", "b"} {
			upstreams = append(upstreams, role+"-"+n+":8080", harness.Address(t))
		}
	}
	f.nginx(t, upstreams)
	for _, m := range []*member{rest, a, b} {
		m.start(t)
	}
	for _, m := range []*member{rest, a, b} {
		m.ready(t)
	}
	store := f.openStore(t)
	w := newTown([]string{rest.url}, nil, f.mint(t))
	salon, customer := salons(1)[0], customersOf(1)[0]
	visit := book(t, w, rest.url, salon, customer)
	move := mover(t, w, rest.url, customer, visit)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r := newReader(f.front, w.bearer(customer))
	go r.follow(ctx, visit)
	hear := func(what string) {
		t.Helper()
		want := happened(t, store, salon, visit)
		if err := r.until(len(want)); err != nil {
			t.Fatalf("%s: told %v of %v: %v", what, r.told, want, err)
		}
	}
	hear("the beginning")
	for i := range 5 { // an event that waited for others to fill a buffer would wait for ever
		move()
		hear(fmt.Sprint("alone, ", i))
	}
	for i, ends := range []*member{a, b, a, b} { // it reads from one of them: two of these hit it, at least
		ends.end(t, i < 2) // later as a deployment does
		move()
		hear(ends.name + " is away")
		ends.start(t)
		ends.ready(t)
		move()
		hear(ends.name + " is back")
	}
	leave()
	for id := range r.news { // it is closed when the reader has left
		r.told = append(r.told, id)
	}
	if diff := cmp.Diff(happened(t, store, salon, visit), r.told); diff != "" {
		t.Errorf("(-store +told)\n%s", diff)
	}
	if r.connections < 3 {
		t.Errorf("only %d connections: no node that ended was the one that it read from", r.connections)
	}
	t.Logf("%d events in %d connections", len(r.told), r.connections)
	for _, m := range []*member{rest, a, b} {
		m.end(t, false)
	}
}
