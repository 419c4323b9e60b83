package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

func BenchmarkPlanAndFold(b *testing.B) {
	p, _ := counters()
	l := newLog()
	l.addMany(100, 1000)
	records := l.records(0, 1)
	d := newDecoder(eventstore.NewCodec(catalog()), p)
	b.ReportAllocs()
	for b.Loop() {
		batch := &batch{records: records}
		if err := d.plan(batch, Progress{}); err != nil {
			b.Fatal(err)
		}
		u := NewUnit()
		if err := u.Replay(p, batch.events...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(records)), "µs/event")
}

// Eight projections over one topic in one process, from the store to SQLite: what embedded mode can sustain.
func BenchmarkEmbeddedProjections(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				embeddedRun(b, n, 20_000)
			}
		})
	}
}

func embeddedRun(b *testing.B, projections, events int) {
	w := newWorld(b, "sqlite:"+b.TempDir()+"/reads.db")
	w.log.addMany(500, events)
	want := w.log.last(w.partitions)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	done := make(chan error, projections+1)
	go func() { done <- w.relay().Run(ctx) }()
	var all []*progress
	for range projections {
		p, _ := counters()
		seen := newProgress()
		all = append(all, seen)
		go func() { done <- w.runner(p, seen).Run(ctx) }()
	}
	for _, seen := range all {
		seen.wait(b, want)
	}
	b.ReportMetric(float64(events)/time.Since(began).Seconds(), "events/s")
	cancel()
	for range projections + 1 {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}
