package main

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/harness"
)

// PostgreSQL's disk fills up with the log that is kept for a standby which is gone. By the book there is room again, and the
// system goes on without being restarted; what was asked meanwhile has its one effect when it is asked again.
func TestTheRunbookMakesRoomOnAFullDisk(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	disk := harness.SmallDisk(t, 128)
	events := harness.NewPostgresIn(t, disk, "min_wal_size=4MB", "max_wal_size=8MB")
	kafka, prefix := harness.Kafka(t)
	k := &kept{cluster: newCluster(t, events.Database(t), kafka, prefix, harness.MySQL(t), harness.Redis(t)), partitions: clusterPartitions}
	k.prepare(t)
	k.start(t)
	rb := newRunbook(t, k.env()...)
	first, token := k.books(t, 1, "first")
	k.sees(t, "a write before", first, token, http.StatusOK)
	rb.run("disk-ballast", "DISK="+disk, "SIZE=24M")

	sql := func(statement string) error {
		out, err := exec.CommandContext(t.Context(), "psql", "--quiet", "--dbname="+events.URL("postgres"), "--command="+statement).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := sql("SELECT pg_create_physical_replication_slot('gone', true)"); err != nil {
		t.Fatal(err)
	}
	// It gives up, recovers, and takes what fits into the last segment, until there is no room to recover in.
	wait(t, 3*time.Minute, func() string {
		_ = sql("SELECT count(pg_logical_emit_message(false, 'fill', repeat('x', 100000))) FROM generate_series(1, 2000)")
		if events.Ended() && strings.Contains(events.Log(), "No space left on device") {
			return ""
		}
		return "PostgreSQL goes on"
	})
	kim := newClient(k.front.url, k.mint(t)(domain.Actor{ID: "kim", Role: domain.Customer}))
	asks := func() (int, string, http.Header) {
		t.Helper()
		a, err := kim.call(t.Context(), http.MethodPost, "/v1/reservations", "book on a full disk", map[string]any{
			"groomer_id": "first", "start": noonIn(4), "mode": "shop", "dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return a.status, string(a.body), a.header
	}
	status, body, header := asks()
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(body, "store.unavailable") && !strings.Contains(body, "outcome.unknown") {
		t.Errorf("a write on a full disk: %d %s %v", status, body, header)
	}
	k.sees(t, "a read meanwhile", "/v1/groomers", "", http.StatusOK) // of personal texts the keys are in the store: see the runbook
	if got := call(t, append(append([]string{"doctor", "--redis", k.redis}, k.databases()...), k.topics()...)...); got.code == 0 || !strings.Contains(got.out, "NO") {
		t.Errorf("doctor finds nothing: %d\n%s%s", got.code, got.out, got.err)
	}

	rb.run("disk-room", "DISK="+disk)
	wait(t, 2*time.Minute, func() string {
		if events.Ended() { // it could not even recover: a supervisor tries again and again
			events.Start(t)
		}
		if status, body, _ := asks(); status != http.StatusCreated {
			return fmt.Sprint("with room again: ", status, " ", body)
		}
		return ""
	})
	server := address(t, events.Addr)
	if said := rb.run("disk-look", append(server, "DISK="+disk)...); !strings.Contains(said, "gone") {
		t.Errorf("what keeps the log is not shown:\n%s", said)
	}
	rb.run("disk-slot", append(server, "SLOT=gone")...)
	rb.run("disk-ballast", "DISK="+disk, "SIZE=48M") // more than was free: the log is gone
	second, tokenOfSecond := k.books(t, 2, "second")
	k.sees(t, "a write after", second, tokenOfSecond, http.StatusOK)
	k.equal(t)
	k.end(t)
}
