package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// TestARolloutIsNotNoticed changes the release of ten processes behind nginx while people book, read and talk, over HTTP and
// sockets: no request fails, each write has one effect, every socket is sent away, comes back and has heard everything. In the
// middle of it the rollout itself is killed, and called again. Then bad releases are noticed and taken back. How long things took
// is logged, not held to a bound: that is the machine's.
func TestARolloutIsNotNoticed(t *testing.T) {
	harness.NeedsServers(t)
	seed := newSeed(t)
	f := newFleet(t)
	began := time.Now()
	ends(t, f.rollout(t, append([]string{"to", "v1"}, f.quick(f.nodes...)...)...), 0)
	f.allRun(t, "v1")
	t.Logf("%5.1f s: the first release runs", time.Since(began).Seconds())

	store, models := f.openStore(t), f.openModels(t)
	w := newTown([]string{f.front}, []string{f.front}, f.mint(t))
	front := &door{next: &http.Transport{MaxIdleConnsPerHost: 32}}
	w.http.Transport = front
	groomers := salons(3)
	w.open(t.Context(), seed, groomers)
	models.caughtUp(t, mustRead(t, store))

	talking, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	var connected, people sync.WaitGroup
	var transcripts []*heard
	var said sync.Map
	var away sockets
	living, done := context.WithCancel(t.Context())
	defer done()
	for i := range 8 {
		salon, customer := domain.Actor{ID: fmt.Sprintf("talker-%d", 2*i), Role: domain.Groomer}, domain.Actor{ID: fmt.Sprintf("guest-%d", i), Role: domain.Customer}
		room := book(t, w, f.front, salon, customer)
		for n, who := range []domain.Actor{salon, customer} {
			h := &heard{who: who, room: room, grown: make(chan struct{}, 1)}
			transcripts = append(transcripts, h)
			on, off := away.watch(string(who.Role) + " " + who.ID)
			cl := liveclient.New(liveclient.Config{
				URLs: []string{f.front}, On: h.on, Connected: on, Disconnected: off, HTTP: &http.Client{Transport: front},
				Token: func(context.Context) (string, error) { return w.bearer(who), nil },
			})
			cl.Follow(room, 0)
			connected.Go(func() {
				if err := cl.Run(talking); err != nil {
					t.Errorf("%s: %v", who.ID, err)
				}
			})
			random := newRand(seed, uint64(1+2*i+n)) //nolint:gosec // small
			people.Go(func() { chatters(t, living, random, cl, who, room, &said) })
		}
	}
	people.Go(func() { w.live(living, t.Context(), seed, 100*time.Millisecond, groomers, customersOf(6)) })

	wait(t, time.Minute, away.away)

	// The rollout dies in the middle, and another one goes on.
	to := append([]string{"to", "v2"}, f.quick(f.nodes...)...)
	p := f.rollout(t, to...)
	printed(t, p, "live-a runs v2")
	p.Kill()
	if state := call(t, "rollout", "status", "--dir", f.dir+"/rollout"); !strings.Contains(state.out, "from v1 to v2, replacing") {
		t.Errorf("status after the kill: %v", state)
	}
	p = f.again(t, to...)
	ends(t, p, 0)
	if !strings.Contains(p.Output(), "going on") || strings.Contains(p.Output(), "projector-a runs v2") {
		t.Errorf("it did not go on where the first was killed:\n%s", p.Output())
	}
	f.allRun(t, "v2")
	t.Logf("%5.1f s: the second release runs", time.Since(began).Seconds())
	w.goesOn(t, 25)
	done()
	people.Wait()

	h := mustRead(t, store)
	models.caughtUp(t, h)
	waiting, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, one := range transcripts {
		stream := spoken(t, store, one.room)
		if err := one.until(waiting, uint64(len(stream))); err != nil {
			t.Error(err)
		}
		one.mu.Lock()
		compareTalk(t, one, stream, &said)
		one.mu.Unlock()
	}
	wait(t, time.Minute, away.away)
	hangUp()
	connected.Wait()
	t.Logf("%5.1f s: %d requests, %d failed, %d told that they are behind; sockets were sent away %d times, the longest absence was %v; %d writes",
		time.Since(began).Seconds(), front.requests, len(front.failed), front.behind, away.ends(), away.longest, w.acknowledged())
	fail(t, "front door", front.failed)
	if stayed := away.stayed(); stayed != "" {
		t.Errorf("so this shows nothing of how they come back:\n%s", stayed)
	}
	w.report(t)
	fail(t, "answers", w.answers(t.Context(), seed))
	fail(t, "store", h.numbered())
	fail(t, "store", h.of(w.deeds).once(w.deeds, commandsOf(t, store)))
	fail(t, "bookings", h.apart())
	fail(t, "read models", must(models.equalFold(t.Context(), h))(t))
	w.report(t)

	f.badReleases(t)
	t.Logf("%5.1f s: bad releases were taken back", time.Since(began).Seconds())

	newRunbook(t, f.env...).run("rollout-back", "SALON_DIR="+filepath.Join(f.dir, "rollout"), "SALON_DRIVER="+processesDriver(t),
		"SALON_NODES=readapi-a,readapi-b,commands-a,commands-b", "SALON_SETTLE=300ms", "SALON_WATCH=1s")
	if got := f.running(t, "commands-a"); got != "v1" {
		t.Errorf("after the runbook's rollback, commands-a runs %s", got)
	}
}

// of is what these people did: the others, who talk, are held to what they heard.
func (h past) of(deeds []deed) past {
	theirs := map[domain.Actor]bool{}
	for _, d := range deeds {
		theirs[d.who] = true
	}
	out := past{sparse: h.sparse}
	for i, e := range h.events {
		if theirs[e.Meta.Actor] {
			out.events, out.recorded = append(out.events, e), append(out.recorded, h.recorded[i])
		}
	}
	return out
}

// chatters posts until ctx ends; what was begun is said.
func chatters(t *testing.T, ctx context.Context, random *rand.Rand, c *liveclient.Client, who domain.Actor, room string, said *sync.Map) {
	for n := 0; ctx.Err() == nil; n++ {
		id, text := fmt.Sprintf("%s-%d", who.Role, n), fmt.Sprintf("%s says %d 🐶", who.ID, random.Uint32())
		said.Store(room+id, text)
		posting, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := c.Post(posting, room, id, text)
		cancel()
		if t.Context().Err() != nil { // the test has failed elsewhere
			return
		}
		if err != nil {
			t.Errorf("%s: %v", who.ID, err)
			return
		}
		pause(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	}
}

// badReleases are noticed and taken back, before they have reached more nodes than it takes to notice, and people are told.
func (f *fleet) badReleases(t *testing.T) {
	kinds := make(chan string, 100)
	webhook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var told struct{ Content, Kind string }
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil || told.Content == "" {
			t.Errorf("the webhook got nothing that it can read: %v", err)
		}
		kinds <- told.Kind
	}))
	defer webhook.Close()
	f.write(t, "webhook", webhook.URL, 0o600)
	quick := append(f.quick("readapi-b", "commands-a", "commands-b"), "--ready", "8s", "--notify", "../../deploy/notify --webhook-file "+filepath.Join(f.dir, "webhook"))
	for _, bad := range []struct {
		version, lines string
		says           []string
		told           string
	}{
		{"unmigrated", `[[ $1$2 != migrateup ]] || { echo "no room on the disk" >&2; exit 1; }`, []string{"migration: migrate unmigrated: no room on the disk", "v2 runs again: 0 nodes"}, "start failure rollback"},
		{"incompatible", `[[ $1$2 != migratecheck ]] || { echo "a version that it does not know" >&2; exit 1; }`, []string{"nothing was touched: check incompatible: a version that it does not know"}, ""},
		{"gone", `[[ $1$2 != servereadapi ]] || exit 1`, []string{"readapi-b with gone ended by itself", "v2 runs again: 1 nodes"}, "start failure rollback"},
		{"failing", `[[ $1$2 != servecommands ]] || SALON_TEST_FAILING=1 exec ` + os.Args[0] + ` "$@"`, []string{"is taken back: commands-"}, "start failure rollback"},
	} {
		f.wrapped(t, bad.version, bad.lines)
		began := time.Now()
		stop := harness.Background(t, func(ctx context.Context) error { return f.poke(ctx) })
		p := f.rollout(t, append([]string{"to", bad.version}, quick...)...)
		ends(t, p, 1)
		stop()
		t.Logf("%s: noticed and taken back in %v", bad.version, time.Since(began))
		for _, says := range bad.says {
			if !strings.Contains(p.Output(), says) {
				t.Errorf("%s: it does not say %q:\n%s", bad.version, says, p.Output())
			}
		}
		var told []string
		for len(kinds) > 0 {
			told = append(told, <-kinds)
		}
		if got := strings.Join(told, " "); got != bad.told {
			t.Errorf("%s: people were told %q, not %q", bad.version, got, bad.told)
		}
		f.allRun(t, "v2")
	}
}

// poke sends writes that are refused, so that a process which fails has something to fail.
func (f *fleet) poke(ctx context.Context) error {
	c := newClient(f.front, "")
	for ctx.Err() == nil {
		_, _ = c.call(ctx, http.MethodPost, "/v1/holds", "", nil) // what is answered is what the rollout is to see
		pause(ctx, 20*time.Millisecond)
	}
	return nil
}

// again calls as soon as what the killed one had under way is over.
func (f *fleet) again(t *testing.T, args ...string) *harness.Process {
	t.Helper()
	for {
		p := f.rollout(t, args...)
		limit := time.NewTimer(300 * time.Millisecond)
		tick := time.NewTicker(10 * time.Millisecond)
		for busy := true; busy && !p.Ended(); {
			select {
			case <-limit.C:
				busy = false
			case <-tick.C:
			}
		}
		if !p.Ended() || !strings.Contains(p.Output(), "another rollout is at work") {
			return p
		}
	}
}
