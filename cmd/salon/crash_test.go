package main

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
)

// TestKillingTheOneProcessLosesNothing crashes `salon up` at random moments under load, while it starts too, and starts
// it again on the same folder. Every acknowledged write is there, once.
func TestKillingTheOneProcessLosesNothing(t *testing.T) {
	t.Parallel()
	rounds := 25
	if testing.Short() {
		rounds = 3
	}
	seed := newSeed(t)
	dice := newRand(seed, 0)
	data, address := filepath.Join(t.TempDir(), "data"), harness.Address(t)
	url := "http://" + address
	up := func() *harness.Process {
		return harness.Start(t, nil, "up", "--data", data, "--listen", address, "--rate-limit", "0", "--post-rate", "0")
	}
	p := up()
	p.Ready(t, url)
	key, err := auth.LoadKeyFile(filepath.Join(data, authKeyName))
	if err != nil {
		t.Fatal(err)
	}
	w := newTown([]string{url}, []string{url}, func(who domain.Actor) string {
		token, err := key.Mint(who.ID, string(who.Role), time.Hour)
		if err != nil {
			t.Error(err)
		}
		return token
	})
	groomers := salons(4)
	w.open(t.Context(), seed, groomers)

	crashing, done := context.WithCancel(t.Context())
	var living sync.WaitGroup
	living.Go(func() { w.live(crashing, t.Context(), seed, 2*time.Millisecond, groomers, customersOf(6)) })
	for round := range rounds {
		w.goesOn(t, 20+dice.IntN(150))
		p.Kill()
		if round%2 == 1 { // and once more, before it has come up
			p = up()
			pause(t.Context(), time.Duration(dice.IntN(60))*time.Millisecond)
			p.Kill()
		}
		began := time.Now()
		p = up()
		p.Ready(t, url)
		t.Logf("round %d: %d writes acknowledged; ready %v after exec", round, w.acknowledged(), time.Since(began).Round(time.Millisecond))
	}
	w.goesOn(t, 50)
	done()
	living.Wait()
	fail(t, "answers", w.answers(t.Context(), seed))
	w.report(t)
	if code := p.Stop(t); code != 0 {
		t.Errorf("stopped with exit code %d", code)
	}

	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(data, eventsName)})
	if err != nil {
		t.Fatal(err)
	}
	h := mustRead(t, store)
	fail(t, "store", h.numbered())
	fail(t, "store", h.once(w.deeds, commandsOf(t, store)))
	fail(t, "bookings", h.apart())
	fail(t, "chat", h.said(w.rooms))
	if err := store.Close(); err != nil {
		t.Error(err)
	}

	p = up() // what it had not projected when it was stopped, it projects now
	db, err := reads.Open(t.Context(), "sqlite:"+filepath.Join(data, readsName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m := models{db: db, partitions: embeddedPartitions}
	m.caughtUp(t, h)
	fail(t, "read models", must(m.equalFold(t.Context(), h))(t))
	p.Stop(t)
	t.Logf("%d writes acknowledged, %d refused, %d sent again, %d reads; %d events, %d reservations, %d rooms",
		w.acknowledged(), len(w.deeds)-w.acknowledged(), w.retries, w.reads, len(h.recorded), len(w.visits), len(w.rooms))
}
