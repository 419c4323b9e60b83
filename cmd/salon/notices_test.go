package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/reactors/notify"
)

func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		notify config.Notify
		reacts bool
		wrong  string
	}{
		{"none", config.Notify{}, true, ""},
		{"all", config.Notify{NotifyWebhook: "https://hooks.example/", NotifySecretFile: secret}, true, ""},
		{"no secret", config.Notify{NotifyWebhook: "https://hooks.example/"}, true, "--notify-secret-file"},
		{"no webhook", config.Notify{NotifySecretFile: secret}, true, "--notify-webhook"},
		{"no reactor", config.Notify{NotifyWebhook: "https://hooks.example/", NotifySecretFile: secret}, false, "reactor"},
		{"in the clear", config.Notify{NotifyWebhook: "http://hooks.example/", NotifySecretFile: secret}, true, "https"},
	} {
		e, err := endpoint(c.notify, c.reacts)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v", c.name, err)
		}
		if (e != nil) != (c.name == "all") {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
}

// TestWhatAWebhookRefusedIsSentAgainWhenAsked has salon up tell an endpoint that takes nothing, until it does.
func TestWhatAWebhookRefusedIsSentAgainWhenAsked(t *testing.T) {
	t.Parallel()
	var takes atomic.Bool
	refused, taken := make(chan string, 10_000), make(chan string, 10_000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(notify.IDHeader)
		if !takes.Load() {
			w.WriteHeader(http.StatusUnprocessableEntity) // is not tried again by itself
			refused <- id
			return
		}
		taken <- id
	}))
	t.Cleanup(server.Close)
	data, secret := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret of some length"), 0o600); err != nil {
		t.Fatal(err)
	}
	call(t, "up", "--data", data, "--listen", "127.0.0.1:0", "--notify-webhook", server.URL).refused(t, 2, "--notify-secret-file")
	p := harness.Start(t, nil, "up", "--demo", "--data", data, "--listen", harness.Address(t), "--notify-webhook", server.URL, "--notify-secret-file", secret)
	p.Await(t, "export ADMIN=") // everything is booked

	const some = 10
	ids := map[string]bool{}
	deadline := time.After(time.Minute)
	for len(ids) < some {
		select {
		case id := <-refused:
			ids[id] = true
		case <-deadline:
			t.Fatalf("%d refused", len(ids))
		}
	}
	list := func() (waiting []notify.Parked) {
		got := call(t, "notifications", "parked", "--data", data, "-o", "json")
		if err := json.Unmarshal([]byte(got.out), &waiting); err != nil || got.code != 0 {
			t.Fatalf("exit %d: %v: %s%s", got.code, err, got.out, got.err)
		}
		return waiting
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	until := func(what string, reached func() bool) {
		t.Helper()
		for !reached() {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("never: %s", what)
			}
		}
	}
	until("they wait", func() bool { return len(list()) >= some })
	for _, w := range list() {
		if w.Cause != "status 422" || w.RetryAt != nil || w.Attempts != 1 {
			t.Errorf("%+v", w)
		}
	}
	table := call(t, "notifications", "parked", "--data", data, "--limit", "1")
	if table.code != 0 || strings.Count(table.out, "\n") != 2 || !strings.Contains(table.out, "when asked") {
		t.Errorf("exit %d: %s%s", table.code, table.out, table.err)
	}
	takes.Store(true)
	if got := call(t, "notifications", "retry", "--data", data, "--cause", "another"); got.code != 0 || !strings.Contains(got.out, "0 notifications") {
		t.Errorf("exit %d: %s%s", got.code, got.out, got.err)
	}
	if got := call(t, "notifications", "retry", "--data", data, "--cause", "status 422"); got.code != 0 {
		t.Errorf("exit %d: %s%s", got.code, got.out, got.err)
	}
	until("none waits", func() bool { return len(list()) == 0 })
	for len(ids) > 0 {
		select {
		case id := <-taken:
			delete(ids, id)
		case <-deadline:
			t.Fatalf("%d were never taken", len(ids))
		}
	}
	if code := p.Stop(t); code != 0 {
		t.Errorf("stopped with exit code %d", code)
	}
}

// TestWhatStandsInTheInboxesLeavesThroughKilledReactors books while the reactors that tell of it are killed -9, one and
// the other. Each notification comes, and when it comes again it has the same ID.
func TestWhatStandsInTheInboxesLeavesThroughKilledReactors(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	c.prepare(t)
	store := c.openStore(t)

	got := make(chan notify.Body, 10_000)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		var b notify.Body
		if err == nil { // a reactor that was killed in the middle of a request sent none
			if err := json.Unmarshal(raw, &b); err != nil || r.Header.Get(notify.IDHeader) != b.ID.String() {
				t.Errorf("%v: %s", err, raw)
			}
			got <- b
		}
	}))
	t.Cleanup(server.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret of some length"), 0o600); err != nil {
		t.Fatal(err)
	}
	relay, projector := c.member(t, "relay", "relay"), c.member(t, "projector", "projector")
	both := []*member{c.member(t, "reactor 1", "reactor"), c.member(t, "reactor 2", "reactor")}
	for _, m := range both {
		m.args = append(m.args, "--notify-webhook", server.URL, "--notify-secret-file", secret)
	}
	for _, m := range append(both, relay, projector) {
		m.start(t)
	}

	const each = 60
	missing, ids, repeated := map[string]bool{}, map[string]string{}, 0
	deadline := time.After(4 * time.Minute)
	start := time.Now().UTC().AddDate(0, 0, 3).Truncate(time.Second)
	take := func(b notify.Body) {
		what := b.ReservationID + " " + b.Kind + " " + b.Receiver.Subject()
		if id, again := ids[what]; again {
			repeated++
			if id != b.ID.String() {
				t.Errorf("%s came as %s and as %s", what, id, b.ID)
			}
		} else if !missing[what] {
			t.Errorf("nobody is to be told: %s", what)
		}
		delete(missing, what)
		ids[what] = b.ID.String()
		if b.Text.Korean == "" || b.Text.English == "" || !b.Start.Equal(start) {
			t.Errorf("%+v", b)
		}
	}
	for i := range each {
		salon := fmt.Sprintf("salon-%d", i%5)
		if i < 5 {
			appendTold(t, store, salon, groomer.Registered{GroomerID: salon, Zone: "Asia/Seoul"})
		}
		// By minji, all of it: her salon is told of the booking and of its end.
		id := fmt.Sprintf("%s.%026d", salon, i)
		missing[id+" confirmed groomer:"+salon], missing[id+" cancelled groomer:"+salon] = true, true
		appendTold(t, store, salon,
			groomer.Requested{ReservationID: id, Visit: groomer.Visit{CustomerID: "minji", Start: start, Minutes: 30, Mode: groomer.Shop, Dogs: []groomer.Dog{}}},
			groomer.Confirmed{ReservationID: id}, groomer.Cancelled{ReservationID: id, Reason: domain.Sealed{}})
		if i%30 == 29 {
			select { // in the midst of it
			case b := <-got:
				take(b)
			case <-deadline:
				t.Fatalf("nothing is told: %d missing", len(missing))
			}
			m := both[(i/30)%2]
			m.end(t, true)
			m.start(t)
		}
	}
	for len(missing) > 0 {
		select {
		case b := <-got:
			take(b)
		case <-deadline:
			t.Fatalf("%d of %d were never told: %v", len(missing), 2*each, missing)
		}
	}
	for _, m := range both {
		m.end(t, false)
	}
	t.Logf("%d notifications, %d of them again under the same ID, through %d kills", 2*each, repeated, each/30)
}
