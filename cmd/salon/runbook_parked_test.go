package main

import (
	"database/sql"
	"net/http"
	neturl "net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/dangdangsalon/salon/internal/harness"
)

// Somebody gives a table of a read model a constraint that one groomer's rows break: that key is parked, its cause is seen, and
// after the constraint is gone it goes on, by the book.
func TestTheRunbookMendsAParkedKey(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	k := &kept{cluster: realCluster(t), partitions: clusterPartitions}
	k.prepare(t)
	k.start(t)
	rb := newRunbook(t, k.env()...)
	good, tokenOfGood := k.books(t, 1, "good")
	k.sees(t, "a write before", good, tokenOfGood, http.StatusOK)

	u, err := neturl.Parse(k.reads)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", u.User.String()+"@tcp("+u.Host+")"+u.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	alter := func(what string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), "ALTER TABLE reservations_v2 "+what); err != nil {
			t.Fatal(err)
		}
	}
	alter("ADD CONSTRAINT no_bad_ones CHECK (groomer_id <> 'bad')")
	bad, tokenOfBad := k.books(t, 2, "bad")
	parked := func() []string { // of the first key of the table
		t.Helper()
		got := call(t, append(append([]string{"projections", "parked", "reservations", "--redis", k.redis}, k.databases()...), k.topics()...)...)
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		if got.code != 0 || len(lines) < 2 {
			return nil
		}
		return strings.Fields(lines[1])
	}
	var row []string
	wait(t, time.Minute, func() string {
		if row = parked(); row == nil {
			return "no key is parked"
		}
		return ""
	})
	key, position := row[0], row[2]
	if _, err := strconv.ParseUint(position, 10, 64); err != nil || key != "bad" {
		t.Fatalf("parked: %q", row)
	}
	said := rb.run("parked", "PROJECTION=reservations", "POSITION="+position)
	for _, has := range []string{"no_bad_ones", `"detail"`, "reservation.requested.v1"} {
		if !strings.Contains(said, has) {
			t.Errorf("the runbook's look does not show %q:\n%s", has, said)
		}
	}
	k.sees(t, "what waits", bad, tokenOfBad, http.StatusServiceUnavailable)
	k.sees(t, "a key that goes on", good, tokenOfGood, http.StatusOK)

	rb.run("parked-retry", "PROJECTION=reservations", "KEY="+key) // too early: nothing is mended
	wait(t, time.Minute, func() string {
		if row := parked(); row == nil || row[4] == "1" {
			return "it was not tried again: " + strings.Join(row, " ")
		}
		return ""
	})
	alter("DROP CONSTRAINT no_bad_ones")
	rb.run("parked-retry", "PROJECTION=reservations", "KEY="+key)
	wait(t, time.Minute, func() string { return strings.Join(parked(), " ") })
	k.sees(t, "what waited", bad, tokenOfBad, http.StatusOK)
	if said := rb.run("parked-after", "PROJECTION=reservations"); strings.Contains(said, "no_bad_ones") {
		t.Errorf("still parked:\n%s", said)
	}
	k.equal(t)
	k.end(t)
}
