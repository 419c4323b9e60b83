package rebuild

import (
	"slices"
	"sync"

	"github.com/dangdangsalon/salon/eventstore"
)

// todo hands out the slices that are to be done, in ranges that should fit into memory: how much a slice comes to is learnt
// from those that are done.
type todo struct {
	workers int
	most    int // rows that one of them may hold
	share   int // of a worker, in slices, as long as nothing is known: what is too much comes back

	mu   sync.Mutex
	left [eventstore.Slices]bool
	done int // slices, of which it is known
	rows int // what those came to
}

func newTodo(done []int, workers, most int) *todo {
	t := &todo{workers: workers, most: most, share: max(1, (eventstore.Slices-len(done)+workers-1)/workers)}
	for s := range t.left {
		t.left[s] = true
	}
	for _, s := range done {
		t.left[s] = false
	}
	return t
}

// least is how many slices a range has at the end, where what is left is shared: a query for each would cost more than a
// worker that has nothing to do.
const least = 16

// next takes some slices that follow one another; ok is false when none is left.
func (t *todo) next() (r eventstore.SliceRange, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.take(t.portion())
}

// round takes as many ranges as there are workers, so that one reading of the store is of use to all of them; none when no
// slice is left.
func (t *todo) round() (ranges []eventstore.SliceRange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.portion()
	for range t.workers {
		if r, ok := t.take(n); ok {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// portion is how many slices one worker should take.
func (t *todo) portion() int {
	if t.done == 0 {
		return t.share
	}
	left := 0
	for _, is := range t.left {
		if is {
			left++
		}
	}
	fit := max(1, t.most*t.done/max(1, t.rows)*9/10) // some slices have more than others
	return min(fit, max(least, (left+t.workers-1)/t.workers))
}

func (t *todo) take(n int) (r eventstore.SliceRange, ok bool) {
	from := slices.Index(t.left[:], true)
	if from < 0 {
		return r, false
	}
	r = eventstore.SliceRange{From: from, To: from}
	for r.To < eventstore.Slices && t.left[r.To] && r.Len() < n {
		t.left[r.To] = false
		r.To++
	}
	return r, true
}

// giveBack returns slices that were not done.
func (t *todo) giveBack(r eventstore.SliceRange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := r.From; s < r.To; s++ {
		t.left[s] = true
	}
}

// learn notes what so many slices came to.
func (t *todo) learn(slices, rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done, t.rows = t.done+slices, t.rows+rows
}
