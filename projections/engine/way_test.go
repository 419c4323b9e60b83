package engine

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestTheWayOfEachBatchIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqliteURL(t))
	p, _ := counters()
	seen := newProgress()
	r := w.runner(p, seen)
	var mu sync.Mutex
	var ways []Way
	r.Applied = func(a Applied) {
		mu.Lock()
		if !a.Way.Recorded.IsZero() { // markers have no way
			ways = append(ways, a.Way)
		}
		mu.Unlock()
		seen.applied(a)
	}
	w.log.addMany(5, 40)
	began := time.Now().Truncate(time.Millisecond)
	w.start(w.relay().Run)
	w.start(r.Run)
	seen.wait(t, w.log.last(w.partitions))
	mu.Lock()
	defer mu.Unlock()
	if len(ways) == 0 {
		t.Fatal("no batch told its way")
	}
	for _, way := range ways {
		if way.Recorded.After(began) || way.Logged.Before(began) || way.Fetched.Before(way.Logged) || way.Began.Before(way.Fetched) || way.Committed.Before(way.Began) {
			t.Errorf("a stage ended before it began, or was not told: %+v", way)
		}
	}
}

func TestHowLongAStageTook(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(ms)) }
	for name, c := range map[string]struct {
		way  Way
		want [len(Stages)]time.Duration
	}{
		"each stage":                    {Way{at(0), at(1), at(3), at(7), at(15)}, [...]time.Duration{1e6, 2e6, 4e6, 8e6}},
		"filled from the store":         {Way{Began: at(7), Committed: at(15)}, [...]time.Duration{0, 0, 0, 8e6}},
		"clocks that contradict others": {Way{at(5), at(1), at(3), at(7), at(15)}, [...]time.Duration{0, 2e6, 4e6, 8e6}},
	} {
		if got := c.way.Took(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestWhenRecordsCame(t *testing.T) {
	t.Parallel()
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	a := arrivals{{10, at(1)}, {13, at(2)}, {20, at(3)}}
	for _, c := range []struct{ offset, want int64 }{{10, 1}, {12, 1}, {13, 2}, {19, 2}, {20, 3}, {99, 3}} {
		if got := a.of(c.offset); !got.Equal(at(c.want)) {
			t.Errorf("offset %d came at %d, want %d", c.offset, got.Unix(), c.want)
		}
	}
	if len(a) != 1 {
		t.Errorf("%d arrivals are kept, want the last one", len(a))
	}
	if got := a.of(5); !got.IsZero() {
		t.Errorf("an offset that nothing is known of came at %v", got)
	}
}

// What is missing is as old as its first record: by the store's clock, or the log's where a record has no event.
func TestTheOldestThatIsMissingIsTheFirstRecordNotApplied(t *testing.T) {
	t.Parallel()
	recorded, logged := time.Date(2026, 11, 2, 3, 4, 5, 6000, time.UTC), time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)
	event := func(offset int64, at time.Time) *kgo.Record {
		return &kgo.Record{Offset: offset, Timestamp: logged, Headers: []kgo.RecordHeader{{Key: "ce_time", Value: []byte(at.Format(time.RFC3339Nano))}}}
	}
	w := newWorker(&subscriber{r: &Runner{}}, 0)
	defer w.lose()
	w.status.NextOffset, w.status.LogEnd = 7, 9
	if s := w.standing(); !s.Oldest.IsZero() {
		t.Errorf("nothing was fetched, and the oldest is of %v", s.Oldest)
	}
	w.pending = []*kgo.Record{event(6, recorded.Add(-time.Hour)), event(7, recorded), event(8, recorded.Add(time.Hour))}
	if s := w.standing(); !s.Oldest.Equal(recorded) {
		t.Errorf("the oldest is of %v, want %v", s.Oldest, recorded)
	}
	w.pending[1].Headers = nil
	if s := w.standing(); !s.Oldest.Equal(logged) {
		t.Errorf("of a marker: %v, want %v", s.Oldest, logged)
	}
}
