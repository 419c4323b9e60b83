package readapi

import (
	"context"
	"slices"
	"time"
)

// Life is one life of the event store. Up to position Inherited it has the events of the life before it; whatever that
// one had behind it is lost.
type Life struct {
	Incarnation string
	Inherited   uint64
}

// lineage knows how the lives of the store follow one another: whether a token of an earlier one still stands for a write
// that a later one has.
type lineage struct {
	ask func(ctx context.Context) ([]Life, error) // nil: nobody knows, and each life is a stranger to the others

	turn   chan struct{} // of one place: who has it may look at what follows, and ask
	lives  []Life        // the oldest first
	asked  time.Time
	failed error // what came of asking, where that was not an answer
}

func newLineage(ask func(ctx context.Context) ([]Life, error)) *lineage {
	return &lineage{ask: ask, turn: make(chan struct{}, 1)}
}

const (
	// askLivesEach bounds what tokens that somebody made up can cost the store, one that is away included.
	askLivesEach = time.Second
	// askLivesFor is how long a store that does not answer holds up those who wait, each with a connection of the reads.
	askLivesFor = 2 * time.Second
)

// carried reports whether rows of the life rowsOf that were folded through a position have what a token of the life
// tokenOf asks for there. In one life positions say that by themselves. After a promotion or a restore they do up to
// where the histories part: through there both have the same events under the same positions.
func (l *lineage) carried(ctx context.Context, tokenOf string, position uint64, rowsOf string) (bool, error) {
	if tokenOf == rowsOf {
		return true, nil
	}
	since, err := l.since(ctx, tokenOf, rowsOf)
	return len(since) > 0 && !slices.ContainsFunc(since, func(later Life) bool { return later.Inherited < position }), err
}

// since are the lives behind one through another; none when either is not known, or the other is not later.
func (l *lineage) since(ctx context.Context, one, other string) ([]Life, error) {
	lives, err := l.known(ctx, one, other)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(lives, func(a Life) bool { return a.Incarnation == one })
	j := slices.IndexFunc(lives, func(a Life) bool { return a.Incarnation == other })
	if i < 0 || j < i {
		return nil, nil
	}
	return lives[i+1 : j+1], nil
}

// known are the lives as last heard, asked for anew when one of these is not among them. What was once told of a life
// does not change while the store lives on; of one that was restored all are told anew.
func (l *lineage) known(ctx context.Context, wanted ...string) ([]Life, error) {
	if l.ask == nil {
		return nil, nil
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	missing := func(incarnation string) bool {
		return !slices.ContainsFunc(l.lives, func(a Life) bool { return a.Incarnation == incarnation })
	}
	if !slices.ContainsFunc(wanted, missing) {
		return l.lives, nil
	}
	if time.Since(l.asked) < askLivesEach {
		return l.lives, l.failed
	}
	asking, stop := context.WithTimeout(ctx, askLivesFor)
	defer stop()
	lives, err := l.ask(asking)
	if err != nil && ctx.Err() != nil {
		return nil, err // whoever asked has gone, which says nothing of the store
	}
	if l.asked, l.failed = time.Now(), err; err == nil {
		l.lives = lives
	}
	return l.lives, err
}
