package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	domainadmin "github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/admin"
)

// On real servers the verbs ask the servers themselves: nobody but the projector runs.
func TestProjectionsAreSeenOnRealServers(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	c.prepare(t)
	servers := append(append(c.databases(), c.topics()...), "--redis", c.redis)
	list := func() (all admin.Overview) {
		got := call(t, append([]string{"projections", "list", "-o", "json"}, servers...)...)
		if got.code != 0 {
			t.Fatalf("exit %d: %s", got.code, got.err)
		}
		if err := json.Unmarshal([]byte(got.out), &all); err != nil {
			t.Fatal(err)
		}
		// Those that a new system has: the earlier version is not there.
		all.Items = slices.DeleteFunc(all.Items, func(s admin.Status) bool {
			return s.State == admin.Absent && s.Name == "reservations" && s.Version == 1
		})
		return all
	}
	for _, s := range list().Items {
		if s.State != admin.Waiting {
			t.Errorf("%s is %s before a projector ran", s.Name, s.State)
		}
	}
	projector := c.member(t, "projector", "projector")
	metrics := harness.Address(t)
	projector.args = append(projector.args, "--metrics-listen", metrics)
	projector.start(t)
	deadline := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for slices.ContainsFunc(list().Items, func(s admin.Status) bool { return s.State != admin.Well }) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not well: %+v", list())
		}
	}
	// A view that forgot is filled again, which a metric tells.
	refilled := func() bool {
		a, err := newClient("http://"+metrics, "").call(t.Context(), "GET", "/metrics", "", nil)
		if err != nil || a.status != 200 {
			t.Fatal(err, a.status)
		}
		return regexp.MustCompile(`salon_projection_refills\{[^}]*projection="slots_v1"[^}]*\} [1-9]`).Match(a.body)
	}
	if refilled() {
		t.Error("refilled, though nothing was lost")
	}
	c.openModels(t).redis.FlushDB(t.Context())
	for !refilled() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("Redis forgot, and no metric tells of a refill")
		}
	}
	for slices.ContainsFunc(list().Items, func(s admin.Status) bool { return s.State != admin.Well }) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not well after Redis forgot: %+v", list())
		}
	}
	for _, s := range list().Items {
		if !s.Serves || len(s.Partitions) == 0 || s.Parked != 0 {
			t.Errorf("%+v", s)
		}
	}
	if got := call(t, append([]string{"projections", "retry", "slots", "--cause", "none"}, servers...)...); got.code != 0 {
		t.Errorf("retry: exit %d: %s", got.code, got.err)
	}
	if got := call(t, append([]string{"projections", "parked", "slots"}, servers...)...); got.code != 0 {
		t.Errorf("parked: exit %d: %s", got.code, got.err)
	}
	if got := call(t, append([]string{"notifications", "retry", "--cause", "none"}, c.databases()...)...); got.code != 0 || !strings.Contains(got.out, "0 notifications") {
		t.Errorf("notifications retry: exit %d: %s%s", got.code, got.out, got.err)
	}
	// Each was recorded, the last three after some lists.
	store := c.openStore(t)
	calls := callsOf(t, store, "admin-system-cli."+machineUser())
	if n := len(calls); n < 5 || !slices.Equal(calls[n-4:], []string{"list-projections ", "retry-parked-by-cause slots: none", "list-parked slots", "retry-notifications none"}) {
		t.Errorf("recorded: %q", calls)
	}
	// What cannot be is refused, and nothing is touched. Each is recorded first, also what is refused.
	before := len(calls)
	var asked []string
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{1, "live already", []string{"rebuild", "reservations"}},
		{1, "is a view", []string{"rebuild", "slots"}},
		{1, "compared with itself", []string{"verify", "reservations"}},
		{1, "serves already", []string{"switch", "reservations@2"}},
		{1, "not live", []string{"switch", "reservations@1"}},
		{1, "never moved", []string{"rollback", "reservations"}},
		{1, "serves: switch", []string{"drop", "reservations@2", "--confirm", "reservations_v2"}},
		{2, "no projection, or no version", []string{"rebuild", "dreams"}},
		{2, "no projection, or no version", []string{"rebuild", "reservations@3"}},
		{2, "no run", []string{"cancel", "none"}},
	} {
		call(t, append(append([]string{"projections"}, c.args...), servers...)...).refused(t, c.code, c.says)
		operation := c.args[0] + "-projection"
		if c.args[0] == "cancel" {
			operation = "cancel-run"
		}
		asked = append(asked, operation+" "+c.args[1])
	}
	for _, verb := range []string{"pause", "resume"} {
		if got := call(t, append([]string{"projections", verb, "reservations"}, servers...)...); got.code != 0 {
			t.Errorf("%s: exit %d: %s%s", verb, got.code, got.out, got.err)
		}
		asked = append(asked, verb+"-projection reservations")
	}
	if got := call(t, append([]string{"projections", "runs", "reservations", "-o", "json"}, servers...)...); got.code != 0 || strings.Count(got.out, `"run_id"`) != 2 {
		t.Errorf("runs: exit %d: %s%s", got.code, got.out, got.err)
	}
	if diff := cmp.Diff(append(asked, "list-runs reservations"), callsOf(t, store, "admin-system-cli."+machineUser())[before:]); diff != "" {
		t.Errorf("recorded (-asked +noted):\n%s", diff)
	}
	call(t, append([]string{"projections", "parked", "dreams"}, servers...)...).refused(t, 1, "dreams")
	nowhere := append([]string{"projections", "retry", "slots", "--events", "postgres://nobody@" + harness.Address(t) + "/events"}, servers[2:]...)
	call(t, nowhere...).refused(t, 1, "event store")
	nowhere[1], nowhere[2] = "pause", "reservations" // what cannot be recorded is not done
	call(t, nowhere...).refused(t, 1, "event store")
	if got := call(t, append([]string{"projections", "runs", "reservations", "-o", "json"}, servers...)...); got.code != 0 || strings.Count(got.out, `"run_id"`) != 2 {
		t.Errorf("runs: exit %d: %s%s", got.code, got.out, got.err)
	}
	call(t, append([]string{"projections", "retry", "slots", "kim", "--cause", "none"}, servers...)...).refused(t, 2, "--cause")
}

// callsOf reads what an admin's stream has: operation and object.
func callsOf(t *testing.T, s eventstore.Store, stream string) (calls []string) {
	t.Helper()
	for r, err := range s.ReadStream(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := codec().Decode(r.Type, r.Data)
		if err != nil {
			t.Fatal(err)
		}
		c := e.(domainadmin.Called)
		calls = append(calls, c.Operation+" "+c.About)
	}
	return calls
}
