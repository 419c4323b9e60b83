package rebuild

import (
	"slices"
	"sync"

	"github.com/dangdangsalon/salon/eventstore"
)

// todo hands out the slices that are to be done, in ranges that should fit into memory: how much a slice comes to is learnt
// from those that are done. One that was begun, since alone it does not fit, is a range for itself.
type todo struct {
	workers int
	most    int // rows that one of them may hold
	share   int // of a worker, in slices, as long as nothing is known: what is too much comes back

	mu    sync.Mutex
	left  [eventstore.Slices]bool
	there [eventstore.Slices]uint64 // position through which a slice that is left is in the tables
	known int                       // slices
	rows  int                       // what those came to
}

// newTodo leaves out what is there: slices with the position through which they are, 0 for all of them.
func newTodo(there map[int]uint64, workers, most int) *todo {
	t := &todo{workers: workers, most: most}
	for s := range t.left {
		through, found := there[s]
		t.left[s], t.there[s] = !found || through > 0, through
	}
	t.share = max(1, (eventstore.Slices-t.done()+workers-1)/workers)
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

// round takes as many ranges as there are workers, so that one reading of the store, after a position, is of use to all of
// them; none when no slice is left.
func (t *todo) round() (ranges []eventstore.SliceRange, after uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.portion()
	for range t.workers {
		if r, ok := t.take(n); ok {
			if through := t.there[r.From]; len(ranges) == 0 || through < after {
				after = through
			}
			ranges = append(ranges, r)
		}
	}
	return ranges, after
}

// done is how many slices were not left, before any was taken.
func (t *todo) done() int { return eventstore.Slices - t.remaining() }

func (t *todo) remaining() (n int) {
	for _, is := range t.left {
		if is {
			n++
		}
	}
	return n
}

// portion is how many slices one worker should take.
func (t *todo) portion() int {
	if t.known == 0 {
		return t.share
	}
	fit := max(1, t.most*t.known/max(1, t.rows)*9/10) // some slices have more than others
	return min(fit, max(least, (t.remaining()+t.workers-1)/t.workers))
}

func (t *todo) take(n int) (r eventstore.SliceRange, ok bool) {
	from := slices.Index(t.left[:], true)
	if from < 0 {
		return r, false
	}
	r = eventstore.SliceRange{From: from, To: from}
	for r.To < eventstore.Slices && t.left[r.To] && r.Len() < n && (r.Len() == 0 || t.there[r.To] == 0) {
		t.left[r.To] = false
		if r.To++; t.there[from] > 0 {
			break
		}
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

// through is the position after which the events of slices that were taken are to be folded.
func (t *todo) through(r eventstore.SliceRange) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.there[r.From]
}

// begun notes that a single slice, which does not fit, is there through a position.
func (t *todo) begun(r eventstore.SliceRange, through uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.there[r.From] = through
}

// learn notes what slices came to; one that was begun counts as much as fits, or it alone would make all others look large.
func (t *todo) learn(r eventstore.SliceRange, rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.there[r.From] > 0 {
		rows = t.most
	}
	t.known, t.rows = t.known+r.Len(), t.rows+rows
}
