package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// An operator moves reads of reservations between its two versions while people book, move, cancel, chat and read what
// they wrote: each is built from the store while projectors are killed, verified, served from and gone back from, a row
// that somebody changed by hand is found and named, and twenty switches follow. Nobody is answered less than was
// acknowledged, and at the end every row of both is the fold of the store.
func TestAVersionIsRebuiltVerifiedAndSwitchedUnderLoad(t *testing.T) {
	harness.NeedsServers(t)
	for name, url := range map[string]func(testing.TB) string{"mysql": harness.MySQL, "mariadb": harness.MariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kafka, prefix := harness.Kafka(t)
			seed := newSeed(t)
			o := &operator{cluster: newCluster(t, harness.Postgres(t), kafka, prefix, url(t), harness.Redis(t)), dice: newRand(seed, 0)}
			o.prepare(t)
			writer, reader := o.member(t, "commands", "commands"), o.member(t, "readapi", "readapi")
			o.projectors = []*member{o.member(t, "projector 1", "projector"), o.member(t, "projector 2", "projector")}
			for _, m := range append([]*member{writer, reader, o.member(t, "relay", "relay")}, o.projectors...) {
				m.start(t)
				m.ready(t)
			}
			store, models := o.openStore(t), o.openModels(t)
			w := newTown([]string{writer.url}, []string{reader.url}, o.mint(t))
			groomers := salons(4)
			w.open(t.Context(), seed, groomers)
			models.caughtUp(t, mustRead(t, store))
			living, done := context.WithCancel(t.Context())
			var life sync.WaitGroup
			life.Go(func() { w.live(living, t.Context(), seed, 50*time.Millisecond, groomers, customersOf(6)) })
			w.goesOn(t, 50)

			// As before an upgrade: version 1 serves, and version 2 is not there.
			o.killedMeanwhile(t, "rebuild", "reservations@1", "--max-rate", "10")
			o.does(t, "verify", "reservations@1")
			o.does(t, "switch", "reservations@1")
			o.does(t, "drop", "reservations@2", "--confirm", "reservations_v2")
			w.goesOn(t, 25)

			o.refused(t, "not live", "switch", "reservations")
			o.killedMeanwhile(t, "rebuild", "reservations", "--max-rate", "150")
			o.refused(t, "not verified", "switch", "reservations")
			row := o.changesARow(t, models.db)
			if said := o.fails(t, "verify", "reservations"); !strings.Contains(said, "reservations "+row+" ") || !strings.Contains(said, "1 rows differ") {
				t.Errorf("%s was changed by hand; verify says\n%s", row, said)
			}
			o.refused(t, "not verified, or differs", "switch", "reservations")
			if said := o.fails(t, "verify", "reservations@2", "--fresh"); !strings.Contains(said, "reservations "+row+" (key ") || !strings.Contains(said, "1 rows differ") {
				t.Errorf("%s was changed by hand; verify --fresh says\n%s", row, said)
			}
			groomer, _, _ := strings.Cut(row, ".")
			o.does(t, "rebuild", "reservations@2", "--key", groomer)
			o.does(t, "verify", "reservations@2", "--fresh")
			o.does(t, "drop", "reservations@2", "--confirm", "reservations_v2")
			o.does(t, "rebuild", "reservations")
			o.does(t, "verify", "reservations")
			o.does(t, "switch", "reservations")
			w.goesOn(t, 25)
			o.does(t, "rollback", "reservations")
			w.goesOn(t, 25)
			for range 20 {
				o.does(t, "rollback", "reservations") // there, and back again
				w.goesOn(t, 2)
			}
			o.does(t, "rollback", "reservations")
			done()
			life.Wait()
			w.report(t)

			h := mustRead(t, store)
			models.caughtUp(t, h)
			t.Logf("%d writes acknowledged, %d reads, %d events; projectors were killed %d times", w.acknowledged(), w.reads, len(h.recorded), o.kills)
			fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
			o.does(t, "verify", "reservations@1")
			for _, v := range reservations.Projection().Versions() {
				o.does(t, "verify", fmt.Sprintf("reservations@%d", v.Version), "--fresh")
			}
			o.does(t, "drop", "reservations@1", "--confirm", "reservations_v1")
			w.report(t)
		})
	}
}

// operator is somebody with the command line.
type operator struct {
	*cluster
	dice       *rand.Rand
	projectors []*member
	kills      int
}

// asks runs a verb to its end.
func (o *operator) asks(t *testing.T, verb ...string) called {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args := slices.Concat([]string{"projections"}, verb, o.databases(), o.topics(), []string{"--redis", o.redis})
	var out, errs bytes.Buffer
	code := run(ctx, args, &out, &errs)
	return called{code, out.String(), errs.String()}
}

func (o *operator) does(t *testing.T, verb ...string) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		got := o.asks(t, verb...)
		if got.code == 0 {
			return
		}
		// What a killed projector had comes to another when its session is over.
		if !strings.Contains(got.err, " lags: ") {
			t.Fatalf("%v: exit %d\n%s%s", verb, got.code, got.out, got.err)
		}
		select {
		case <-limit:
			t.Fatalf("%v: for a minute\n%s", verb, got.err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (o *operator) refused(t *testing.T, says string, verb ...string) {
	t.Helper()
	o.asks(t, verb...).refused(t, 1, says)
}

// fails runs a verb that finds something, and tells what it said.
func (o *operator) fails(t *testing.T, verb ...string) string {
	t.Helper()
	got := o.asks(t, verb...)
	if got.code != 1 {
		t.Fatalf("%v: exit %d\n%s%s", verb, got.code, got.out, got.err)
	}
	return got.out
}

// killedMeanwhile runs a verb while now one projector is killed and now the other.
func (o *operator) killedMeanwhile(t *testing.T, verb ...string) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if got := o.asks(t, verb...); got.code != 0 {
			t.Errorf("%v: exit %d\n%s%s", verb, got.code, got.out, got.err)
		}
	}()
	for killed := 0; ; killed++ {
		m := o.projectors[o.dice.IntN(2)]
		select {
		case <-ended:
			if killed == 0 {
				t.Errorf("%v: over before anybody was killed", verb)
			}
			return
		case <-time.After(time.Duration(300+o.dice.IntN(1500)) * time.Millisecond):
		}
		if killed < 3 {
			m.process.Kill()
			m.start(t)
			o.kills++
		}
	}
}

// changesARow changes a row of version 2 by hand.
func (o *operator) changesARow(t *testing.T, db *reads.DB) (id string) {
	t.Helper()
	// One of which nothing more is to come: it is over.
	const over = "FROM reservations_v2 WHERE status IN ('cancelled', 'declined') ORDER BY reservation_id LIMIT 1"
	if err := db.Writer().QueryRowContext(t.Context(), "SELECT reservation_id "+over).Scan(&id); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Writer().ExecContext(t.Context(), "UPDATE reservations_v2 SET status = 'completed' WHERE reservation_id = ?", id); err != nil {
		t.Fatal(err)
	}
	return id
}
