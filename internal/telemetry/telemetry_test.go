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
	m.Relay(Relay{Leads: true, Lag: &RelayLag{9, time.Minute}})
	m.Relay(Relay{Leads: true, Lag: &RelayLag{5, 2 * time.Second}})
	m.Stage("reservations_v1", "target", time.Millisecond)
	m.Partitions([]Partition{{Projection: "lost_v1", Topic: "salon.booking.v1", Part: 4, Lag: 7}})
	m.Partitions([]Partition{
		{Projection: "reservations_v1", Topic: "salon.booking.v1", Part: 3, Lag: 11, Behind: time.Second, Still: time.Minute, Stopped: true, Filled: 5},
		{Projection: "slots_v1", Topic: "salon.booking.v1", Part: 3, View: true, Refills: 2},
	})
	m.System(System{
		Servers: map[string]bool{"events": true, "redis": false},
		Replicas: map[string][]Replica{
			"events": {{"standby", new(time.Second), nil}, {"standby", new(3 * time.Second), nil}}, "redis": {},
			"reads": {{"a", new(time.Second), new(true)}, {"b", nil, new(false)}, {"c", nil, nil}},
		},
		Projections: []Projection{{Version: "stats_v1", State: "stuck", Serves: true, Behind: time.Minute, Parked: 2}},
		Lookups:     new(time.Duration), Erasures: new(int),
		Disks:  []Disk{{2, "/data", 8, 100}},
		Fronts: []Front{{URL: "https://salon.example/healthz", Up: true, Took: time.Second, Expires: time.Unix(1_800_000_000, 0)}},
	})
	m.Disk(func() (int64, int64) { return 30, 100 })
	tel.Log.ErrorContext(t.Context(), "a projection stopped")
	m.Run("reservations_v2", "rebuild", "preparing", map[string]int64{"done": 0})
	m.Run("reservations_v2", "rebuild", "loading", map[string]int64{"done": 512, "per_second": 81_000})
	m.Run("reservations_v1", "verify", "comparing", map[string]int64{"rows": 7})
	m.Run("reservations_v1", "verify", "comparing", nil)
	m.Live(func() LiveNumbers {
		return LiveNumbers{Follows: true, Sockets: 3, WindowBytes: 4096, Messages: 17, Resyncs: 1}
	})
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
		`salon_projection_still_seconds{partition="3",projection="reservations_v1",topic="salon.booking.v1"} 60`,
		`salon_relay_leads 1`,
		`salon_relay_stopped 0`,
		`salon_server_up{server="events"} 1`,
		`salon_server_up{server="redis"} 0`,
		`salon_replicas{server="events"} 2`,
		`salon_replicas{server="redis"} 0`,
		`salon_replica_behind_seconds{replica="standby",server="events"} 3`,
		`salon_replicas{server="reads"} 2`,
		`salon_replica_behind_seconds{replica="a",server="reads"} 1`,
		`salon_replica_runs{replica="a",server="reads"} 1`,
		`salon_replica_runs{replica="b",server="reads"} 0`,
		`salon_projection_state{projection="stats_v1",serves="yes",state="stuck"} 1`,
		`salon_projection_behind_seconds{projection="stats_v1"} 60`,
		`salon_projection_parked_keys{projection="stats_v1"} 2`,
		`salon_lookups_behind_seconds 0`,
		`salon_erasures_owed 0`,
		`salon_kafka_disk_free_bytes{broker="2",folder="/data"} 8`,
		`salon_front_up{url="https://salon.example/healthz"} 1`,
		`salon_front_certificate_expires_timestamp_seconds{url="https://salon.example/healthz"} 1.8e+09`,
		`salon_disk_free_bytes 30`,
		`salon_log_records_total{level="ERROR"} 1`,
		`salon_live_follows 1`,
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
	// What is not known is not shown, and what another process has now, neither.
	for _, over := range []string{"preparing", "verify", "lost_v1", `behind_seconds{replica="b"`, `runs{replica="c"`, "salon_seals_behind_seconds", "salon_kafka_under_replicated_partitions"} {
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
