package main

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/internal/harness"
)

// TestTheWholeWayRunsOnEventStoreDB lets people book, chat, move and cancel on two processes that keep the events in
// EventStoreDB, while each process is killed and started again, the server too, and while answers are lost. Every
// acknowledged write is there, once, and where its token says: in the store, in the log, in every row and view.
func TestTheWholeWayRunsOnEventStoreDB(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	seed := newSeed(t)
	server := esdbtest.New(t)
	kafka, prefix := harness.Kafka(t)
	c := newCluster(t, server.URL(), kafka, prefix, harness.MySQL(t), harness.Redis(t))
	c.prepare(t)
	if got := call(t, append([]string{"migrate", "up"}, c.databases()...)...); got.code != 0 || !strings.Contains(got.out, "EventStoreDB has no schema") {
		t.Errorf("migrate up: exit %d, %s%s", got.code, got.out, got.err)
	}
	if got := call(t, append([]string{"migrate", "status"}, c.databases()...)...); got.code != 0 || strings.Contains(got.out, "events") {
		t.Errorf("migrate status: exit %d, %s%s", got.code, got.out, got.err)
	}
	var members []*member
	for _, n := range []string{"1", "2"} {
		m := c.member(t, "all "+n, "commands", "readapi", "relay", "projector")
		m.start(t)
		members = append(members, m)
	}
	for _, m := range members {
		m.ready(t)
	}
	store, err := esdb.Open(t.Context(), esdb.Config{URL: c.events})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	models := c.openModels(t)
	past := func() past {
		h := mustRead(t, store)
		h.sparse = true
		return h
	}

	urls := []string{members[0].url, members[1].url}
	w := newTown(urls, urls, c.mint(t))
	groomers := salons(3)
	w.open(t.Context(), seed, groomers)
	living, done := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { w.live(living, t.Context(), seed, 50*time.Millisecond, groomers, customersOf(4)) })
	for _, m := range members {
		w.goesOn(t, 25)
		m.end(t, true)
		w.goesOn(t, 25)
		m.start(t)
		m.ready(t)
	}
	server.Stop()
	server.Start(t)
	w.goesOn(t, 25)
	for n := range 20 {
		var lost atomic.Bool
		server.Intercept(func(_ context.Context, s esdbtest.Step) error {
			if s.Done != (n%2 == 0) || strings.HasPrefix(s.Stream, "command-") != (n%4 > 1) || lost.Swap(true) {
				return nil
			}
			return esdbtest.ErrDrop
		})
		w.goesOn(t, 3)
	}
	server.Intercept(nil)
	done()
	all.Wait()

	h := past()
	models.caughtUp(t, h)
	t.Logf("%d writes acknowledged, %d refused, %d sent again, %d reads; %d events, %d reservations, %d rooms",
		w.acknowledged(), len(w.deeds)-w.acknowledged(), w.retries, w.reads, len(h.recorded), len(w.visits), len(w.rooms))
	fail(t, "answers", w.answers(t.Context(), seed))
	fail(t, "store", h.numbered())
	fail(t, "store", h.once(w.deeds, commandsOf(t, store)))
	fail(t, "bookings", h.apart())
	fail(t, "chat", h.said(w.rooms))
	fail(t, "log", must(logged(t.Context(), c.kafka, c.prefix, clusterPartitions, h))(t))
	fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
	w.report(t)
	if got := call(t, append(append([]string{"doctor", "--limit", "15s", "--full", "--redis", c.redis}, c.databases()...), c.topics()...)...); got.code != 0 || !strings.Contains(got.out, "head at position") {
		t.Errorf("doctor: exit %d\n%s%s", got.code, got.out, got.err)
	}
	for _, m := range members {
		m.end(t, false)
	}
}
