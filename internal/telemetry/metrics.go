package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the numbers of one process. Times are in seconds, as Prometheus has them.
type Metrics struct {
	requests    *prometheus.HistogramVec
	appendTime  prometheus.Histogram
	appendGroup prometheus.Histogram
	relayLag    prometheus.Gauge
	relayLagAge prometheus.Gauge
	lag         *prometheus.GaugeVec
	lagAge      *prometheus.GaugeVec
	up          *prometheus.GaugeVec
	registry    *prometheus.Registry
}

func newMetrics(reg *prometheus.Registry, version string) *Metrics {
	// From a cached append's tenth of a millisecond to a request that gave up.
	latency := []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}
	m := &Metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "salon_http_request_seconds", Help: "Time to answer an HTTP request.", Buckets: latency,
		}, []string{"method", "route", "status"}),
		appendTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "salon_append_commit_seconds", Help: "Time of one group commit of the event store.", Buckets: latency,
		}),
		appendGroup: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "salon_append_group_size", Help: "Commands that shared one commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		relayLag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "salon_relay_lag_events", Help: "Positions between the store's head and the relay. On EventStoreDB positions are not counts.",
		}),
		relayLagAge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "salon_relay_lag_seconds", Help: "How long the relay has been behind the store's head.",
		}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "salon_projection_lag_events", Help: "Records between the log's end and the stored offset.",
		}, []string{"projection", "topic", "partition"}),
		lagAge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "salon_projection_lag_seconds", Help: "How long a projection's partition has been behind the log's end.",
		}, []string{"projection", "topic", "partition"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "salon_projection_partition_stopped", Help: "1 while a partition is stopped by an error.",
		}, []string{"projection", "topic", "partition"}),
		registry: reg,
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "salon_build_info", Help: "The version that runs.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	reg.MustRegister(m.requests, m.appendTime, m.appendGroup, m.relayLag, m.relayLagAge, m.lag, m.lagAge, m.up, info)
	return m
}

// Request notes an answered HTTP request. The route is the pattern, never the path.
func (m *Metrics) Request(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// Commit notes one group commit of the event store.
func (m *Metrics) Commit(group int, took time.Duration) {
	m.appendGroup.Observe(float64(group))
	m.appendTime.Observe(took.Seconds())
}

// Relay notes how far the relay is behind.
func (m *Metrics) Relay(events uint64, behind time.Duration) {
	m.relayLag.Set(float64(events))
	m.relayLagAge.Set(behind.Seconds())
}

// Projection notes how far one partition of a projection is behind, and whether an error stopped it.
func (m *Metrics) Projection(projection, topic string, partition int32, events int64, behind time.Duration, stopped bool) {
	labels := []string{projection, topic, strconv.Itoa(int(partition))}
	m.lag.WithLabelValues(labels...).Set(float64(events))
	m.lagAge.WithLabelValues(labels...).Set(behind.Seconds())
	s := 0.0
	if stopped {
		s = 1
	}
	m.up.WithLabelValues(labels...).Set(s)
}

// Pool exposes a connection pool: open, in use, and how often somebody had to wait.
func (m *Metrics) Pool(name string, stats func() (open, inUse int, waited int64)) {
	gauge := func(metric, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: metric, Help: help, ConstLabels: prometheus.Labels{"pool": name},
		}, value))
	}
	gauge("salon_pool_open", "Open connections.", func() float64 { o, _, _ := stats(); return float64(o) })
	gauge("salon_pool_in_use", "Connections at work.", func() float64 { _, u, _ := stats(); return float64(u) })
	gauge("salon_pool_waits", "Times that somebody waited for a connection.", func() float64 { _, _, w := stats(); return float64(w) })
}
