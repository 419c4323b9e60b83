package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"
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

	started  bool          // run was called
	gaps     int           // seen since the last batch
	began    time.Time     // the last batch
	took     time.Duration // the last batch, with all that it waited for
	lookedAt time.Time     // when a target that forgets was last looked at
	isolation
	retrying

	mu       sync.Mutex
	pending  []*kgo.Record // fetched and not yet applied, without gaps
	tail     int64         // offset of the next record to be fetched
	came     arrivals      // of what is pending
	paused   bool
	gap      bool  // a record was not the next one: fetch again from tail
	heard    int64 // tail at the last look at the log's end
	silent   int   // looks since then
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
	claimed := w.owner == nil
	if claimed {
		if err := w.claim(w.gone); err != nil {
			return err
		}
	}
	if err := w.whole(); err != nil {
		w.owner = nil
		return err
	}
	if claimed {
		if w.owner.progress().NextOffset >= w.logEnd() {
			return nil // well again; with records waiting, not before one of their batches went through
		}
	}
	if err := w.retry(); err != nil {
		w.owner = nil
		return err
	}
	records, err := w.next()
	if err != nil {
		w.owner = nil
		return err
	}
	for len(records) > 0 {
		b, err := w.emit(records[:w.prefix(len(records))])
		w.took = time.Since(w.began)
		if b == nil && err == nil {
			return nil // asked to stop
		}
		if poison(err) {
			err = w.isolate(b)
		} else if err == nil {
			w.passed(b)
		}
		if err != nil {
			w.owner = nil
			return err
		}
		records = records[b.done:]
		w.applied(b.done)
	}
	return nil
}

// claim takes the partition in the target and goes to where its progress is.
func (w *worker) claim(ctx context.Context) error {
	start, end, err := w.s.bounds(ctx, w.part)
	if err != nil {
		return err
	}
	if err := w.s.same(ctx); err != nil {
		return err
	}
	o, err := w.s.target.claim(ctx, w.s.topic, w.part, end)
	if err != nil {
		return err
	}
	from := o.progress().NextOffset
	// Retention took records unread: the first one that is left names its predecessor, and what is missing is filled.
	from = max(from, start)
	// A broker that lost its tail ends below our offset. The relay fills it again, and may have begun to: where its end
	// is now is not where it was cut, so the log is read from its start. What we have is dropped by pos.
	if from > end {
		from = start
	}
	w.owner = o
	w.mu.Lock()
	w.status.Progress, w.status.LogEnd, w.status.Claimed, w.status.Parked = o.progress(), max(end, w.status.LogEnd), true, len(o.parked())
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
		w.pending, w.tail, w.came = nil, from, nil
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
		if err := w.look(); err != nil {
			return nil, err
		}
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
		case <-w.lookAgain():
			return nil, nil
		case <-w.lookDue():
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
func (w *worker) emit(records []*kgo.Record) (*batch, error) {
	w.mu.Lock()
	fetched, apart := w.came.of(records[0].Offset), w.strikes > 0 || !w.status.Since.IsZero()
	w.mu.Unlock()
	b := &batch{
		topic: w.s.topic, part: w.part, partitions: w.s.partitions, owner: w.owner, records: records,
		most: w.most(), apart: apart, way: wayOf(records, fetched),
	}
	m := message.NewMessage("", nil)
	m.SetContext(context.WithValue(w.gone, batchKey{}, b))
	select {
	case w.s.out <- m:
	case <-w.stop:
		return nil, nil
	case <-w.gone.Done():
		return nil, w.gone.Err()
	}
	select {
	case <-m.Acked():
		w.healed(b.filled)
		return b, nil
	case <-m.Nacked():
		if b.err == nil {
			b.err = errors.New("the handler ended without an error")
		}
		return b, b.err
	}
}

// healed notes what came from the store.
func (w *worker) healed(events int) {
	if events == 0 {
		return
	}
	w.mu.Lock()
	w.status.Filled += int64(events)
	w.mu.Unlock()
	w.s.r.Log.Warn("projection healed a hole in the log", "projection", w.status.Projection, "topic", w.s.topic, "partition", w.part, "events", events)
}

// applied lets go of n records.
func (w *worker) applied(n int) {
	w.gaps = 0
	w.mu.Lock()
	w.pending = w.pending[n:]
	w.status.Progress, w.status.Parked, w.status.Moved = w.owner.progress(), len(w.owner.parked()), time.Now()
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
	before := w.tail
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
	if w.tail > before {
		w.came = append(w.came, arrival{before, time.Now()})
	}
	if !w.paused && len(w.pending) > 2*w.s.r.maxRecords() {
		w.paused = true
		w.s.pause(w.part)
	}
	w.signal()
}

// hears notes where the log ends, and tells for how many looks nothing has come of what there is.
func (w *worker) hears(end int64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.LogEnd = max(w.status.LogEnd, end)
	if len(w.pending) > 0 || !w.status.Claimed || w.tail >= end || w.tail != w.heard {
		w.silent, w.heard = 0, w.tail
		return 0
	}
	w.silent++
	return w.silent
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

// standing is how the partition is doing.
func (w *worker) standing() PartitionStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.status
	for _, r := range w.pending {
		if r.Offset >= out.NextOffset {
			out.Oldest = RecordedAt(r)
			break
		}
	}
	return out
}

func (w *worker) logEnd() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.LogEnd
}
