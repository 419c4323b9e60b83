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

// SearchPlace is LastPlace of a store in whose order time never goes back: so no index over it is needed. last tells the
// last event at or before a position, and is asked about as often as the position has bits.
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
