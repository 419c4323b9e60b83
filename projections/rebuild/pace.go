package rebuild

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/dangdangsalon/salon/projections/engine"
)

// Pace is how much a rebuild takes of what it shares with those who book and read.
type Pace string

// The paces.
const (
	Gentle Pace = "gentle" // a quarter of the time at most, less as soon as others feel it
	Normal Pace = "normal" // as fast as others do not feel it
	Full   Pace = "full"   // whatever the others feel
)

// bounds are what the others may feel, and the share of the time in which the bulk work may be at work.
type bounds struct {
	most    float64       // share
	lag     time.Duration // of a live projection
	latency time.Duration // of a small read in the reads database
}

var paces = map[Pace]bounds{
	Gentle: {most: 0.25, lag: 200 * time.Millisecond, latency: 25 * time.Millisecond},
	Normal: {most: 1, lag: 300 * time.Millisecond, latency: 100 * time.Millisecond},
}

const (
	// The controller looks this often. A lag is known as exactly as that.
	paceLook = 200 * time.Millisecond
	// The share is cut when a bound is passed, to a half or as much less as the bound is passed by, and raised by this once
	// what is felt is far below it: additive increase, multiplicative decrease, as TCP shares a line (Chiu and Jain, 1989).
	// From nothing to all it takes 4 s.
	paceStep = 0.05
	// Less than this and the rebuild pauses. It still does a portion now and then, or a lag that it has not caused would hold
	// it up for ever.
	paceLeast = 0.02
	// A partition that has not moved for so long is stopped: no pause helps it.
	paceStill = 15 * time.Second
)

// pacer lets bulk work go on for a share of the time, and keeps it below a rate.
type pacer struct {
	bounds
	limit *rate.Limiter // events; nil: none

	mu    sync.Mutex
	share float64
	why   string // it is less than most
}

func newPacer(o Options) *pacer {
	b, bounded := paces[cmp.Or(o.Pace, Normal)]
	if !bounded {
		b.most = 1
	}
	p := &pacer{bounds: b, share: b.most}
	if o.MaxRate > 0 {
		p.limit = rate.NewLimiter(rate.Limit(o.MaxRate), o.MaxRate)
	}
	return p
}

// rest follows a portion of work: it waits until this many events, which took so long, are no more than the share and the
// rate allow.
func (p *pacer) rest(ctx context.Context, events int64, took time.Duration) error {
	p.mu.Lock()
	pause := time.Duration(float64(took) * (1/p.share - 1))
	p.mu.Unlock()
	if p.limit != nil {
		for left := int(events); left > 0; left -= p.limit.Burst() {
			if err := p.limit.WaitN(ctx, min(left, p.limit.Burst())); err != nil {
				return err
			}
		}
	}
	// In short pieces: when the share is raised again, so is whoever rests.
	for began := time.Now(); time.Since(began) < pause; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(paceLook, pause-time.Since(began))):
		}
		p.mu.Lock()
		pause = min(pause, time.Duration(float64(took)*(1/p.share-1)))
		p.mu.Unlock()
	}
	return nil
}

// feel hears what the others feel.
func (p *pacer) feel(lag, latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	byLag, byLatency := float64(lag)/float64(p.lag), float64(latency)/float64(p.latency)
	switch over := max(byLag, byLatency); {
	case over > 1:
		p.share = max(paceLeast, p.share/(2*over))
		if p.why = fmt.Sprintf("live projections are %d ms behind", lag.Milliseconds()); byLatency > byLag {
			p.why = fmt.Sprintf("a read takes %d ms", latency.Milliseconds())
		}
	case over <= 0.5:
		p.share = min(p.most, p.share+paceStep)
	}
}

// held tells that bulk work is held back, and why; "" when it is not.
func (p *pacer) held() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.share >= p.most {
		return ""
	}
	return fmt.Sprintf("held back to %.0f %%: %s", 100*p.share, p.why)
}

// keepPace begins to watch what the others feel, and what the run may take of it; the watch ends with end.
func (k *work) keepPace(ctx context.Context) (end func()) {
	p := newPacer(k.run.Options)
	k.say(func(*Run) { k.pacer = p })
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		if p.lag == 0 {
			return // at full pace
		}
		var lags lagging
		tick := time.NewTicker(paceLook)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if lag, latency, err := k.felt(ctx, &lags); err == nil { // else the servers are away, and the work itself will say so
				p.feel(lag, latency)
			}
		}
	})
	return func() {
		stop()
		watching.Wait()
		k.say(func(*Run) { k.pacer = nil })
	}
}

// felt measures how far live projections are behind, and how long a small read takes.
func (k *work) felt(ctx context.Context, lags *lagging) (lag, latency time.Duration, err error) {
	live, topics, err := k.live(ctx)
	if err != nil {
		return 0, 0, err
	}
	ends, err := k.Ends(ctx, topics)
	if err != nil {
		return 0, 0, err
	}
	now := time.Now()
	lags.ended(now, ends)
	began := time.Now()
	places, err := engine.PlacesOf(ctx, k.lease.db.Reader(), live)
	if err != nil {
		return 0, 0, err
	}
	return lags.behind(now, places), time.Since(began), nil
}

// live lists the versions that are kept up to date, and their topics.
func (k *work) live(ctx context.Context) (ids, topics []string, err error) {
	states, err := engine.States(ctx, k.lease.db.Reader())
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	for _, p := range engine.AllVersions(k.Desk.Of) {
		if states[p.ID()] != engine.Live {
			continue
		}
		ids = append(ids, p.ID())
		for _, t := range p.Topics {
			if !seen[t] {
				seen[t], topics = true, append(topics, t)
			}
		}
	}
	return ids, topics, nil
}

// lagging tells for how long a log has had what a projection has not: since the first look at which it had more.
type lagging struct {
	logs  map[Partition][]logEnd
	moved map[string]placeSeen
}

type logEnd struct {
	at   time.Time
	next int64
}

type placeSeen struct {
	at   time.Time
	next int64
}

func (l *lagging) ended(now time.Time, ends map[Partition]int64) {
	if l.logs == nil {
		l.logs, l.moved = map[Partition][]logEnd{}, map[string]placeSeen{}
	}
	for at, next := range ends {
		known := l.logs[at]
		if n := len(known); n == 0 || known[n-1].next < next {
			known = append(known, logEnd{now, next})
		}
		for len(known) > 1 && now.Sub(known[1].at) > paceStill {
			known = known[1:]
		}
		l.logs[at] = known
	}
}

// behind is the longest of those that move.
func (l *lagging) behind(now time.Time, places []engine.Place) (longest time.Duration) {
	for _, p := range places {
		name := fmt.Sprintf("%s %s/%d", p.Projection, p.Topic, p.Part)
		seen, known := l.moved[name]
		if !known || seen.next != p.NextOffset {
			seen = placeSeen{now, p.NextOffset}
			l.moved[name] = seen
		}
		if now.Sub(seen.at) > paceStill {
			continue
		}
		for _, end := range l.logs[Partition{p.Topic, p.Part}] {
			if end.next > p.NextOffset {
				longest = max(longest, now.Sub(end.at))
				break
			}
		}
	}
	return longest
}
