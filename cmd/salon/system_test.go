package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
)

func newRand(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }

// newSeed is a seed that the test prints: what people do follows from it, though not what the machine makes of it.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return seed
}

func (c *cluster) mint(t *testing.T) func(domain.Actor) string {
	return func(who domain.Actor) string {
		token, err := c.key.Mint(who.ID, string(who.Role), time.Hour)
		if err != nil {
			t.Error(err)
		}
		return token
	}
}

// openStore opens the cluster's event store beside its processes.
func (c *cluster) openStore(t *testing.T) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: c.events})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (c *cluster) openModels(t *testing.T) models {
	t.Helper()
	db, err := reads.Open(t.Context(), c.reads)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	client, err := newRedis(c.redis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return models{db, client, clusterPartitions}
}

func mustRead(t *testing.T, store eventstore.Store) past {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		h, err := readPast(t.Context(), store)
		if err == nil {
			return h
		}
		if !errors.Is(err, eventstore.ErrUnavailable) { // a connection of ours to a server that was killed
			t.Fatal(err)
		}
		select {
		case <-limit:
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestTheWholeWaySurvivesTheRestartOfEachProcess books, chats, moves and cancels on real servers while each of eight
// processes is restarted in turn, one of each role by kill -9, those that answer HTTP several times, and then all at
// once. At the end every acknowledged write is there, once: in what people read, in the store, in the log, in every row
// of MySQL and in the Redis views.
func TestTheWholeWaySurvivesTheRestartOfEachProcess(t *testing.T) {
	harness.NeedsServers(t)
	seed := newSeed(t)
	dice := newRand(seed, 0)
	c := realCluster(t)
	c.prepare(t)
	var members []*member
	for _, role := range []string{"commands", "readapi", "projector", "relay"} {
		for _, n := range []string{"1", "2"} {
			m := c.member(t, role+" "+n, role)
			m.start(t)
			members = append(members, m)
		}
	}
	for _, m := range members {
		m.ready(t)
	}
	store, models := c.openStore(t), c.openModels(t)

	w := newTown([]string{members[0].url, members[1].url}, []string{members[2].url, members[3].url}, c.mint(t))
	groomers := salons(4)
	w.open(t.Context(), seed, groomers)
	models.caughtUp(t, mustRead(t, store))

	restarting, done := context.WithCancel(t.Context())
	var living sync.WaitGroup
	living.Go(func() { w.live(restarting, t.Context(), seed, 50*time.Millisecond, groomers, customersOf(6)) })
	began := time.Now()
	for _, m := range inTurn(dice, members) {
		m.restart(t, w, func() { models.caughtUp(t, mustRead(t, store)) })
		t.Logf("%5.1f s: %s was restarted (%s), %d writes acknowledged", time.Since(began).Seconds(), m.name, m.how(), w.acknowledged())
	}
	for _, m := range members {
		m.process.Kill()
	}
	for _, m := range members {
		m.start(t)
	}
	for _, m := range members {
		m.ready(t)
	}
	w.goesOn(t, 25)
	models.caughtUp(t, mustRead(t, store))
	t.Logf("%5.1f s: all were restarted (kill -9), %d writes acknowledged", time.Since(began).Seconds(), w.acknowledged())
	done()
	living.Wait()

	h := mustRead(t, store)
	models.caughtUp(t, h)
	t.Logf("%5.1f s: %d writes acknowledged, %d refused, %d sent again, %d reads; %d events, %d reservations, %d rooms",
		time.Since(began).Seconds(), w.acknowledged(), len(w.deeds)-w.acknowledged(), w.retries, w.reads, len(h.recorded), len(w.visits), len(w.rooms))
	w.report(t)
	if w.acknowledged() < 500 || len(w.visits) < 50 || len(w.rooms) < 20 {
		t.Error("too little happened to show anything")
	}
	fail(t, "answers", w.answers(t.Context(), seed))
	fail(t, "store", h.numbered())
	fail(t, "store", h.once(w.deeds, commandsOf(t, store)))
	fail(t, "bookings", h.apart())
	fail(t, "chat", h.said(w.rooms))
	fail(t, "log", must(logged(t.Context(), c.kafka, c.prefix, clusterPartitions, h))(t))
	fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
	w.report(t)
	t.Logf("%5.1f s: everything compared", time.Since(began).Seconds())

	for _, m := range members {
		m.end(t, false)
	}
	t.Run("MariaDB", func(t *testing.T) { c.onMariaDB(t, h) })
	t.Logf("%5.1f s: projected into MariaDB as well", time.Since(began).Seconds())
	t.Run("the comparisons can fail", func(t *testing.T) { plants(t, c, w, h, models, commandsOf(t, store)) })
}

// onMariaDB lets a projector bring an empty MariaDB and an empty cache up from the same log.
func (c *cluster) onMariaDB(t *testing.T, h past) {
	other := *c
	other.reads, other.redis = harness.MariaDB(t), harness.Redis(t)
	other.prepare(t)
	p := other.member(t, "projector on MariaDB", "projector")
	p.start(t)
	m := other.openModels(t)
	m.caughtUp(t, h)
	fail(t, "read models", must(m.equalFold(t.Context(), h))(t))
	p.end(t, false)
}

func commandsOf(t *testing.T, store eventstore.Store) finder {
	return func(id uuid.UUID) (eventstore.Command, bool, error) { return store.Command(t.Context(), id) }
}

func must(wrong []string, err error) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return wrong
	}
}

// turn is a member and how it ends.
type turn struct {
	*member
	crash bool
}

func (m turn) how() string {
	if m.crash {
		return "kill -9"
	}
	return "SIGTERM"
}

// inTurn is the order of the restarts: of each role's two processes one crashes, whichever. Of two relays it is the one
// that leads, of whose death the other has to notice.
func inTurn(dice *rand.Rand, members []*member) []turn {
	var turns []turn
	for i := 0; i < len(members); i += 2 {
		first := dice.IntN(2)
		turns = append(turns, turn{members[i+first], true}, turn{members[i+1-first], false})
	}
	for i := 6; i < len(turns); i++ {
		turns[i].crash = strings.Contains(turns[i].process.Output(), "relay leads")
	}
	for range 2 {
		turns = append(turns, turns[:4]...) // cheap, and each time something else is under way
	}
	dice.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	return turns
}

// restart ends a process, sees that life goes on without it, and starts it again.
func (m turn) restart(t *testing.T, w *town, caughtUp func()) {
	t.Helper()
	m.end(t, m.crash)
	w.goesOn(t, 25)
	if m.url == "" {
		caughtUp() // the other one has taken over
	}
	m.start(t)
	m.ready(t)
}

// goesOn waits until n more writes were acknowledged.
func (w *town) goesOn(t *testing.T, n int) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for until := w.acknowledged() + n; w.acknowledged() < until; {
		select {
		case <-limit:
			t.Fatalf("%d writes were not acknowledged in a minute", n)
		case <-tick.C:
		}
	}
}
