package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore"
)

// worker owns one partition from its assignment to its revocation. It holds the claim: nothing looks an epoch up when
// it writes, so a worker that was replaced without noticing is refused by the target.
//
//	claim ──▶ take a batch ──▶ hand it to the Router ──▶ acked: next batch
//	  ▲                                                     │ nacked, or the log has a hole
//	  └──────────────── wait, longer each time ◀────────────┘
type worker struct {
	s     *subscriber
	part  int32
	log   *sync.Once // one line per outage
	owner owner
	gone  context.Context // ends when the partition was lost, or when a shutdown has waited long enough
	lose  context.CancelFunc
	stop  chan struct{} // closed: finish the running batch, then end
	halt  sync.Once
	done  chan struct{} // closed when run has returned
	wake  chan struct{} // one token: something below has changed

	started bool          // run was called
	gaps    int           // seen since the last batch
	began   time.Time     // the last batch
	took    time.Duration // the last batch, with all that it waited for

	mu       sync.Mutex
	pending  []*kgo.Record // fetched and not yet applied, without gaps
	tail     int64         // offset of the next record to be fetched
	paused   bool
	gap      bool  // a record was not the next one: fetch again from tail
	fetchErr error // the broker does not have what we asked for
	status   PartitionStatus
}

func newWorker(s *subscriber, part int32) *worker {
	w := &worker{
		s: s, part: part, log: new(sync.Once),
		stop: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
		status: PartitionStatus{Projection: s.r.Projection.ID(), Topic: s.topic, Part: part},
	}
	w.gone, w.lose = context.WithCancel(context.Background())
	return w
}

// end asks the worker to finish its batch.
func (w *worker) end() { w.halt.Do(func() { close(w.stop) }) }

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) stopped() bool {
	select {
	case <-w.stop:
		return true
	case <-w.gone.Done():
		return true
	default:
		return false
	}
}

func (w *worker) run() {
	defer close(w.done)
	defer w.lose()
	failures := 0
	for !w.stopped() {
		err := w.step()
		if err == nil {
			if failures > 0 {
				w.recovered()
			}
			failures = 0
			continue
		}
		if w.stopped() {
			return
		}
		failures++
		if !w.wait(w.failed(err, failures)) {
			return
		}
	}
}

// step claims the partition if it is not ours, or applies one batch.
func (w *worker) step() error {
	if w.owner == nil {
		if err := w.claim(w.gone); err != nil {
			return err
		}
		if w.owner.progress().NextOffset >= w.logEnd() {
			return nil // well again; with records waiting, not before one of their batches went through
		}
	}
	records, err := w.next()
	if err != nil {
		w.owner = nil
		return err
	}
	for len(records) > 0 {
		n, err := w.emit(records)
		w.took = time.Since(w.began)
		if err != nil {
			w.owner = nil
			return err
		}
		if n == 0 {
			return nil // asked to stop
		}
		records = records[n:]
		w.applied(n)
	}
	return nil
}

// claim takes the partition in the target and goes to where its progress is.
func (w *worker) claim(ctx context.Context) error {
	start, end, err := w.s.bounds(ctx, w.part)
	if err != nil {
		return err
	}
	o, err := w.s.target.claim(ctx, w.s.topic, w.part, end)
	if err != nil {
		return err
	}
	from := o.progress().NextOffset
	if from < start {
		return &LogStartError{Topic: w.s.topic, Part: w.part, Offset: from, Start: start}
	}
	// A broker that lost its tail ends below our offset. The relay fills it again, and may have begun to: where its end
	// is now is not where it was cut, so the log is read from its start. What we have is dropped by pos.
	if from > end {
		from = start
	}
	w.owner = o
	w.mu.Lock()
	w.status.Progress, w.status.LogEnd, w.status.Claimed = o.progress(), max(end, w.status.LogEnd), true
	w.mu.Unlock()
	w.position(from)
	return nil
}

// position drops what is held below from, and seeks when what is held does not lead there.
func (w *worker) position(from int64) {
	w.mu.Lock()
	seek := from > w.tail
	if len(w.pending) > 0 && from < w.pending[0].Offset || len(w.pending) == 0 && from != w.tail || w.fetchErr != nil {
		seek = true
	}
	if seek {
		w.pending, w.tail = nil, from
	} else {
		for len(w.pending) > 0 && w.pending[0].Offset < from {
			w.pending = w.pending[1:]
		}
	}
	w.fetchErr, w.gap = nil, false
	w.mu.Unlock()
	if !w.started {
		return // the client is told with the assignment
	}
	if seek {
		w.s.seek(w.part, from)
	}
	w.relieve()
}

// next waits for records and takes as many as one batch may have. They stay pending until they are applied.
func (w *worker) next() ([]*kgo.Record, error) {
	for {
		w.mu.Lock()
		records, err, gap, tail := w.pending, w.fetchErr, w.gap, w.tail
		w.gap = false
		w.mu.Unlock()
		if gap {
			if w.gaps++; w.gaps > 3 {
				return nil, fmt.Errorf("%s/%d: the log skips offset %d", w.s.topic, w.part, tail)
			}
			w.s.seek(w.part, tail)
		}
		if len(records) > 0 && len(records) < w.s.r.maxRecords() && !w.rest() {
			return nil, nil
		} else if len(records) > 0 {
			w.began = time.Now()
			w.mu.Lock()
			records = w.pending // more have come while it rested
			w.mu.Unlock()
			bytes := 0
			for i, r := range records {
				bytes += len(r.Value) + recordOverhead
				if i > 0 && (i == w.s.r.maxRecords() || bytes > maxBatchBytes) {
					return records[:i:i], nil
				}
			}
			return records[:len(records):len(records)], nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-w.wake:
		case <-w.stop:
			return nil, nil
		case <-w.gone.Done():
			return nil, nil
		}
	}
}

// restShare makes a worker leave a busy target alone for a while: what a batch costs is mostly its transaction, and one
// that took long has waited for others. Measured with everything in one process: resting four times as long as the last
// batch took, at most longestRest, makes batches larger and the commands a seventh to a half faster.
const restShare = 4

// longestRest is short on a server, whose transactions take long by their round trips and flushes and wait for nobody.
func (r *Runner) longestRest() time.Duration {
	if r.Alone {
		return 50 * time.Millisecond
	}
	return 0
}

// rest keeps batches at least the runner's pace apart, more when the target is busy. It returns false when the worker
// is to end.
func (w *worker) rest() bool {
	left := max(w.s.r.pace(), min(restShare*w.took, w.s.r.longestRest())) - time.Since(w.began)
	return left <= 0 || w.wait(left)
}

const (
	// A record's headers, roughly.
	recordOverhead = 1 << 10
	// One transaction's worth: enough to make the commit's cost small, little enough to fold in milliseconds.
	maxBatchBytes = 4 << 20
)

type batchKey struct{}

// emit sends one message, a batch, and waits for the Router's handler to be done with it: one in flight a partition
// is what keeps the order.
func (w *worker) emit(records []*kgo.Record) (int, error) {
	b := &batch{topic: w.s.topic, part: w.part, owner: w.owner, records: records}
	m := message.NewMessage("", nil)
	m.SetContext(context.WithValue(w.gone, batchKey{}, b))
	select {
	case w.s.out <- m:
	case <-w.stop:
		return 0, nil
	case <-w.gone.Done():
		return 0, w.gone.Err()
	}
	select {
	case <-m.Acked():
		return b.done, nil
	case <-m.Nacked():
		if b.err == nil {
			b.err = errors.New("the handler ended without an error")
		}
		return 0, b.err
	}
}

// applied lets go of n records.
func (w *worker) applied(n int) {
	w.gaps = 0
	w.mu.Lock()
	w.pending = w.pending[n:]
	w.status.Progress, w.status.Moved = w.owner.progress(), time.Now()
	w.mu.Unlock()
	w.relieve()
}

// deliver adds fetched records. Those before the tail were fetched twice; one after it means that the client skipped.
func (w *worker) deliver(records []*kgo.Record, logEnd int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.LogEnd = max(w.status.LogEnd, logEnd)
	if err != nil {
		w.fetchErr = err
	}
	for _, r := range records {
		if r.Offset < w.tail {
			continue
		}
		if r.Offset > w.tail {
			w.gap = true
			break
		}
		w.pending = append(w.pending, r)
		w.tail++
	}
	if !w.paused && len(w.pending) > 2*w.s.r.maxRecords() {
		w.paused = true
		w.s.pause(w.part)
	}
	w.signal()
}

// relieve resumes a partition that was paused because too much was pending.
func (w *worker) relieve() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused && len(w.pending) <= w.s.r.maxRecords() {
		w.paused = false
		w.s.resume(w.part)
	}
}

func (w *worker) logEnd() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.LogEnd
}

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
	var fold *foldError
	longest := 5 * time.Second // a server that is away
	switch {
	case errors.As(err, &unknown):
		return -1 // a release that knows the type will take the partition over
	case errors.Is(err, ErrFenced):
		// Whoever took the partition should keep it; taking it back at once would be a tug of war until our client
		// has heard of the rebalance. If it is still ours after that, it is ours.
		return r.fencedWait()
	case errors.As(err, &fold):
		longest = 30 * time.Second // the same event fails the same way until somebody changes something
	}
	return min(longest, 50*time.Millisecond<<min(n-1, 20))
}
