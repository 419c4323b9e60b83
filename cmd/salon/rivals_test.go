package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/harness"
)

// TestOfFortyRivalsForASlotOneGetsIt lets forty customers ask for one slot at the same moment, at two processes that
// know nothing of each other: one gets it, the others hear that it is taken, and a look at the book agrees.
func TestOfFortyRivalsForASlotOneGetsIt(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := newCluster(t, harness.Postgres(t), "none:1", "", "", "")
	if err := migrateEvents(t.Context(), c.events); err != nil {
		t.Fatal(err)
	}
	var nodes []string
	for range 2 {
		address := harness.Address(t)
		p := harness.Start(t, nil, "serve", "commands", "--events", c.events, "--listen", address, "--rate-limit", "0", "--post-rate", "0", "--log-level", "warn",
			"--master-key-file", c.masterFile, "--auth-key-file", c.authFile)
		p.Ready(t, "http://"+address)
		nodes = append(nodes, "http://"+address)
	}
	w := newTown(nodes, nil, c.mint(t))
	w.open(t.Context(), 1, salons(1))
	start := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 3) // 09:00 in Seoul
	for round := range 8 {
		path, what := "/v1/reservations", "reservation"
		if round%2 == 1 {
			path, what = "/v1/holds", "hold"
		}
		body := map[string]any{
			"groomer_id": "salon-0", "start": start.Add(time.Duration(round) * time.Hour), "mode": "shop",
			"dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
		}
		rivals := crowd(domain.Customer, fmt.Sprintf("rival-%d-%%d", round), 40) // others each time: nobody has too many holds
		answers := make([]string, len(rivals))
		var all sync.WaitGroup
		ready := make(chan struct{})
		for i, who := range rivals {
			w.bearer(who) // signed in before it begins
			all.Go(func() {
				<-ready
				r, err := w.send(t.Context(), nodes[i%2], who, http.MethodPost, path, body, "Idempotency-Key", fmt.Sprint(round))
				if answers[i] = fmt.Sprint(r.status, " ", r.code()); err != nil {
					answers[i] = err.Error()
				}
			})
		}
		close(ready)
		all.Wait()
		count := map[string]int{}
		for _, a := range answers {
			count[a]++
		}
		if count["201 "] != 1 || count["409 slot.taken"] != len(rivals)-1 {
			t.Errorf("one %s for forty: %v", what, count)
		}
	}
	fail(t, "bookings", mustRead(t, c.openStore(t)).apart())
	w.report(t)
}
