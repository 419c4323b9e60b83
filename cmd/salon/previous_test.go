//go:build previous

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
)

// TestTheReleaseBeforeRunsOnThisOnesSchemaAndEvents has people live with this release, with both at once as in the middle of a
// rollout, with the one before alone as after a rollback, and with this one again. The one before answers, relays, projects and goes
// on with streams that this one wrote; at the end every acknowledged write is there, once, and every row is a fold's.
//
// `make test-previous` runs it. It is not among the other tests, because it needs the history, which not every clone has:
// SALON_TEST_PREVIOUS is the folder that deploy/tools/previous.sh has built from it.
func TestTheReleaseBeforeRunsOnThisOnesSchemaAndEvents(t *testing.T) {
	harness.NeedsServers(t)
	before := os.Getenv("SALON_TEST_PREVIOUS")
	catalogue, err := os.ReadFile(filepath.Join(before, "events.md"))
	if err != nil {
		t.Fatalf("SALON_TEST_PREVIOUS is not what `deploy/tools/previous.sh build` prints: %v", err)
	}
	binary := filepath.Join(before, "salon")
	c := realCluster(t)
	c.prepare(t)
	roles := []string{"commands", "readapi", "admin", "relay", "projector", "reactor", "live"}
	now, old := c.member(t, "this release", roles...), c.member(t, "the one before", roles...)
	store, models := c.openStore(t), c.openModels(t)
	// Each release is asked by its own client: the demo of this one may ask for what the other does not have yet.
	demo := func(program string, urls ...string) {
		t.Helper()
		p := harness.StartCommand(t, exec.Command(program, "demo", "--url", strings.Join(urls, ","), "--auth-key-file", c.authFile, "--talk", "1s"))
		if code := p.Wait(t, 3*time.Minute); code != 0 {
			t.Fatalf("%s demo over %v: exit code %d\n%s", program, urls, code, p.Output())
		}
	}
	w := newTown([]string{now.url, old.url}, []string{now.url, old.url}, c.mint(t)) // who finds nobody at one goes to the other
	seed, groomers := newSeed(t), salons(3)
	now.start(t)
	now.ready(t)
	w.open(t.Context(), seed, groomers)
	living, done := context.WithCancel(t.Context())
	var people sync.WaitGroup
	defer people.Wait()
	defer done()
	people.Go(func() { w.live(living, t.Context(), seed, 100*time.Millisecond, groomers, customersOf(6)) })
	w.goesOn(t, 200)
	demo(harness.Binary(t), now.url)

	// First, since what follows can only end late and unclear where this does not hold.
	written := map[string]bool{}
	for _, r := range mustRead(t, store).recorded {
		written[r.Type] = true
	}
	if len(written) < 14 { // as many as the demo's
		t.Errorf("only %d types of events were written: too few to show anything", len(written))
	}
	var unknown []string
	for name := range written {
		if !strings.Contains(string(catalogue), fmt.Sprintf("`%s`", name)) {
			unknown = append(unknown, name)
		}
	}
	if slices.Sort(unknown); len(unknown) > 0 {
		t.Fatalf("this release writes what the release before cannot read: %v. One release has to read it, and the next to write it", unknown)
	}

	old.process = harness.StartCommand(t, exec.Command(binary, old.args...))
	old.ready(t)
	demo(binary, now.url, old.url)
	w.goesOn(t, 200)
	now.end(t, false)
	demo(binary, old.url)
	w.goesOn(t, 200)
	for _, p := range allProjections() {
		if p.Target == engine.Redis {
			continue
		}
		verify := harness.StartCommand(t, exec.Command(binary, "projections", "verify", p.Name, "--fresh", "--events", c.events, "--reads", c.reads, "--redis", c.redis))
		if code := verify.Wait(t, 3*time.Minute); code != 0 {
			t.Errorf("the release before, on the rows of %s: exit code %d\n%s", p.Name, code, verify.Output())
		}
	}
	now.start(t)
	now.ready(t)
	old.end(t, false)
	w.goesOn(t, 200)
	done()
	people.Wait()
	h := mustRead(t, store)
	models.caughtUp(t, h)
	t.Logf("%d events of %d types, %d writes acknowledged", len(h.recorded), len(written), w.acknowledged())
	w.report(t)
	w.readers = []string{now.url}
	fail(t, "answers", w.answers(t.Context(), seed))
	fail(t, "store", h.numbered())
	fail(t, "store", h.of(w.deeds).once(w.deeds, commandsOf(t, store)))
	fail(t, "bookings", h.apart())
	fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
	now.end(t, false)
}
