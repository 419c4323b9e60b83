package main

import (
	"database/sql"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestAReleaseSaysWhetherItCanRun changes databases as later releases would: what was only added is let be, and each thing that this
// release could not live with is said in one line, by the check and by a process that starts.
func TestAReleaseSaysWhetherItCanRun(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	check := append([]string{"migrate", "check"}, c.databases()...)
	if got := call(t, check...); got.code != 0 {
		t.Errorf("before the first migration: %v", got)
	}
	c.prepare(t)
	began := time.Now()
	events, err := sql.Open("pgx", c.events)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	models := c.openModels(t)
	do := func(query string) {
		t.Helper()
		if _, err := events.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	doReads := func(query string) {
		t.Helper()
		if _, err := models.db.Writer().ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	serve := func(role string) called {
		args := append([]string{"serve", role, "--redis", c.redis, "--master-key-file", c.masterFile, "--auth-key-file", c.authFile, "--listen", "127.0.0.1:0", "--log-level", "error"}, c.databases()...)
		return call(t, append(args, c.topics()...)...)
	}

	do("INSERT INTO events_migrations (version_id, is_applied) VALUES (99, true); ALTER TABLE events ADD COLUMN newer text; CREATE TABLE events_floor (least bigint NOT NULL); INSERT INTO events_floor VALUES (3)")
	doReads("INSERT INTO reads_migrations (version_id, is_applied) VALUES (99, 1)")
	doReads("CREATE TABLE reads_floor (least BIGINT NOT NULL)")
	doReads("INSERT INTO reads_floor VALUES (3)")
	if got := call(t, check...); got.code != 0 {
		t.Errorf("later releases have added something: %v", got)
	}
	do("UPDATE events_floor SET least = 99")
	call(t, check...).refused(t, 1, "cannot run here", "event store", "step 99", "run a later release")
	serve("commands").refused(t, 1, "event store", "step 99", "run a later release")
	do("UPDATE events_floor SET least = 3")
	doReads("UPDATE reads_floor SET least = 98")
	call(t, check...).refused(t, 1, "reads database", "step 98")
	for _, role := range []string{"readapi", "projector"} {
		serve(role).refused(t, 1, "reads database", "step 98")
	}
	doReads("UPDATE reads_floor SET least = 3")

	doReads("INSERT INTO projection_versions (projection, version, state, verified_run, generation) VALUES ('stats', 9, 'live', '', 'x')")
	doReads("UPDATE projection_pointers SET version = 9 WHERE projection = 'stats'")
	call(t, check...).refused(t, 1, "stats are served by version 9", "salon projections rollback stats@1")
	doReads("UPDATE projection_pointers SET version = 1 WHERE projection = 'stats'")

	all := c.member(t, "all", "commands", "readapi")
	all.start(t)
	all.ready(t)
	w := newTown([]string{all.url}, nil, c.mint(t))
	w.open(t.Context(), 1, salons(2))
	w.report(t)
	all.end(t, false)
	since := append(check, "--since", began.Add(-time.Minute).Format(time.RFC3339))
	if got := call(t, since...); got.code != 0 {
		t.Errorf("all types are known: %v", got)
	}
	do("UPDATE events SET type = 'groomer.cloned.v1' WHERE position = 2")
	call(t, since...).refused(t, 1, "does not know", "groomer.cloned.v1")
	late := append(check, "--since", time.Now().Add(time.Minute).Format(time.RFC3339))
	if got := call(t, late...); got.code != 0 {
		t.Errorf("what it has read already is nothing new: %v", got)
	}
}
