package rebuild

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
)

// BenchmarkVersions tells how long a verification of two versions takes for each row, one that holds a version to the store,
// and a switch: of 100,000 keys with as many notes, on MySQL, while nothing else goes on.
func BenchmarkVersions(b *testing.B) {
	harness.NeedsServers(b)
	w := newWorld(b, harness.MySQL(b), toy(nil))
	w.store.addMany(100_000, 100_000)
	w.caughtUp(w.newest.Earlier[0])
	w.start(w.worker().Run)
	w.ask(Request{Kind: Rebuild, Projection: "toy", Options: Options{Pace: Full}})
	rate := func(name string, o Options) {
		var rows int64
		var took time.Duration
		for range b.N {
			r := w.ask(Request{Kind: Verify, Projection: "toy@2", Options: o})
			if !r.Report.Equal() {
				b.Fatalf("%+v", r)
			}
			rows, took = rows+r.Rows, took+r.EndedAt.Sub(r.StartedAt)
		}
		b.ReportMetric(float64(rows)/took.Seconds(), name)
	}
	b.ResetTimer()
	rate("verified-rows/s", Options{})
	rate("fresh-rows/s", Options{Fresh: true})
	var took time.Duration
	for i := range 2 * b.N {
		kind := Switch
		if i%2 == 1 {
			kind = Rollback
		}
		began := time.Now()
		if _, err := w.desk.Ask(b.Context(), Request{Kind: kind, Projection: "toy"}); err != nil {
			b.Fatal(err)
		}
		took += time.Since(began)
	}
	b.ReportMetric(took.Seconds()*1000/float64(2*b.N), "ms/switch")
}

// BenchmarkLiveLag tells how long an event takes from the store into the rows of the version that serves, at 500 a second,
// while another version is built from half a million at the normal pace, on MySQL.
func BenchmarkLiveLag(b *testing.B) {
	harness.NeedsServers(b)
	for range b.N {
		w := newWorld(b, harness.MySQL(b), toy(nil))
		w.store.addMany(50_000, 500_000)
		w.caughtUp(w.newest.Earlier[0])
		w.start(w.worker().Run)
		r, err := w.desk.Ask(b.Context(), Request{Kind: Rebuild, Projection: "toy"})
		must(b, err)
		w.until(r.ID, func(r Run) bool { return r.Phase == Loading })
		var lags []time.Duration
		type sent struct {
			pos uint64
			at  time.Time
		}
		waiting := map[int32][]sent{}
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; !r.Ended() || len(lags) < i; i++ {
			<-tick.C
			if !r.Ended() {
				key := fmt.Sprintf("live-%d", i%100)
				part := engine.PartitionOf(key, partitions)
				waiting[part] = append(waiting[part], sent{w.store.add(key, added{int64(i)}), time.Now()})
			} else {
				i--
			}
			places, err := engine.PlacesOf(b.Context(), w.db.Reader(), []string{w.newest.Earlier[0].ID()})
			must(b, err)
			for _, at := range places {
				some := waiting[at.Part]
				for len(some) > 0 && some[0].pos <= at.LastPos {
					lags, some = append(lags, time.Since(some[0].at)), some[1:]
				}
				waiting[at.Part] = some
			}
			if i%100 == 0 {
				r, err = w.desk.Run(b.Context(), r.ID)
				must(b, err)
			}
		}
		slices.Sort(lags)
		b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(lags[len(lags)-1].Microseconds())/1000, "most-ms")
		b.ReportMetric(float64(r.Rate), "rebuilt/s")
		b.ReportMetric(float64(len(lags)), "events")
	}
}
