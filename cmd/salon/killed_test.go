package main

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
)

// TestTheRealProjectionsSurviveTheDeathOfServers kills PostgreSQL, MariaDB and the broker that leads, empties Redis, and
// kills and freezes the binary's own processes, while people live on. At the end every acknowledged write is there,
// once, and every row of every projection is what the fold says. What projections/faulttest does a thousand times to a
// projection of its own, this does to ours.
func TestTheRealProjectionsSurviveTheDeathOfServers(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	seed := newSeed(t)
	dice := newRand(seed, 0)
	kafka, postgres, mariadb := harness.NewKafka(t, 3), harness.NewPostgres(t), harness.NewMariaDB(t)
	c := newCluster(t, postgres.Database(t), strings.Join(kafka.Addrs(), ","), "", mariadb.Database(t), harness.Redis(t))
	topics := relay.Topics{Brokers: kafka.Addrs(), Partitions: clusterPartitions, Replication: 3}
	if err := topics.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.prepare(t)
	roles := []string{"commands", "commands", "readapi", "projector", "projector", "relay", "relay"}
	of := map[string][]*member{}
	var members []*member
	for _, role := range roles {
		m := c.member(t, role, role)
		m.start(t)
		members, of[role] = append(members, m), append(of[role], m)
	}
	for _, m := range members {
		m.ready(t)
	}
	store, models := c.openStore(t), c.openModels(t)
	w := newTown([]string{of["commands"][0].url, of["commands"][1].url}, []string{of["readapi"][0].url}, c.mint(t))
	groomers := salons(4)
	w.open(t.Context(), seed, groomers)
	models.caughtUp(t, mustRead(t, store))
	living, done := context.WithCancel(t.Context())
	var town sync.WaitGroup
	town.Go(func() { w.live(living, t.Context(), seed, 50*time.Millisecond, groomers, customersOf(6)) })

	again := func(role string) func() {
		return func() {
			m := of[role][dice.IntN(len(of[role]))]
			m.process.Kill()
			m.start(t)
			m.ready(t)
		}
	}
	frozen := func(role string) func() {
		return func() {
			m := of[role][dice.IntN(len(of[role]))]
			if err := m.process.Signal(syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
			pause(t.Context(), 12*time.Second) // past the session: somebody else has what it had
			if err := m.process.Signal(syscall.SIGCONT); err != nil {
				t.Error(err)
			}
		}
	}
	faults := []struct {
		name string
		hurt func()
	}{
		{"PostgreSQL killed", func() { postgres.Kill(t); postgres.Start(t) }},
		{"MariaDB killed", func() { mariadb.Kill(); mariadb.Start(t) }},
		{"broker killed", func() {
			b := kafka.Leader(t, wire.BookingTopic, int32(dice.IntN(clusterPartitions))) //nolint:gosec // a partition
			b.Kill()
			b.Start(t)
			kafka.InSync(t)
		}},
		{"Redis emptied", func() { models.redis.FlushDB(t.Context()) }},
		{"commands killed", again("commands")},
		{"projector killed", again("projector")},
		{"relay killed", again("relay")},
		{"projector frozen", frozen("projector")},
		{"relay frozen", frozen("relay")},
	}
	dice.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for _, f := range faults {
		f.hurt()
		began := time.Now()
		w.goesOn(t, 25)
		models.caughtUp(t, mustRead(t, store))
		t.Logf("%s: all caught up after %.1f s", f.name, time.Since(began).Seconds())
	}
	done()
	town.Wait()
	h := mustRead(t, store)
	models.caughtUp(t, h)
	w.report(t)
	fail(t, "store", h.numbered())
	fail(t, "store", h.once(w.deeds, commandsOf(t, store)))
	fail(t, "bookings", h.apart())
	fail(t, "chat", h.said(w.rooms))
	fail(t, "log", must(logged(t.Context(), c.kafka, c.prefix, clusterPartitions, h))(t))
	fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
	t.Logf("%d writes acknowledged, %d refused, %d sent again; %d events", w.acknowledged(), len(w.deeds)-w.acknowledged(), w.retries, len(h.recorded))
	for _, m := range members {
		m.end(t, false)
	}
}
