package ratelimit

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestABucketFillsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(4)
		taken := func() (n int) {
			for {
				wait, ok := l.Take("kim")
				if !ok {
					if wait != 250*time.Millisecond {
						t.Errorf("the next one in %v", wait)
					}
					return n
				}
				n++
			}
		}
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{0, 8}, {0, 0}, {time.Second, 4}, {250 * time.Millisecond, 1}, {time.Hour, 8}} {
			<-time.After(c.after)
			if got := taken(); got != c.want {
				t.Errorf("%d after %v, want %d", got, c.after, c.want)
			}
		}
		if _, ok := l.Take("lee"); !ok {
			t.Error("kim took from lee")
		}
	})
}

func TestRatesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, r := range []float64{0, -1, math.NaN(), math.Inf(-1), math.Inf(1)} {
		l := New(r)
		for range 100 {
			if _, ok := l.Take("kim"); !ok {
				t.Errorf("%v a second is a limit", r)
			}
		}
	}
	l := New(math.SmallestNonzeroFloat64)
	if _, ok := l.Take("kim"); !ok {
		t.Error("a burst of one is none")
	}
	if wait, ok := l.Take("kim"); ok || wait <= 0 {
		t.Errorf("again after %v, %v", wait, ok)
	}
}

// However many call at once, one subject gets its burst.
func TestManyAtOnceShareABucket(t *testing.T) {
	t.Parallel()
	l := New(0.001)
	l.burst = 7
	var took atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if _, ok := l.Take("kim"); ok {
					took.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if took.Load() != 7 {
		t.Errorf("%d of a burst of 7", took.Load())
	}
}

// Whoever makes names up neither fills the memory nor gets those forgotten who are being held back, while others have
// full buckets.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(1)
		for i := range maxSubjects - 1 {
			l.Take(fmt.Sprint(i))
		}
		<-time.After(time.Minute) // their buckets are full
		for range 3 {
			l.Take("kim")
		}
		for i := range maxSubjects {
			l.Take(fmt.Sprint("made up ", i))
			if len(l.subjects) > maxSubjects {
				t.Fatalf("%d subjects", len(l.subjects))
			}
			if i == 10_000 {
				if _, ok := l.Take("kim"); ok {
					t.Error("kim was forgotten")
				}
			}
		}
	})
}
