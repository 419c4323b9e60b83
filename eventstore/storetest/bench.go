package storetest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// Bench measures durable appends of one event of 300 bytes by 1, 32, 64 and 256 callers, each to a stream of its own,
// as the command layer would: with the exact revision.
func Bench(b *testing.B, open func(b testing.TB) eventstore.Store) {
	for _, callers := range []int{1, 32, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := open(b)
			data, metadata := []byte(strings.Repeat("x", 300)), []byte(`{"command":"bench"}`)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			began := processorTime()
			var all sync.WaitGroup
			for n := range callers {
				all.Go(func() {
					stream := fmt.Sprintf("bench-%d-%d", b.N, n)
					last := eventstore.NoStream
					for left.Add(-1) >= 0 {
						command := uuid.New()
						a := eventstore.Append{
							Stream: stream, Key: stream, Expected: last, Metadata: metadata, DecidedAt: time.Now(),
							Command: eventstore.Command{ID: command, RequestHash: data[:32], Actor: "customer:bench"},
						}
						a.Events = []eventstore.NewEvent{{ID: eventstore.EventID(command, stream, 0), Type: "bench.v1", Data: data}}
						done, err := s.Append(b.Context(), a)
						if err != nil {
							b.Error(err)
							return
						}
						last = done.LastRevision
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64((processorTime()-began).Microseconds())/float64(b.N), "cpu-µs/append")
		})
	}
}

// processorTime is what this process has used of the processors: it says more than the rate on a machine with company.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
