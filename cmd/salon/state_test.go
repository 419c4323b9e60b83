package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/harness"
)

// said calls a verb that is to succeed.
func said(t *testing.T, args ...string) string {
	t.Helper()
	got := call(t, args...)
	if got.code != 0 {
		t.Fatalf("salon %v: exit %d\n%s%s", args, got.code, got.out, got.err)
	}
	return got.out
}

func TestThePastOfADataFolderIsAskedOfItsProcess(t *testing.T) {
	t.Parallel()
	p := newParlour(t)
	thePast(t, p.room, "--data", p.data)
}

func TestThePastOfRealServersNeedsTheEventStoreAlone(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	c.prepare(t)
	m := c.member(t, "commands", "commands")
	m.start(t)
	m.ready(t)
	room := book(t, newTown([]string{m.url}, nil, c.mint(t)), m.url, kongi, minji)
	thePast(t, room, "--events", c.events, "--master-key-file", c.masterFile)
	// Whom nobody gave the master key sees everything else.
	out := said(t, "state", "reservations/"+room, "--events", c.events)
	if !strings.Contains(out, "sealed (give --master-key-file), or damaged:") || !strings.Contains(out, "confirmed") {
		t.Errorf("without the master key:\n%s", out)
	}
	// With the reads database it is asked which version serves; no projector has said.
	if out := said(t, "state", "reservations/"+room, "--events", c.events, "--reads", c.reads); !strings.Contains(out, "1 rows of reservations@2") {
		t.Errorf("with the reads database:\n%s", out)
	}
	call(t, "state", "groomer-kongi", "--events", "postgres://nobody@"+harness.Address(t)+"/events").refused(t, 1, "event store")
}

// thePast asks about a reservation of minji's at kongi that is confirmed, as she requested it.
func thePast(t *testing.T, id string, where ...string) {
	t.Helper()
	ask := func(args ...string) []string { return append(args, where...) }
	var book audit.State
	if err := json.Unmarshal([]byte(said(t, ask("state", "groomer-kongi", "-o", "json")...)), &book); err != nil {
		t.Fatal(err)
	}
	reservation, _ := book.State["reservations"].(map[string]any)[id].(map[string]any)
	if reservation["status"] != "confirmed" || book.Last == nil || book.Last.Actor != (audit.Actor{ID: "minji", Role: "customer"}) || book.Sealed != nil {
		t.Errorf("the book: %+v", book)
	}
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"state", "groomer-kongi"}, []string{"groomer-kongi at revision 6", "by customer:minji with reserve", "reservations/" + id + "/status", `"confirmed"`}},
		{[]string{"state", "groomer-kongi", "--at", "5"}, []string{"at revision 5", `"requested"`}},
		{[]string{"state", "reservations/" + id}, []string{"1 rows of reservations@2, key kongi", `"confirmed"`}},
		{[]string{"state", "reservations@1/kongi", "--at", book.At.Time.Format(time.RFC3339Nano)}, []string{"1 rows of reservations@1", `"confirmed"`}},
		{[]string{"state", "history/kongi", "--limit", "1"}, []string{"2 rows of history@1", "1 more: --limit"}},
		{[]string{"diff", "groomer-kongi", "--from", "5", "--to", "6"}, []string{
			"2 fields differ", "/reservations/" + id + "/status", `"requested"  "confirmed"  reserve`, "customer:minji", "reservation.confirmed.v1",
		}},
		{[]string{"diff", "reservations/" + id, "--from", "2000-01-01T00:00:00Z"}, []string{"from before the first event", "(none)"}},
	} {
		out := said(t, ask(c.args...)...)
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("salon %v does not say %q:\n%s", c.args, s, out)
			}
		}
	}
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{1, "stream.unknown", []string{"state", "groomer-nobody"}},
		{1, "stream.unknown", []string{"diff", "nobody", "--from", "1"}},
		{1, "row.unknown", []string{"state", "reservations/nobody"}},
		{1, "projection.unknown", []string{"state", "dreams/kongi"}},
		{1, "moment.unknown", []string{"state", "groomer-kongi", "--at", "99"}},
		{1, "moment.unknown", []string{"state", "groomer-kongi", "--at", "2000-01-01T00:00:00Z"}},
		{1, "moment.future", []string{"diff", "groomer-kongi", "--from", "5", "--to", "2999-01-01T00:00:00Z"}},
		{2, "at: want an RFC 3339 time", []string{"state", "groomer-kongi", "--at", "yesterday"}},
		{2, "is before from", []string{"diff", "groomer-kongi", "--from", "5", "--to", "4"}},
		{2, "--from", []string{"diff", "groomer-kongi"}},
		{2, "--from", []string{"diff", "groomer-kongi", "--from", ""}},
		{2, "--limit", []string{"state", "reservations/kongi", "--limit", "0"}},
		{2, "--limit", []string{"diff", "groomer-kongi", "--from", "5", "--limit", "1001"}},
	} {
		call(t, ask(c.args...)...).refused(t, c.code, c.says)
	}
	events := said(t, ask("events", "list", "--actor", "customer:minji", "--type", "reservation.confirmed.v1")...)
	command := regexp.MustCompile(`reserve +([0-9a-f-]{36})`).FindStringSubmatch(events)
	if command == nil || !strings.Contains(events, "groomer-kongi  6") {
		t.Fatalf("minji's events:\n%s", events)
	}
	tree := said(t, ask("events", "tree", command[1])...)
	if !strings.Contains(tree, "→ reserve  "+command[1]+"  by customer:minji") || !strings.Contains(tree, "reservation.confirmed.v1 at position 7, revision 6 of groomer-kongi") {
		t.Errorf("the tree:\n%s", tree)
	}
	if out := said(t, ask("events", "tree", command[1], "--format", "dot")...); !strings.HasPrefix(out, "digraph causes {") || !strings.Contains(out, `label="reserve\ncustomer:minji"`) {
		t.Errorf("the tree as a graph:\n%s", out)
	}
	if out := said(t, ask("events", "show", "7")...); !strings.Contains(out, `"type": "reservation.confirmed.v1"`) {
		t.Errorf("an event:\n%s", out)
	}
	call(t, ask("events", "show", "nobody")...).refused(t, 2, "position or an ID")
	call(t, ask("events", "show", "99999")...).refused(t, 1, "event.unknown")
	call(t, ask("events", "tree", "7")...).refused(t, 2, "UUID")
	call(t, ask("events", "list", "--stream", "groomer-nobody")...).refused(t, 1, "stream.unknown")
	call(t, ask("events", "list", "--limit", "101")...).refused(t, 2, "--limit")
	// Each was recorded, this one too; what was malformed was not asked.
	var calls audit.Diff
	stream := "admin-" + string(domain.System) + "-cli." + machineUser()
	if err := json.Unmarshal([]byte(said(t, ask("diff", stream, "--from", "0", "-o", "json")...)), &calls); err != nil {
		t.Fatal(err)
	}
	about := slices.IndexFunc(calls.Changes, func(c audit.Change) bool { return c.Field == "/about" })
	if about < 0 || *calls.Changes[about].After != stream+"?from=0&to=" {
		t.Errorf("the calls that were recorded: %+v", calls)
	}
	count := slices.IndexFunc(calls.Changes, func(c audit.Change) bool { return c.Field == "/calls" })
	if count < 0 || *calls.Changes[count].After != 25.0 {
		t.Errorf("the calls that were recorded: %+v", calls)
	}
}
