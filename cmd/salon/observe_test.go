package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
)

// TestASystemShowsHowItIs looks at the metrics of a running system: what the role admin sees of it as a whole, and what each
// part tells of itself.
func TestASystemShowsHowItIs(t *testing.T) {
	t.Parallel()
	front := httptest.NewTLSServer(http.NotFoundHandler())
	defer front.Close()
	address, metrics := harness.Address(t), harness.Address(t)
	p := harness.Start(t, nil, "up", "--data", filepath.Join(t.TempDir(), "data"), "--listen", address, "--metrics-listen", metrics, "--watch-front", front.URL)
	p.Ready(t, "http://"+address)
	missing := []string{
		`salon_server_up{server="events"} 1`, `salon_server_up{server="reads"} 1`, `salon_server_up{server="redis"} 1`, `salon_server_up{server="kafka"} 1`,
		`salon_lookups_behind_seconds 0`, `salon_seals_behind_seconds 0`, `salon_erasures_owed 0`, `salon_kafka_under_replicated_partitions 0`,
		`salon_projection_parked_keys{projection="stats_v1"} 0`, `salon_projection_state{projection="slots_v1",serves="yes",state="well"} 1`,
		`salon_front_up{url="` + front.URL + `"} 1`,
		fmt.Sprintf("salon_front_certificate_expires_timestamp_seconds{url=%q} %v", front.URL, float64(front.Certificate().NotAfter.Unix())),
		`salon_relay_leads 1`, `salon_relay_stopped 0`, `salon_relay_lag_seconds 0`, `salon_live_follows 1`, `salon_log_records_total{level="ERROR"} 0`,
		`salon_disk_free_bytes`, `salon_projection_still_seconds{partition="0",projection="stats_v1",topic="salon.booking.v1"} 0`,
	}
	wait(t, 2*time.Minute, func() string {
		body := "\n" + get(t, "http://"+metrics+"/metrics")
		left := missing[:0]
		for _, line := range missing {
			if !strings.Contains(body, "\n"+line) {
				left = append(left, line)
			}
		}
		missing = left
		return strings.Join(missing, "\n")
	})
}

// wait asks until there is nothing left to complain of.
func wait(t *testing.T, limit time.Duration, complaint func() string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for {
		why := complaint()
		if why == "" {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("after %v, still:\n%s", limit, why)
		case <-tick.C:
		}
	}
}

// get is the body of an answer; "" of a server that does not answer yet.
func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}
