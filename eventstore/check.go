package eventstore

import (
	"errors"
	"fmt"
	"time"
)

// ErrDamaged says that what is stored is not what was stored. Nothing should be appended to such a store: restore it.
var ErrDamaged = errors.New("the event store is damaged")

// Check holds events, one after the other in the order of their positions, to what is true of every store. It takes about
// a hundred bytes of memory a stream.
type Check struct {
	// Dense: positions have no holes, and recorded_at never goes back, since one clock gives it; by Back at most in a history
	// that was loaded, see LoadedBack.
	Dense bool
	Back  time.Duration
	// Whole: the first event is the store's first, and so are the streams'.
	Whole bool

	events uint64
	last   uint64
	at     time.Time
	ends   map[string]Revision
}

// Events is how many were sound.
func (c *Check) Events() uint64 { return c.events }

// Last is the position of the last sound one.
func (c *Check) Last() uint64 { return c.last }

// Next takes the next event, or says with ErrDamaged what is wrong with it.
func (c *Check) Next(r Recorded) error {
	if c.ends == nil {
		c.ends = map[string]Revision{}
	}
	begun := c.Whole || c.events > 0
	end, known := c.ends[r.Stream]
	if !known {
		end = NoStream
	}
	switch {
	case begun && c.Dense && r.Position != c.last+1, r.Position <= c.last:
		return fmt.Errorf("%w: position %d is followed by %d", ErrDamaged, c.last, r.Position)
	case (c.Whole || known) && r.Revision != end+1:
		return fmt.Errorf("%w: position %d is revision %d of its stream, after %d", ErrDamaged, r.Position, r.Revision, end)
	case r.Hash != ContentHash(r):
		return fmt.Errorf("%w: position %d is not what was stored", ErrDamaged, r.Position)
	case c.Dense && r.RecordedAt.Before(c.at.Add(-c.Back)):
		return fmt.Errorf("%w: position %d was recorded before the one before it", ErrDamaged, r.Position)
	}
	c.events++
	c.last, c.ends[r.Stream] = r.Position, r.Revision
	if r.RecordedAt.After(c.at) {
		c.at = r.RecordedAt
	}
	return nil
}
