package telemetry

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func TestTheNumbersAreThereUnderTheirNames(t *testing.T) {
	t.Parallel()
	tel, err := New(t.Context(), Config{LogTo: &bytes.Buffer{}, Version: "v1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	m := tel.Metrics
	m.Request("GET", "/v1/groomers/:groomer_id", 200, 3*time.Millisecond)
	m.Commit(7, time.Millisecond)
	m.Relay(5, 2*time.Second)
	m.Stage("reservations_v1", "target", time.Millisecond)
	m.Projection("reservations_v1", "salon.booking.v1", 3, 11, time.Second, true, 5)
	m.Refills("slots_v1", "salon.booking.v1", 3, 2)
	m.Run("reservations_v2", "rebuild", "preparing", map[string]int64{"done": 0})
	m.Run("reservations_v2", "rebuild", "loading", map[string]int64{"done": 512, "per_second": 81_000})
	m.Run("reservations_v1", "verify", "comparing", map[string]int64{"rows": 7})
	m.Run("reservations_v1", "verify", "comparing", nil)
	m.Live(func() LiveNumbers { return LiveNumbers{Sockets: 3, WindowBytes: 4096, Messages: 17, Resyncs: 1} })
	m.LiveDelay(4 * time.Millisecond)
	m.Pool("reads", func() (int, int, int64) { return 4, 2, 9 })
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(tel.Registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`salon_http_request_seconds_count{method="GET",route="/v1/groomers/:groomer_id",status="200"} 1`,
		`salon_append_group_size_sum 7`,
		`salon_append_commit_seconds_count 1`,
		`salon_relay_lag_events 5`,
		`salon_relay_lag_seconds 2`,
		`salon_projection_lag_events{partition="3",projection="reservations_v1",topic="salon.booking.v1"} 11`,
		`salon_projection_lag_seconds{partition="3",projection="reservations_v1",topic="salon.booking.v1"} 1`,
		`salon_projection_partition_stopped{partition="3",projection="reservations_v1",topic="salon.booking.v1"} 1`,
		`salon_projection_filled_events{partition="3",projection="reservations_v1",topic="salon.booking.v1"} 5`,
		`salon_projection_refills{partition="3",projection="slots_v1",topic="salon.booking.v1"} 2`,
		`salon_projection_stage_seconds_count{projection="reservations_v1",stage="target"} 1`,
		`salon_projection_run{kind="rebuild",phase="loading",projection="reservations_v2",what="done"} 512`,
		`salon_projection_run{kind="rebuild",phase="loading",projection="reservations_v2",what="per_second"} 81000`,
		`salon_live_sockets 3`,
		`salon_live_window_bytes 4096`,
		`salon_live_messages_total 17`,
		`salon_live_resyncs_total 1`,
		`salon_live_delay_seconds_count 1`,
		`salon_pool_open{pool="reads"} 4`,
		`salon_pool_waits{pool="reads"} 9`,
		`salon_build_info{version="v1.2.3"} 1`,
	} {
		if !strings.Contains(rec.Body.String(), line+"\n") {
			t.Errorf("not exposed: %s", line)
		}
	}
	for _, over := range []string{"preparing", "verify"} {
		if strings.Contains(rec.Body.String(), over) {
			t.Errorf("still exposed: %s", over)
		}
	}
}

func TestTracesAreSentOnlyToAnEndpointThatIsGiven(t *testing.T) {
	t.Parallel()
	received := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { received <- r.URL.Path }))
	defer collector.Close()
	var log bytes.Buffer
	tel, err := New(t.Context(), Config{LogTo: &log, LogLevel: slog.LevelInfo, OTLPEndpoint: collector.URL + "/v1/traces"})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tel.Tracer.Start(t.Context(), "a request")
	span.End()
	if err := tel.Close(); err != nil {
		t.Fatal(err)
	}
	if path := <-received; path != "/v1/traces" {
		t.Errorf("sent to %s", path)
	}

	silent, err := New(t.Context(), Config{LogTo: &log})
	if err != nil {
		t.Fatal(err)
	}
	if _, span := silent.Tracer.Start(t.Context(), "a request"); span.SpanContext().IsValid() {
		t.Error("a span without an endpoint has a trace ID, which events would carry on")
	}
}
