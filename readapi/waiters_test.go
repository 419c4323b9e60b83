package readapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// BenchmarkTenThousandWait says what 10,000 reads that wait for their tokens cost one node, in percent of a core: this
// process's processor time while they wait, with 8 projections of 8 partitions that move on all the time.
func BenchmarkTenThousandWait(b *testing.B) {
	const waiters, topicParts, of = 10_000, 8, 8
	db, err := reads.Open(b.Context(), harness.MySQL(b))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	exec := func(query string, args ...any) {
		if _, err := db.Writer().ExecContext(b.Context(), query, args...); err != nil {
			b.Fatal(err)
		}
	}
	exec("INSERT INTO projection_topics (topic, partitions, topic_id) VALUES (?, ?, 'id')", booking, topicParts)
	for p := range of {
		name := reservations.Projection().ID()
		if p > 0 {
			name = fmt.Sprintf("other_v%d", p)
		}
		for part := range topicParts {
			exec("INSERT INTO projection_offsets (projection, topic, part, epoch, claim, commit_seq, next_offset, last_pos, last_recorded_at, incarnation, updated_at) "+
				"VALUES (?, ?, ?, 1, 'c', 0, 1, 1, 1, ?, 1)", name, booking, part, life)
		}
	}
	used := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	// What moves the projections costs this process too: that is measured by itself, and taken off.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	move := func(each func()) (cores float64, lasted time.Duration) {
		before, began := used(), time.Now()
		for moved := 0; time.Since(began) < 3*time.Second; moved++ {
			exec("UPDATE projection_offsets SET last_pos = last_pos + 1 WHERE part = ?", moved%topicParts)
			each()
			<-tick.C
		}
		lasted = time.Since(began)
		return (used() - before).Seconds() / lasted.Seconds(), lasted
	}
	alone, _ := move(func() {})
	c := NewConsistency(db, nil)
	var looks atomic.Int64
	look := c.waiting.look
	c.waiting.look = func(ctx context.Context, of []string) ([]engine.Place, error) {
		looks.Add(1)
		return look(ctx, of)
	}
	waits := func() int {
		c.waiting.mu.Lock()
		defer c.waiting.mu.Unlock()
		return c.waiting.count
	}
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	for i := range waiters {
		all.Go(func() {
			missing := lags{{projection: reservations.Projection().ID(), topic: booking, part: int32(i % topicParts), want: uint64(1<<40 + i), incarnation: life}} //nolint:gosec // small
			if err := c.waiting.until(ctx, missing); !errors.Is(err, context.Canceled) {
				b.Error(err)
			}
		})
	}
	for waits() < waiters {
		<-tick.C
	}
	for _, load := range []struct {
		name  string
		fresh bool // somebody has always come just now: looks are as frequent as they get
	}{{"", false}, {"(newcomers)", true}} {
		looked := looks.Load()
		cores, lasted := move(func() {
			if load.fresh {
				c.waiting.mu.Lock()
				c.waiting.came = time.Now()
				c.waiting.mu.Unlock()
			}
		})
		b.ReportMetric(100*(cores-alone), "%core"+load.name)
		b.ReportMetric(float64(looks.Load()-looked)/lasted.Seconds(), "looks/s"+load.name)
	}
	b.ReportMetric(0, "ns/op")
	cancel()
	all.Wait()
}
