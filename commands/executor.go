package commands

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/ratelimit"
	"github.com/dangdangsalon/salon/internal/sealed"
)

// Config is what an Executor is made of.
type Config struct {
	Store eventstore.Store
	Keys  *sealed.Keys
	// HoldTTL is how long a hold keeps its slot. Defaults to five minutes.
	HoldTTL time.Duration
	// Now is the process's clock. Defaults to time.Now.
	Now func() time.Time
	// CachedStreams bounds the folded states kept in memory. A stream that fell out costs its next command a cold load:
	// its snapshot, and at most a few hundred events. Defaults to 4,096.
	CachedStreams int
	// CachedBytes bounds the same by an estimate of the memory that they take; the one used last always stays. Defaults
	// to 128 MiB: some 4,000 books of 30 open reservations.
	CachedBytes int
	// PostRate is chat messages a second for each sender, with bursts of twice as many, by HTTP and live together; below 0
	// is no limit. Counted per process. Defaults to 10: faster than a person types, slower than one fills a room.
	PostRate float64
}

// Executor runs commands. Safe for concurrent use.
type Executor struct {
	store   eventstore.Store
	codec   *eventstore.Codec
	keys    *sealed.Keys
	now     func() time.Time
	holdTTL time.Duration
	locks   locks
	cache   cache
	life    life
	posts   *ratelimit.Limiter
}

// NewExecutor makes an Executor.
func NewExecutor(cfg Config) *Executor {
	x := &Executor{
		store: cfg.Store, keys: cfg.Keys, now: cfg.Now, holdTTL: cfg.HoldTTL,
		codec: eventstore.Catalog(),
		locks: locks{held: map[string]*streamLock{}},
		cache: cache{most: cfg.CachedStreams, mostBytes: cfg.CachedBytes, byName: map[string]*list.Element{}},
	}
	if x.now == nil {
		x.now = time.Now
	}
	if x.holdTTL == 0 {
		x.holdTTL = 5 * time.Minute
	}
	x.posts = ratelimit.New(cmp.Or(cfg.PostRate, 10))
	if x.cache.most == 0 {
		x.cache.most = 4096
	}
	if x.cache.mostBytes == 0 {
		x.cache.mostBytes = 128 << 20
	}
	return x
}

// locks serialises each stream in this process. It holds no more than the streams in use.
type locks struct {
	mu   sync.Mutex
	held map[string]*streamLock
}

type streamLock struct {
	turn chan struct{} // one token: who holds it may work
	refs int           // holder and waiters
}

func (l *locks) lock(ctx context.Context, stream string) (unlock func(), err error) {
	l.mu.Lock()
	s, ok := l.held[stream]
	if !ok {
		s = &streamLock{turn: make(chan struct{}, 1)}
		l.held[stream] = s
	}
	s.refs++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		if s.refs--; s.refs == 0 {
			delete(l.held, stream)
		}
		l.mu.Unlock()
	}
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// life remembers the store's incarnation. Every token names it. It changes when the store was restored, or a standby
// took over that may lack the end: the folded states are of a history that may not be any more.
type life struct {
	mu      sync.Mutex
	of      string
	checked time.Time
}

// checkLifeEach bounds how long a token may name a life that is over, and how long a state of it may be kept. Decisions
// do not rest on this: an append names the event that it expects, and what is not appended is decided after a read.
// Only a command repeated after a fail-over has the event ID that it had in the lost history, at the same revision
// perhaps; within this second a state that ended with it would be taken for one of the new history.
const checkLifeEach = time.Second

func (l *life) check(ctx context.Context, x *Executor) error {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.of
	if known != "" {
		if now.Sub(l.checked) < checkLifeEach {
			return nil
		}
		l.checked = now // others go on by the known name meanwhile
		l.mu.Unlock()
	}
	head, err := x.store.Head(ctx)
	if known != "" {
		l.mu.Lock()
	}
	switch {
	case err == nil:
		l.of, l.checked = head.Incarnation, now
		if known != "" && known != head.Incarnation {
			x.cache.clear()
		}
	case known == "":
		return fmt.Errorf("read the store's head: %w", err)
	case ctx.Err() != nil:
		l.checked = time.Time{} // whoever looked has left: the next one looks
	}
	// A store that is away for the moment keeps its last known name, and refuses the command itself.
	return nil
}

// wrote notes the incarnation that an append went to, "" when the store does not tell. After a fail-over it is news
// before the next look: the token of this append must not name the life before, which may not have its position.
func (l *life) wrote(x *Executor, incarnation string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if incarnation == "" || incarnation == l.of {
		return
	}
	l.of, l.checked = incarnation, time.Now()
	x.cache.clear()
}

func (x *Executor) incarnation() string {
	x.life.mu.Lock()
	defer x.life.mu.Unlock()
	return x.life.of
}
