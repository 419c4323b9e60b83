package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

func BenchmarkPlanAndFold(b *testing.B) {
	p, _ := counters()
	l := newLog()
	l.addMany(100, 1000)
	records := l.records(0, 1)
	d := newDecoder(eventstore.NewCodec(catalog()), p, nil)
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
			const events = 20_000
			for b.Loop() {
				w, stop := embedded(b, n)
				began := time.Now()
				w.log.addMany(500, events)
				want := w.log.last(w.partitions)
				for _, seen := range w.seen {
					seen.wait(b, want)
				}
				b.ReportMetric(events/time.Since(began).Seconds(), "events/s")
				stop()
			}
		})
	}
}

// Time from an append to the commit of the last of eight projections that has it, at a steady rate.
func BenchmarkLatency(b *testing.B) {
	for _, rate := range []int{100, 1000, 7000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			for b.Loop() {
				w, stop := embedded(b, 8)
				w.log.addMany(50, 500)
				for _, seen := range w.seen {
					seen.wait(b, w.log.last(w.partitions))
				}
				var cpu syscall.Rusage
				_ = syscall.Getrusage(syscall.RUSAGE_SELF, &cpu)
				began, before := time.Now(), time.Duration(cpu.Utime.Nano()+cpu.Stime.Nano())
				var took []time.Duration
				tick := time.NewTicker(time.Second / time.Duration(min(rate, 500)))
				added := 0
				for time.Since(began) < 3*time.Second {
					<-tick.C
					at := time.Now()
					n := int(time.Since(began).Seconds()*float64(rate)) - added
					if n <= 0 {
						continue
					}
					w.log.addMany(50, n)
					added += n
					if rate <= 1000 && added%7 == 0 {
						for _, seen := range w.seen {
							seen.wait(b, w.log.last(w.partitions))
						}
						took = append(took, time.Since(at))
					}
				}
				tick.Stop()
				fed := time.Now()
				for _, seen := range w.seen {
					seen.wait(b, w.log.last(w.partitions))
				}
				took = append(took, time.Since(fed))
				_ = syscall.Getrusage(syscall.RUSAGE_SELF, &cpu)
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
				b.ReportMetric((time.Duration(cpu.Utime.Nano()+cpu.Stime.Nano())-before).Seconds()/time.Since(began).Seconds(), "cores")
				stop()
			}
		})
	}
}

type benchWorld struct {
	*world
	seen []*progress
}

func embedded(b *testing.B, projections int) (w benchWorld, stop func()) {
	w.world = newWorld(b, "sqlite:"+filepath.Join(b.TempDir(), "reads.db"))
	stops := []func(){w.start(w.relay().Run)}
	shared := &Shared{}
	for range projections {
		p, _ := counters()
		seen := newProgress()
		r := w.runner(p, seen)
		r.Shared = shared
		w.seen = append(w.seen, seen)
		stops = append(stops, w.start(r.Run))
	}
	return w, func() {
		for _, s := range stops {
			s()
		}
	}
}
