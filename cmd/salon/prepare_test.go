package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestWhatIsNotPreparedIsSaid starts roles on servers where nothing was made yet: each says in one line what to run, or
// waits for it and goes on by itself.
func TestWhatIsNotPreparedIsSaid(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	keys := []string{"--master-key-file", c.masterFile, "--auth-key-file", c.authFile, "--listen", "127.0.0.1:0", "--log-level", "error"}
	servers := append(append(c.databases(), c.topics()...), "--redis", c.redis)

	call(t, append([]string{"topics", "check"}, c.topics()...)...).refused(t, 1, "salon.booking.v1", "salon topics ensure")
	for _, role := range []string{"commands", "readapi", "relay"} {
		call(t, append(append([]string{"serve", role}, servers...), keys...)...).refused(t, 1, "event store", "salon migrate up")
	}
	status := call(t, append([]string{"migrate", "status"}, c.databases()...)...)
	if status.code != 0 || !strings.Contains(status.out, "pending") {
		t.Errorf("migrate status: %v", status)
	}
	doctor := call(t, append([]string{"doctor", "--limit", "15s"}, servers...)...)
	if doctor.code != 1 || strings.Count(doctor.out, "salon migrate up") < 2 || !strings.Contains(doctor.out, "salon topics ensure") {
		t.Errorf("doctor before anything was made: exit %d\n%s%s", doctor.code, doctor.out, doctor.err)
	}

	if err := migrateEvents(t.Context(), c.events); err != nil {
		t.Fatal(err)
	}
	call(t, append(append([]string{"serve", "readapi"}, servers...), keys...)...).refused(t, 1, "reads database", "salon migrate up")

	// A projector waits: it is often started together with the migration.
	projector := c.member(t, "projector", "projector")
	projector.start(t)
	projector.process.Await(t, "salon migrate up")

	if got := call(t, append([]string{"migrate", "up"}, c.databases()...)...); got.code != 0 {
		t.Fatal(got)
	}
	if got := call(t, append([]string{"topics", "ensure"}, c.topics()...)...); got.code != 0 {
		t.Fatal(got)
	}
	other := append([]string{"--partitions", strconv.Itoa(clusterPartitions + 1)}, "--kafka", c.kafka, "--topic-prefix", c.prefix)
	for _, verb := range []string{"ensure", "check"} {
		call(t, append([]string{"topics", verb}, other...)...).refused(t, 1, "4 partitions, not 5", "--partitions 4")
	}
	status = call(t, append([]string{"migrate", "status", "--output", "json"}, c.databases()...)...)
	if status.code != 0 || strings.Contains(status.out, "null") || !strings.Contains(status.out, `"events"`) || !strings.Contains(status.out, `"reads"`) {
		t.Errorf("migrate status: %v", status)
	}

	rest := c.member(t, "the rest", "commands", "readapi", "admin", "relay", "live")
	rest.start(t)
	rest.ready(t)
	w := newTown([]string{rest.url}, []string{rest.url}, c.mint(t))
	w.open(t.Context(), 1, salons(1))
	p := &person{town: w, who: salons(1)[0], rand: newRand(1, 1)}
	seen := w.deeds[0].seen
	if r, ok := p.get(t.Context(), "/v1/groomers/salon-0", seen); !ok || r.status != http.StatusOK {
		t.Errorf("read what the projector that waited has made: %d %s", r.status, r.body)
	}
	w.report(t)
	wait(t, time.Minute, func() string { // each projection that waited begins by itself
		if doctor = call(t, append([]string{"doctor", "--limit", "15s"}, servers...)...); doctor.code != 0 || strings.Contains(doctor.out, "NO") {
			return fmt.Sprintf("doctor: exit %d\n%s%s", doctor.code, doctor.out, doctor.err)
		}
		return ""
	})
	if got := call(t, "demo", "--url", rest.url, "--auth-key-file", c.authFile); got.code != 0 || !strings.Contains(got.out, "31 steps") {
		t.Errorf("demo: exit %d\n%s%s", got.code, got.out, got.err)
	}
	full := append([]string{"doctor", "--limit", "15s", "--full"}, servers...)
	if doctor = call(t, full...); doctor.code != 0 || !strings.Contains(doctor.out, "each in its place") {
		t.Errorf("doctor --full: exit %d\n%s%s", doctor.code, doctor.out, doctor.err)
	}
	db, err := sql.Open("pgx", c.events)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "UPDATE events SET data = data || ' ' WHERE position = 3"); err != nil {
		t.Fatal(err)
	}
	if doctor = call(t, full...); doctor.code != 1 || !strings.Contains(doctor.out, "position 3 is not what was stored") {
		t.Errorf("doctor --full, after an event was changed: exit %d\n%s%s", doctor.code, doctor.out, doctor.err)
	}
}

// TestServersThatAreAwayAreNamed is about addresses where nothing answers: verbs that do one thing say so and end.
func TestServersThatAreAwayAreNamed(t *testing.T) {
	t.Parallel()
	nowhere := harness.Address(t)
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"topics", []string{"topics", "check", "--kafka", nowhere}, []string{"Kafka", nowhere}},
		{"migrate, the events", []string{"migrate", "up", "--events", "postgres://u:secret@" + nowhere + "/db", "--reads", "sqlite:" + t.TempDir() + "/r"}, []string{"event store"}},
		{"migrate, the reads", []string{"migrate", "up", "--events", "sqlite:" + t.TempDir() + "/e", "--reads", "mysql://u:secret@" + nowhere + "/db"}, []string{"reads database"}},
		{"demo", []string{"demo", "--url", "http://" + nowhere, "--auth-key-file", newCluster(t, "", "", "", "", "").authFile}, []string{nowhere}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			got := call(t, c.args...)
			got.refused(t, 1, c.says...)
			if strings.Contains(got.err, "secret") {
				t.Errorf("it repeats a password: %s", got.err)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %v to say so", took)
			}
		})
	}
}
