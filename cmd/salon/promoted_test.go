package main

import (
	"fmt"
	"net/http"
	neturl "net/url"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/internal/harness"
)

// TestTokensLiveThroughAPromotion loses PostgreSQL's primary and goes on with its standby. What a token of before stands for
// is either there, and the token as good as ever, or lost with the primary, and the token says so.
func TestTokensLiveThroughAPromotion(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	for name, synchronous := range map[string]bool{"synchronous": true, "asynchronous, and behind": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kafka, prefix := harness.Kafka(t)
			primary := harness.NewPostgres(t)
			events, err := neturl.Parse(primary.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			standby := primary.Standby(t)
			events.Host += "," + standby.Addr
			events.RawQuery += "&target_session_attrs=read-write"
			c := newCluster(t, events.String(), kafka, prefix, harness.MySQL(t), harness.Redis(t))
			c.prepare(t)
			front, back := c.member(t, "front", "commands", "readapi"), c.member(t, "back", "relay", "projector")
			front.start(t)
			back.start(t)
			front.ready(t)
			w := newTown([]string{front.url}, []string{front.url}, c.mint(t))
			w.open(t.Context(), 1, salons(1))

			kim := newClient(front.url, c.mint(t)(domain.Actor{ID: "kim", Role: domain.Customer}))
			booked := 0
			book := func() (path, token string) {
				t.Helper()
				booked++
				key := fmt.Sprint("booking ", booked)
				start := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 2+booked).Add(2 * time.Hour)
				deadline := time.After(time.Minute)
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for {
					a, err := kim.call(t.Context(), http.MethodPost, "/v1/reservations", key, map[string]any{
						"groomer_id": "salon-0", "start": start, "mode": "shop", "dogs": []map[string]any{{"name": "콩이", "size": "small", "services": []string{"bath"}}},
					})
					if err == nil && a.status == http.StatusCreated {
						var made struct {
							ID string `json:"reservation_id"`
						}
						if err := a.decode(&made); err != nil {
							t.Fatal(err)
						}
						return "/v1/reservations/" + made.ID, a.header.Get("Consistency-Token")
					}
					if err == nil && a.status != http.StatusServiceUnavailable {
						t.Fatalf("%d %s", a.status, a.body)
					}
					select {
					case <-tick.C:
					case <-deadline:
						t.Fatalf("not booked: %v %d %s", err, a.status, a.body)
					}
				}
			}
			read := func(what, path, token, wait string, status int) {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+kim.token)
				r.Header.Set("Consistency-Token", token)
				r.Header.Set("Prefer", "wait="+wait)
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if res.StatusCode != status {
					t.Errorf("%s: %d, want %d", what, res.StatusCode, status)
				}
			}
			shared, before := book()
			read("before the loss", shared, before, "30", http.StatusOK)
			back.end(t, false) // what is booked now is not in Kafka when the primary is lost
			if !synchronous {
				primary.Asynchronous(t)
				standby.Kill(t)
			}
			last, tokenOfLast := book()
			primary.Kill(t)
			if !synchronous {
				standby.Start(t)
			}
			standby.Promote(t)
			back.start(t)
			next, after := book()
			read("what was booked after the promotion", next, after, "30", http.StatusOK)
			read("what was read before it", shared, before, "0", http.StatusOK)
			read("with the tokens of both", shared, before+","+after, "0", http.StatusOK)
			want := http.StatusPreconditionFailed
			if synchronous {
				want = http.StatusOK
			}
			read("what was acknowledged last", last, tokenOfLast, "0", want)
			read("a list, with its token", "/v1/reservations", tokenOfLast, "0", want)
			front.end(t, false)
			back.end(t, false)
		})
	}
}
