package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/reactors"
)

// appendTold appends what a test says has happened in a salon: by a command, no request expires within seconds.
func appendTold(t *testing.T, store eventstore.Store, salon string, events ...domain.Event) {
	t.Helper()
	id, stream := uuid.New(), eventstore.GroomerStream(salon)
	by := domain.Actor{ID: "minji", Role: domain.Customer}
	metadata, err := json.Marshal(eventstore.Metadata{CommandID: id, Command: "test", Actor: by, CorrelationID: id.String(), CausationID: id.String()})
	if err != nil {
		t.Fatal(err)
	}
	a := eventstore.Append{
		Stream: stream, Key: salon, Expected: eventstore.AnyRevision, Metadata: metadata, DecidedAt: time.Now(),
		Command: eventstore.Command{ID: id, RequestHash: make([]byte, 32), Actor: by.Subject()},
	}
	for i, e := range events {
		data, err := codec().Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(id, stream, i), Type: e.EventType(), Data: data})
	}
	if _, err := store.Append(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// TestTimersFireOnceThroughKilledReactors kills -9 one reactor, the other, or both, and the projector, again and again
// while hundreds of requests expire and visits come near. Each expires and is reminded of by one event.
func TestTimersFireOnceThroughKilledReactors(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	seed := newSeed(t)
	dice := newRand(seed, 0)
	c := realCluster(t)
	c.prepare(t)
	store, models := c.openStore(t), c.openModels(t)
	relay, projector := c.member(t, "relay", "relay"), c.member(t, "projector", "projector")
	both := []*member{c.member(t, "reactor 1", "reactor"), c.member(t, "reactor 2", "reactor")}
	for _, m := range append(both, relay, projector) {
		m.start(t)
	}

	const each, over = 150, 12 * time.Second
	began := time.Now()
	visit := func(start time.Time) groomer.Visit {
		return groomer.Visit{CustomerID: "minji", Start: start, Minutes: 30, Mode: groomer.Shop, Dogs: []groomer.Dog{}}
	}
	for i := range each {
		salon := fmt.Sprintf("salon-%d", i%5)
		if i < 5 {
			appendTold(t, store, salon, groomer.Registered{GroomerID: salon, Zone: "Asia/Seoul"})
		}
		// From now on: a visit that is confirmed later than its reminder is due has none.
		due := time.Now().UTC().Add(2*time.Second + time.Duration(dice.Int64N(int64(over)))).Truncate(time.Microsecond)
		start := due.AddDate(0, 0, 1)
		day := start.Format(time.DateOnly)
		asked, booked := fmt.Sprintf("%s.%026d", salon, 2*i), fmt.Sprintf("%s.%026d", salon, 2*i+1)
		appendTold(t, store, salon, groomer.Requested{ReservationID: asked, Visit: visit(start), Day: day, ExpiresAt: due})
		appendTold(t, store, salon, groomer.Requested{ReservationID: booked, Visit: visit(start), Day: day}, groomer.Confirmed{ReservationID: booked, Day: day})
	}

	seen, kills := following{store: store, done: map[string]int{}}, 0
	for seen.n < 2*each {
		seen.follow(t, min(2*each, seen.n+1+dice.IntN(30)))
		victims := []*member{both[dice.IntN(2)]}
		switch dice.IntN(4) {
		case 0:
			victims = both
		case 1:
			victims = append(victims, projector)
		}
		for _, m := range victims {
			m.process.Kill()
			kills++
		}
		for _, m := range victims {
			m.start(t)
		}
	}
	h := mustRead(t, store)
	models.caughtUp(t, h)
	t.Logf("%v: %d timers fired, %d processes killed", time.Since(began).Round(time.Millisecond), seen.n, kills)
	seen.follow(t, 2*each)
	for what, n := range seen.done {
		if n != 1 {
			t.Errorf("%s happened %d times", what, n)
		}
	}
	if len(seen.done) != 2*each {
		t.Errorf("%d of %d happened", len(seen.done), 2*each)
	}
	fail(t, "store", h.numbered())
	fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
	if rows := dueRows(t, models.db); len(rows) != 0 {
		t.Errorf("still due: %+v", rows)
	}
	detail, err := probeOverdue(t.Context(), models.db)
	if err != nil || detail != "nothing due" {
		t.Errorf("doctor: %q, %v", detail, err)
	}
	for _, m := range append(both, relay, projector) {
		m.end(t, false)
	}
}

// following counts what the timers brought about, as the store grows.
type following struct {
	store eventstore.Store
	after uint64
	n     int
	done  map[string]int
}

// follow reads on until n events of the timers were seen.
func (f *following) follow(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		for r, err := range f.store.ReadAll(ctx, f.after, eventstore.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			f.after = r.Position
			fact, err := codec().Fact(r)
			if err != nil {
				t.Fatal(err)
			}
			if fact.By.Role == domain.System {
				f.n++
				f.done[groomer.About(fact.Event)+" "+r.Type]++
			}
		}
		if f.n >= n {
			return
		}
		if err := f.store.Wait(ctx, f.after); err != nil {
			t.Fatalf("%d of %d timers fired: %v", f.n, n, err)
		}
	}
}

func dueRows(t *testing.T, db *reads.DB) (rows []reactors.Due) {
	t.Helper()
	err := db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) (err error) {
		rows, err = engine.Query(ctx, q, reactors.Table, reactors.Version, "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
