package engine

import (
	"errors"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// What a partition does while it cannot go on: it says so once, and tries again, longer each time.

// failed notes why the partition stands still and says how long to leave it; a negative time is for good.
func (w *worker) failed(err error, failures int) time.Duration {
	w.mu.Lock()
	w.status.Error, w.status.Claimed = err.Error(), false
	if w.status.Since.IsZero() {
		w.status.Since = time.Now()
	}
	w.mu.Unlock()
	wait := w.s.r.backoff(failures, err)
	// The first failures of an outage may heal unseen: a rebalance, a lock, a connection that the server closed.
	if failures == 3 || wait < 0 {
		w.log.Do(func() {
			w.s.r.Log.Error("projection partition stopped", "projection", w.status.Projection, "topic", w.s.topic, "partition", w.part, "error", err)
		})
	}
	return wait
}

func (w *worker) recovered() {
	w.mu.Lock()
	since := w.status.Since
	w.status.Error, w.status.Since = "", time.Time{}
	w.mu.Unlock()
	logged := true
	w.log.Do(func() { logged = false })
	w.log = new(sync.Once)
	if logged {
		w.s.r.Log.Info("projection partition goes on", "projection", w.status.Projection, "topic", w.s.topic, "partition", w.part,
			"stopped_for", time.Since(since).String())
	}
}

// wait returns false when the worker is to end.
func (w *worker) wait(d time.Duration) bool {
	var after <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-after:
		return true
	case <-w.stop:
	case <-w.gone.Done():
	}
	return false
}

// backoff is how long a partition rests after its n-th failure in a row; negative: until it is assigned anew.
func (r *Runner) backoff(n int, err error) time.Duration {
	var unknown *eventstore.UnknownTypeError
	longest := 5 * time.Second // a server that is away
	switch {
	case errors.As(err, &unknown):
		return -1 // a release that knows the type will take the partition over
	case errors.Is(err, ErrFenced):
		// Whoever took the partition should keep it; taking it back at once would be a tug of war until our client
		// has heard of the rebalance. If it is still ours after that, it is ours.
		return r.fencedWait()
	case stubborn(err):
		longest = 30 * time.Second // the same event fails the same way until somebody changes something
	}
	return min(longest, 50*time.Millisecond<<min(n-1, 20))
}
