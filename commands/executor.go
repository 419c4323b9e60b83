package commands

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
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
	// CachedStreams bounds the folded states kept in memory. Defaults to 4,096.
	CachedStreams int
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
}

// NewExecutor makes an Executor.
func NewExecutor(cfg Config) *Executor {
	x := &Executor{
		store: cfg.Store, keys: cfg.Keys, now: cfg.Now, holdTTL: cfg.HoldTTL,
		codec: eventstore.Catalog(),
		locks: locks{held: map[string]*streamLock{}},
		cache: cache{most: cfg.CachedStreams, byName: map[string]*list.Element{}},
	}
	if x.now == nil {
		x.now = time.Now
	}
	if x.holdTTL == 0 {
		x.holdTTL = 5 * time.Minute
	}
	if x.cache.most == 0 {
		x.cache.most = 4096
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

// cache keeps the folded states used last. Values are never changed, only replaced.
type cache struct {
	mu     sync.Mutex
	most   int
	byName map[string]*list.Element
	order  list.List // of *kept, the last used in front
}

type kept struct {
	stream string
	folded any // Folded[S]
}

func (c *cache) get(stream string) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byName[stream]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*kept).folded
}

func (c *cache) put(stream string, folded any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byName[stream]; ok {
		e.Value.(*kept).folded = folded
		c.order.MoveToFront(e)
		return
	}
	c.byName[stream] = c.order.PushFront(&kept{stream, folded})
	if c.order.Len() > c.most {
		oldest := c.order.Back()
		delete(c.byName, oldest.Value.(*kept).stream)
		c.order.Remove(oldest)
	}
}

func (c *cache) drop(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byName[stream]; ok {
		c.order.Remove(e)
		delete(c.byName, stream)
	}
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.byName)
	c.order.Init()
}

// life remembers the store's incarnation. Every token names it. It changes when the store was restored, or a standby
// took over that may lack the end: the folded states are of a history that may not be any more.
type life struct {
	mu      sync.Mutex
	of      string
	checked time.Time
}

// checkLifeEach bounds how long a state of another life may be decided on; the stores refuse what they can sooner.
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
	}
	// A store that is away for the moment keeps its last known name, and refuses the command itself.
	return nil
}

func (x *Executor) incarnation() string {
	x.life.mu.Lock()
	defer x.life.mu.Unlock()
	return x.life.of
}
