package telemetry

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// board shows numbers that are taken together, as they were taken last. What a later look does not have is not shown any
// more: a partition that moved to another process would otherwise stand here for ever, as far behind as it was then.
type board struct {
	families []*prometheus.Desc
	last     atomic.Pointer[[]prometheus.Metric]
}

// family adds a gauge with these labels.
func (b *board) family(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(name, help, labels, nil)
	b.families = append(b.families, d)
	return d
}

// show takes the place of what was shown.
func (b *board) show(s sheet) {
	all := []prometheus.Metric(s)
	b.last.Store(&all)
}

func (b *board) Describe(to chan<- *prometheus.Desc) {
	for _, d := range b.families {
		to <- d
	}
}

func (b *board) Collect(to chan<- prometheus.Metric) {
	if last := b.last.Load(); last != nil {
		for _, m := range *last {
			to <- m
		}
	}
}

// sheet is what one look found.
type sheet []prometheus.Metric

func (s *sheet) add(of *prometheus.Desc, value float64, labels ...string) {
	*s = append(*s, prometheus.MustNewConstMetric(of, prometheus.GaugeValue, value, labels...))
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
