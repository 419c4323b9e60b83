package main

import (
	"context"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// TestADrainIsAnnounced stops a node that serves, relays, projects and has a socket. At once it says that it goes, and gives away
// what others wait for; it serves on for the grace; then its socket goes to the other node, and it ends.
func TestADrainIsAnnounced(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := realCluster(t)
	c.prepare(t)
	metrics := harness.Address(t)
	leaves, stays := c.member(t, "leaves", "commands", "readapi", "live", "relay", "projector"), c.member(t, "stays", "commands", "live")
	leaves.args = append(leaves.args, "--drain", "4s", "--metrics-listen", metrics)
	leaves.start(t)
	leaves.ready(t)
	leaves.process.Ready(t, "http://"+metrics) // its groups, too
	stays.start(t)
	stays.ready(t)
	relays := c.member(t, "relays on", "relay", "projector")
	relays.start(t)

	w := newTown([]string{leaves.url}, nil, c.mint(t))
	salon, customer := domain.Actor{ID: "salon-0", Role: domain.Groomer}, domain.Actor{ID: "kim", Role: domain.Customer}
	room := book(t, w, leaves.url, salon, customer)
	reached, lost := make(chan string, 10), make(chan error, 10)
	socket := liveclient.New(liveclient.Config{
		URLs: []string{leaves.url, stays.url}, InOrder: true, Token: func(context.Context) (string, error) { return w.bearer(customer), nil },
		Connected: func(url string) { reached <- url }, Disconnected: func(err error) { lost <- err },
	})
	socket.Follow(room, 0)
	defer harness.Background(t, socket.Run)()
	if url := <-reached; url != leaves.url {
		t.Fatalf("the socket is at %s", url)
	}

	told := time.Now()
	if err := leaves.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	unready := func(url string) bool {
		a, err := newClient(url, "").call(t.Context(), http.MethodGet, "/readyz", "", nil)
		return err == nil && a.status == http.StatusServiceUnavailable && strings.Contains(string(a.body), "draining")
	}
	for !unready(leaves.url) || !unready("http://"+metrics) {
		if time.Since(told) > 3*time.Second {
			t.Fatal("nobody could know that it goes")
		}
		pause(t.Context(), 10*time.Millisecond)
	}
	// It serves, and what it writes is relayed and projected by others: the write's token can be read while it drains.
	desk := newClient(leaves.url, w.bearer(customer))
	if _, err := desk.must(t.Context(), http.MethodPost, "/v1/reservations/"+room+"/cancel", "drain", map[string]any{"reason": "여행"}, nil); err != nil {
		t.Errorf("a write in the grace: %v", err)
	}
	if _, err := desk.must(t.Context(), http.MethodGet, "/healthz", "", nil, nil); err != nil {
		t.Errorf("a read in the grace: %v", err)
	}
	select {
	case err := <-lost:
		if at := time.Since(told); at < 4*time.Second {
			t.Errorf("the socket was sent away after %v: %v", at, err)
		}
		if !strings.Contains(err.Error(), "1012") && !strings.Contains(err.Error(), "StatusServiceRestart") {
			t.Errorf("the socket was not told why: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the socket was never sent away")
	}
	if url := <-reached; url != stays.url {
		t.Errorf("the socket is at %s", url)
	}
	if code := leaves.process.Wait(t, 30*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	models := c.openModels(t)
	models.caughtUp(t, mustRead(t, c.openStore(t)))
	for _, m := range []*member{stays, relays} {
		m.end(t, false)
	}
}
