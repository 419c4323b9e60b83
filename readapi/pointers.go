package readapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
)

// pointers tell which versions of projections serve, for reads of views: those of tables find out in their snapshot. So a read
// that begins after a switch has ended is answered from the new version, by its view as by its tables.
//
// A look answers for everybody who came before it began: however many read, the database is asked by one at a time.
type pointers struct {
	look func(ctx context.Context, projection string) (engine.Serving, error)
	of   sync.Map // name → *pointer
}

type pointer struct {
	came atomic.Int64  // of those who want to know
	turn chan struct{} // one token: whoever has it looks, and has what follows

	at     engine.Serving
	asOf   int64     // how many had come when the look began that answered at
	failed time.Time // when the database did not answer
}

// unasked is how long a database that did not answer is let be. Views are answered from what served last meanwhile: nobody can
// move reads without that database. Where only this node could not ask it, they are at most so long behind a move.
const unasked = time.Second

// lookFor is how long a look may take where there is something to answer from without it: a silent database must not use up
// the time of a read that does not need it.
const lookFor = 500 * time.Millisecond

func (p *pointers) serving(ctx context.Context, projection string) (engine.Serving, error) {
	known, ok := p.of.Load(projection)
	if !ok {
		known, _ = p.of.LoadOrStore(projection, &pointer{turn: make(chan struct{}, 1)})
	}
	one := known.(*pointer)
	mine := one.came.Add(1)
	select {
	case one.turn <- struct{}{}:
		defer func() { <-one.turn }()
	case <-ctx.Done():
		return engine.Serving{}, ctx.Err()
	}
	if one.asOf >= mine || one.asOf > 0 && time.Since(one.failed) < unasked {
		return one.at, nil
	}
	asOf := one.came.Load()
	looking, stop := ctx, context.CancelFunc(func() {})
	if one.asOf > 0 {
		looking, stop = context.WithTimeout(ctx, lookFor)
	}
	at, err := p.look(looking, projection)
	stop()
	if err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return at, err // whoever asked has gone, which says nothing of the database
		}
		if one.failed = time.Now(); one.asOf > 0 {
			return one.at, nil
		}
		return at, err
	}
	one.at, one.asOf, one.failed = at, asOf, time.Time{}
	return at, nil
}
