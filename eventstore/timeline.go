package eventstore

import (
	"context"
	"time"
)

// Place is where an event stands and when it was recorded. The zero Place is before the first.
type Place struct {
	Position uint64
	At       time.Time
}

// Timeline finds the place of a moment. It stands beside the contract, since only those who look at the past ask; every
// store here has it.
type Timeline interface {
	// LastPlace is the place of the last event at or before a position that was recorded at or before a time; the zero
	// Place when there is none.
	LastPlace(ctx context.Context, position uint64, at time.Time) (Place, error)
}

// LoadedBack is by how much times go back in a history's order at most, where it, or what it is an export of, was loaded from
// a store that lets them; 0 where nothing does, and of what cannot tell.
func LoadedBack(ctx context.Context, history any) (time.Duration, error) {
	if h, ok := history.(interface {
		LoadedBack(ctx context.Context) (time.Duration, error)
	}); ok {
		return h.LoadedBack(ctx)
	}
	return 0, nil
}

// Backwards measures it, event by event.
type Backwards struct {
	latest time.Time
	most   time.Duration
}

// Next takes the next event's time.
func (b *Backwards) Next(at time.Time) {
	if at.After(b.latest) {
		b.latest = at
	}
	b.most = max(b.most, b.latest.Sub(at))
}

// Most is by how much a time went back, in microseconds.
func (b *Backwards) Most() int64 { return b.most.Microseconds() }

// SearchPlace is LastPlace of a store in whose order time never goes back: so no index over it is needed. last tells the
// last event at or before a position, and is asked about as often as the position has bits. Where times go back by some
// duration at most, no event behind the answer was recorded that much, or more, before the time.
func SearchPlace(position uint64, at time.Time, last func(position uint64) (Place, error)) (Place, error) {
	after, err := last(position)
	if err != nil || !after.At.After(at) {
		return after, err
	}
	found, low := Place{}, uint64(0) // what stands at or before low is early enough, what stands at after is not
	for after.Position-low > 1 {
		middle := low + (after.Position-low)/2
		p, err := last(middle)
		switch {
		case err != nil:
			return Place{}, err
		case p.At.After(at):
			after = p
		default:
			found, low = p, middle
		}
	}
	return found, nil
}
