package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// A node that starts before its event store says so once, waits, and serves when the store is there; told to stop, it
// stops waiting.
func TestANodeWaitsForAnEventStoreThatIsAwayAtItsStart(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	direct := newCluster(t, harness.Postgres(t), harness.NewBroker(t).Addr, "", harness.MySQL(t), harness.Redis(t))
	direct.prepare(t)
	c := *direct
	var postgres *harness.Proxy
	c.events, postgres = harness.Through(t, direct.events)
	postgres.Cut()
	const says = "event store is away; waiting for it"
	early, told := c.member(t, "early", "commands"), c.member(t, "told to stop", "relay")
	early.start(t)
	told.start(t)
	early.process.Await(t, says)
	told.process.Await(t, says)
	if err := told.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := told.process.Wait(t, 10*time.Second); code != 0 {
		t.Errorf("told to stop while it waited: exit code %d", code)
	}
	postgres.Restore(t)
	early.ready(t)
	if n := strings.Count(early.process.Output(), says); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, early.process.Output())
	}
	early.end(t, false)
}
