package readapi

import (
	"container/heap"
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
)

// The time between two looks while somebody waits: at first a small part of the usual few tens of milliseconds between
// a write and its rows, at most 250 queries a second however many wait. When nobody has come lately, it grows with how
// long the latest one has waited, so that it adds little to any wait.
const (
	shortestPeriod = 4 * time.Millisecond
	longestPeriod  = 100 * time.Millisecond
	periodShare    = 16
	// Looks take at most a tenth of the time of the one who looks, which is less than a twentieth of a processor: the
	// larger part of a look is the database's. A slow one alone does not make the next late.
	lookShare  = 10
	lookPeriod = 20 * time.Millisecond
)

// waiting lets any number of reads wait for projections to move, with one of them looking at where they stand for all.
//
// Whoever holds the baton looks until its own wish is met, and passes the baton on. So nobody looks while nobody waits,
// and there is no goroutine to start or stop. Wishes stand in a queue for each partition of a projection, the nearest
// position first: what a look costs depends on how many partitions there are and how many wishes it meets, not on how
// many wait.
type waiting struct {
	// look reads where the partitions of these projections (by ID) stand.
	look  func(ctx context.Context, projections []string) ([]engine.Place, error)
	baton chan struct{}
	fresh chan struct{} // one token: somebody came

	mu     sync.Mutex
	queues map[spot]*queue
	wanted map[string]int // projection ID → lags that name it
	count  int
	came   time.Time // when the latest wish came
}

// spot is what a wish waits for first: a position of one partition in one life of the store, or, with part unknownPart,
// that the projection has begun with the topic at all.
type spot struct {
	projection, topic string
	part              int32
	incarnation       string
}

// wish is a read that waits until nothing of left is missing. It stands in the queue of the first of them.
type wish struct {
	left  lags
	named lags // all of them, as they were given
	met   chan struct{}
	index int // in its queue; -1: in none
}

func (w *wish) spot() spot {
	l := w.left[0]
	if l.part == unknownPart {
		return spot{projection: l.projection, topic: l.topic, part: unknownPart}
	}
	return spot{l.projection, l.topic, l.part, l.incarnation}
}

// queue is a heap by position.
type queue []*wish

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].left[0].want < q[j].left[0].want }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *queue) Push(x any)        { w := x.(*wish); w.index = len(*q); *q = append(*q, w) }

func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = nil
	*q = (*q)[:len(*q)-1]
	last.index = -1
	return last
}

func newWaiting(look func(context.Context, []string) ([]engine.Place, error)) *waiting {
	w := &waiting{
		look: look, baton: make(chan struct{}, 1), fresh: make(chan struct{}, 1), queues: map[spot]*queue{}, wanted: map[string]int{},
	}
	w.baton <- struct{}{}
	return w
}

// until returns nil once nothing of missing is behind any more, as far as looks tell: another snapshot is worth its
// while. It returns ctx's error when that ends first, or the failure to look.
func (w *waiting) until(ctx context.Context, missing lags) error {
	if ctx.Err() != nil || len(missing) == 0 {
		return ctx.Err()
	}
	me := &wish{left: missing, named: missing, met: make(chan struct{}), index: -1}
	w.join(me)
	defer w.leave(me)
	select {
	case <-me.met:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.baton:
		defer func() { w.baton <- struct{}{} }()
		return w.lookUntil(ctx, me)
	}
}

func (w *waiting) join(me *wish) {
	w.mu.Lock()
	for _, l := range me.named {
		w.wanted[l.projection]++
	}
	w.count++
	w.came = time.Now()
	w.enqueue(me)
	w.mu.Unlock()
	select {
	case w.fresh <- struct{}{}:
	default:
	}
}

func (w *waiting) leave(me *wish) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count--
	for _, l := range me.named {
		if w.wanted[l.projection]--; w.wanted[l.projection] == 0 {
			delete(w.wanted, l.projection)
		}
	}
	if me.index < 0 {
		return
	}
	at := me.spot()
	heap.Remove(w.queues[at], me.index)
	w.dropIfEmpty(at)
}

func (w *waiting) enqueue(one *wish) {
	at := one.spot()
	q := w.queues[at]
	if q == nil {
		q = new(queue)
		w.queues[at] = q
	}
	heap.Push(q, one)
}

func (w *waiting) dropIfEmpty(at spot) {
	if w.queues[at].Len() == 0 {
		delete(w.queues, at)
	}
}

func (w *waiting) lookUntil(ctx context.Context, me *wish) error {
	looked, took := time.Now(), time.Duration(0)
	for {
		t := time.NewTimer(time.Until(looked.Add(w.period(took))))
		select {
		case <-me.met:
			t.Stop()
			return nil
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-w.fresh:
			t.Stop()
			continue // the period is short again
		case <-t.C:
		}
		began := time.Now()
		places, err := w.look(ctx, w.projections())
		if err != nil {
			return err
		}
		looked = time.Now()
		took = looked.Sub(began)
		w.tell(places)
	}
}

// period is the time to the next look, after one that took so long.
func (w *waiting) period(took time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(max(shortestPeriod, min(lookShare*took, lookPeriod), time.Since(w.came)/periodShare), longestPeriod)
}

func (w *waiting) projections() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.wanted))
}

// tell wakes those whose wish is met.
func (w *waiting) tell(places []engine.Place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range places {
		w.reached(spot{projection: p.Projection, topic: p.Topic, part: unknownPart}, math.MaxUint64, places)
		w.reached(spot{p.Projection, p.Topic, p.Part, p.Incarnation}, p.LastPos, places)
	}
}

// reached takes those out of a queue whose position has come. Who misses something else goes on to wait for that.
func (w *waiting) reached(at spot, position uint64, places []engine.Place) {
	q := w.queues[at]
	if q == nil {
		return
	}
	for q.Len() > 0 && (*q)[0].left[0].want <= position {
		one := heap.Pop(q).(*wish)
		if one.left = one.left[1:].behind(places); len(one.left) == 0 {
			close(one.met)
			continue
		}
		w.enqueue(one)
	}
	w.dropIfEmpty(at)
}
