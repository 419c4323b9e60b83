package telemetry

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the numbers of one process. Times are in seconds, as Prometheus has them.
type Metrics struct {
	requests    *prometheus.HistogramVec
	appendTime  prometheus.Histogram
	appendGroup prometheus.Histogram
	stages      *prometheus.HistogramVec
	runs        *prometheus.GaugeVec
	timersDue   prometheus.Gauge
	timersLate  prometheus.Gauge
	notified    *prometheus.CounterVec
	tableReads  *prometheus.CounterVec
	liveDelay   prometheus.Histogram
	logged      *prometheus.CounterVec
	relay       *relayBoard
	partitions  *partitionBoard
	system      *systemBoard
	registry    prometheus.Registerer
}

func newMetrics(reg prometheus.Registerer, version string) *Metrics {
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
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "salon_projection_stage_seconds", Buckets: latency,
			Help: "How long the first event of each batch took: relay, from the store to the log; kafka, from there to the projector; engine, until its batch began; target, the batch with its transaction.",
		}, []string{"projection", "stage"}),
		runs: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "salon_projection_run",
			Help: "How the rebuild, verification or drop that this process works on is: done and total (slices, records or rows, by phase), events, rows, and per_second.",
		}, []string{"projection", "kind", "phase", "what"}),
		timersDue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "salon_timers_due", Help: "Timers whose time has come and whose effect has not come back yet.",
		}),
		timersLate: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "salon_timers_late_seconds", Help: "How long the oldest of them has been due.",
		}),
		notified: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "salon_notifications_total", Help: "Notifications that this process sent, parked, or found too old to send.",
		}, []string{"outcome"}),
		tableReads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "salon_table_reads_total",
			Help: "Reads of the reads database, by the copy that answered. why tells, of the primary, what kept the replica from it: late, behind (of the read's token) or failed.",
		}, []string{"copy", "why"}),
		liveDelay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "salon_live_delay_seconds", Help: "From when a message was recorded until it was sent to a socket that had all before it.", Buckets: latency,
		}),
		logged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "salon_log_records_total", Help: "Lines of the log, by level. An error is something that a person must act on.",
		}, []string{"level"}),
		relay:      newRelayBoard(),
		partitions: newPartitionBoard(),
		system:     newSystemBoard(),
		registry:   reg,
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "salon_build_info", Help: "The version that runs.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	// From the start: of a counter that appears with its first error, nobody sees that it grew.
	m.logged.WithLabelValues(slog.LevelError.String())
	m.notified.WithLabelValues("parked")
	reg.MustRegister(m.requests, m.appendTime, m.appendGroup, m.stages, m.runs, m.timersDue, m.timersLate, m.notified, m.tableReads, m.liveDelay, m.logged,
		m.relay, m.partitions, m.system, info)
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

// Timers notes how many timers are due, and how long the oldest has been.
func (m *Metrics) Timers(due int, late time.Duration) {
	m.timersDue.Set(float64(due))
	m.timersLate.Set(late.Seconds())
}

// Stage notes how long one stage of the way to a projection's rows took of one event.
func (m *Metrics) Stage(projection, stage string, took time.Duration) {
	m.stages.WithLabelValues(projection, stage).Observe(took.Seconds())
}

// Run notes how a run on a projection's version is; of one that has ended, numbers is nil, and nothing is shown any more.
func (m *Metrics) Run(projection, kind, phase string, numbers map[string]int64) {
	m.runs.DeletePartialMatch(prometheus.Labels{"projection": projection, "kind": kind})
	for what, n := range numbers {
		m.runs.WithLabelValues(projection, kind, phase, what).Set(float64(n))
	}
}

// Notification notes what became of a notification that was to leave the system.
func (m *Metrics) Notification(outcome string) { m.notified.WithLabelValues(outcome).Inc() }

// TableRead notes which copy of the reads database answered, and why not the replica.
func (m *Metrics) TableRead(copy, why string) { m.tableReads.WithLabelValues(copy, why).Inc() }

// Replica exposes how old the replica of the reads database may be at most, and whether it answers reads.
func (m *Metrics) Replica(age func() (time.Duration, bool), serves func() bool) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "salon_reads_replica_age_seconds", Help: "How long ago the replica of the reads database was last seen to have all that its primary had; -1 before the first time.",
	}, func() float64 {
		if a, known := age(); known {
			return a.Seconds()
		}
		return -1
	}), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "salon_reads_replica_serves", Help: "1 while reads go to the replica of the reads database.",
	}, func() float64 {
		if serves() {
			return 1
		}
		return 0
	}))
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

// Disk exposes how full the file system is that this process writes to.
func (m *Metrics) Disk(now func() (free, size int64)) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "salon_disk_free_bytes", Help: "Free on the file system of this process's folder."},
			func() float64 { free, _ := now(); return float64(free) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "salon_disk_size_bytes", Help: "Size of that file system."},
			func() float64 { _, size := now(); return float64(size) }),
	)
}

// LiveNumbers are what the live gateway counts.
type LiveNumbers struct {
	Follows                                                 bool  // it hears the log, now
	Sockets, Rooms, WindowBytes                             int   // now
	Messages, Frames, Bytes, Resyncs, PageReads, StoreReads int64 // since the start
}

// Live exposes a live gateway's numbers.
func (m *Metrics) Live(numbers func() LiveNumbers) {
	gauge := func(name, help string, value func(LiveNumbers) int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value(numbers())) }))
	}
	gauge("salon_live_follows", "1 while this process hears the log of chat.", func(n LiveNumbers) int { return int(one(n.Follows)) })
	counter := func(name, help string, value func(LiveNumbers) int64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(numbers())) }))
	}
	gauge("salon_live_sockets", "Open sockets.", func(n LiveNumbers) int { return n.Sockets })
	gauge("salon_live_rooms", "Rooms that this process remembers.", func(n LiveNumbers) int { return n.Rooms })
	gauge("salon_live_window_bytes", "Messages that this process remembers, about.", func(n LiveNumbers) int { return n.WindowBytes })
	counter("salon_live_messages_total", "Messages sent to sockets.", func(n LiveNumbers) int64 { return n.Messages })
	counter("salon_live_frames_total", "Frames sent to sockets, of all kinds.", func(n LiveNumbers) int64 { return n.Frames })
	counter("salon_live_bytes_total", "Bytes of these frames.", func(n LiveNumbers) int64 { return n.Bytes })
	counter("salon_live_resyncs_total", "Subscriptions that fell behind, and were told to begin again.", func(n LiveNumbers) int64 { return n.Resyncs })
	counter("salon_live_page_reads_total", "Pages of older messages that had to be read, since the windows did not have them.", func(n LiveNumbers) int64 { return n.PageReads })
	counter("salon_live_store_reads_total", "Pages of older messages that the event store gave, since the read model did not.", func(n LiveNumbers) int64 { return n.StoreReads })
}

// LiveDelay notes how long a message took to a socket.
func (m *Metrics) LiveDelay(took time.Duration) { m.liveDelay.Observe(took.Seconds()) }
