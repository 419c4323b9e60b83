package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/readapi/live"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// listeners are sockets of a room's members, spread over rooms, sides and nodes.
type listeners struct {
	clients []*liveclient.Client
	wg      sync.WaitGroup
	stop    context.CancelFunc

	subscribed sync.WaitGroup
	failed     atomic.Pointer[error]
}

// listen opens so many sockets, in the first rooms in turn, and waits until all are subscribed. after[room] is the last
// message that they have; nil: none. on is told of each message, with the socket's number and side.
func (b *chatBench) listen(ctx context.Context, n, rooms int, nodes []*upProcess, after []uint64, on func(socket, side int, m *live.Message)) (*listeners, error) {
	ctx, stop := context.WithCancel(ctx)
	l := &listeners{stop: stop}
	for i := range n {
		room, side := b.rooms[i%rooms], i/rooms%2
		var once sync.Once
		l.subscribed.Add(1)
		c := liveclient.New(liveclient.Config{
			URLs:  []string{nodes[i/rooms/2%len(nodes)].url},
			Token: func(context.Context) (string, error) { return room.sides()[side], nil },
			On: func(frame any) {
				switch f := frame.(type) {
				case *live.Subscribed:
					once.Do(l.subscribed.Done)
				case *live.Message:
					on(i, side, f)
				}
			},
		})
		var seq uint64
		if after != nil {
			seq = after[i%rooms]
		}
		c.Follow(room.id, seq)
		l.clients = append(l.clients, c)
		l.wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				l.failed.CompareAndSwap(nil, &err)
				once.Do(l.subscribed.Done)
			}
		})
	}
	return l, l.wait(ctx)
}

func (l *listeners) wait(ctx context.Context) error {
	all := make(chan struct{})
	go func() { l.subscribed.Wait(); close(all) }()
	select {
	case <-all:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return errors.New("not every socket is subscribed after a minute")
	}
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *listeners) close() {
	l.stop()
	l.wg.Wait()
}

// talk measures from a post until the message is on each socket of the other side: with sockets that read, then with
// others beside them that do not, in turns.
func (b *chatBench) talk(ctx context.Context) error {
	var sent sync.Map // client message ID → when its post began
	var took latencies
	var received atomic.Int64
	l, err := b.listen(ctx, b.size.sockets, b.size.rooms, b.nodes, nil, func(_, side int, m *live.Message) {
		if began, ok := sent.Load(m.ClientMessageID); ok && m.Sender.Role != roleOfSide(side) {
			took.add(time.Since(began.(time.Time)))
		}
		received.Add(1)
	})
	if err != nil {
		return err
	}
	defer l.close()
	load := func(name string) (r sample, err error) {
		took.all = nil
		before, err := b.processors()
		if err != nil {
			return r, err
		}
		counted, err := b.liveNumbers(ctx)
		if err != nil {
			return r, err
		}
		was := received.Load()
		posts, err := b.post(ctx, l, name, &sent)
		if err != nil {
			return r, err
		}
		if err := reaches(ctx, &received, was+int64(len(posts)*b.size.sockets/b.size.rooms)); err != nil {
			return r, err
		}
		after, err := b.processors()
		if err != nil {
			return r, err
		}
		now, err := b.liveNumbers(ctx)
		if err != nil {
			return r, err
		}
		n := received.Load() - was
		b.report.plain("  "+name+": messages delivered", float64(n)/b.each.Seconds(), "/s")
		b.report.plain("  "+name+": processor time of the nodes for a delivered message", float64((after-before).Microseconds())/float64(n), "µs")
		b.report.plain("  "+name+": bytes sent to sockets for a delivered message", (now[bytesSent]-counted[bytesSent])/(now[messagesSent]-counted[messagesSent]), "B")
		b.say("%s: p50 %.1f ms, p99 %.1f ms, post → acknowledged p50 %.1f ms, p99 %.1f ms", name,
			milliseconds(quantile(took.all, .5)), milliseconds(quantile(took.all, .99)), milliseconds(quantile(posts, .5)), milliseconds(quantile(posts, .99)))
		return sample{Rate: milliseconds(quantile(took.all, .5)), P99: quantile(took.all, .99)}, nil
	}
	if _, err := load("to warm up"); err != nil {
		return err
	}
	b.report.Results = nil
	var alone, beside []sample
	for n := range rounds {
		r, err := load(fmt.Sprintf("alone %d", n+1))
		if err != nil {
			return err
		}
		alone = append(alone, r)
		if r, err = b.stalled(ctx, func() (sample, error) { return load(fmt.Sprintf("beside stalled sockets %d", n+1)) }); err != nil {
			return err
		}
		beside = append(beside, r)
	}
	what := fmt.Sprintf("%d sockets, %d messages/s in %d rooms: post → on each of the other side's sockets", b.size.sockets, b.size.rate, b.size.rooms)
	b.report.atMost(what+", p50", median(alone, rate), "ms", 15)
	b.report.atMost(what+", p99", median(alone, p99), "ms", 50)
	b.report.below(fmt.Sprintf("p99 beside %d sockets that do not read", b.size.stalled), median(beside, p99), "ms", median(alone, p99), 1.1)
	return nil
}

// reaches waits until every message is on every socket. Without those that are still on their way, the figures would be of
// the quick ones.
func reaches(ctx context.Context, received *atomic.Int64, all int64) error {
	for patience := time.Now().Add(time.Minute); received.Load() < all; {
		if time.Now().After(patience) {
			return fmt.Errorf("%d messages did not come to their sockets", all-received.Load())
		}
		if err := until(ctx, time.Now().Add(time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// stalled runs a load beside sockets that subscribe to all that was ever said and read nothing of it. Their buffers are
// small, so that each blocks its node's writer until that gives up; then it comes again.
func (b *chatBench) stalled(ctx context.Context, load func() (sample, error)) (sample, error) {
	ctx, stop := context.WithCancel(ctx)
	var wg, deaf sync.WaitGroup
	defer wg.Wait()
	defer stop()
	narrow := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }), err)
	}}).DialContext}}
	for i := range b.size.stalled {
		mine := b.rooms[i%b.size.rooms]
		var once sync.Once
		deaf.Add(1)
		c := liveclient.New(liveclient.Config{
			URLs:  []string{b.nodes[i%len(b.nodes)].url},
			Token: func(context.Context) (string, error) { return mine.sides()[i/b.size.rooms%2], nil },
			HTTP:  narrow, Heartbeat: time.Hour,
			On: func(any) {
				once.Do(deaf.Done)
				<-ctx.Done()
			},
		})
		c.Follow(mine.id, 0)
		wg.Go(func() { _ = c.Run(ctx) })
	}
	deaf.Wait()
	if err := until(ctx, time.Now().Add(2*time.Second)); err != nil { // what the connections cost is another matter
		return sample{}, err
	}
	return load()
}

// post lets the rooms' members post at the rate for a while, and waits for the last answer. It gives how long each took.
func (b *chatBench) post(ctx context.Context, l *listeners, name string, sent *sync.Map) ([]time.Duration, error) {
	var took latencies
	var group errgroup.Group
	tick := time.NewTicker(time.Second / time.Duration(b.size.rate))
	defer tick.Stop()
	until := time.Now().Add(b.each)
	for n := 0; time.Now().Before(until); n++ {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		i := n % min(2*b.size.rooms, len(l.clients)) // the first socket of each side of each room
		id := fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), n)
		group.Go(func() error {
			began := time.Now()
			sent.Store(id, began)
			_, err := l.clients[i].Post(ctx, b.rooms[i%b.size.rooms].id, id, "안녕하세요, 콩이가 낯을 조금 가려요 🐶")
			took.add(time.Since(began))
			return err
		})
	}
	err := group.Wait()
	return took.all, err
}

func (b *chatBench) processors() (all time.Duration, err error) {
	for _, n := range b.nodes {
		spent, err := n.processor()
		if err != nil {
			return 0, err
		}
		all += spent
	}
	return all, nil
}

// comeBack lets all sockets go, says something in every room meanwhile, and lets them come back at once.
func (b *chatBench) comeBack(ctx context.Context) error {
	size := b.size
	b.say("%d sockets come back at once to %d messages that each missed …", size.reconnects, size.missed)
	heads, err := b.speak(ctx, size.missed)
	if err != nil {
		return err
	}
	before, err := b.liveNumbers(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	var waiting sync.WaitGroup
	waiting.Add(size.reconnects)
	got := make([]int, size.reconnects) // each is counted by its own client alone
	var took latencies
	began := time.Now()
	l, err := b.listen(ctx, size.reconnects, size.rooms, b.nodes, heads, func(i, _ int, _ *live.Message) {
		if got[i]++; got[i] == size.missed {
			took.add(time.Since(began))
			waiting.Done()
		}
	})
	if err != nil {
		return err
	}
	defer l.close()
	done := make(chan struct{})
	go func() { waiting.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return errors.New("not every socket has caught up after two minutes")
	}
	b.report.atMost(fmt.Sprintf("%d sockets back at once, %d missed messages each: the last has caught up", size.reconnects, size.missed), quantile(took.all, 1).Seconds(), "s", 10)
	b.report.plain("  of those, the middle one", quantile(took.all, .5).Seconds(), "s")
	after, err := b.liveNumbers(ctx)
	if err != nil {
		return err
	}
	b.report.atMost("  of what they missed, asked of the event store", after[storeReads]-before[storeReads], "pages", 1)
	b.report.atMost("  the same, asked of read model or store", after[pageReads]-before[pageReads], "pages", 1)
	return nil
}

// speak says so many messages in every room, and answers the seq of the last one before them.
func (b *chatBench) speak(ctx context.Context, messages int) (heads []uint64, err error) {
	heads = make([]uint64, b.size.rooms)
	l, err := b.listen(ctx, 2*b.size.rooms, b.size.rooms, b.nodes, nil, func(int, int, *live.Message) {})
	if err != nil {
		return nil, err
	}
	defer l.close()
	var group errgroup.Group
	for room := range heads {
		group.Go(func() error {
			for n := range messages {
				posted, err := l.clients[room+n%2*b.size.rooms].Post(ctx, b.rooms[room].id, fmt.Sprintf("missed-%d", n), "천천히 친해질게요 🐶")
				if err != nil {
					return err
				}
				if n == 0 {
					heads[room] = posted.Seq - 1
				}
			}
			return nil
		})
	}
	return heads, group.Wait()
}

// rest opens sockets on a node that has nothing else to do.
func (b *chatBench) rest(ctx context.Context, servers config.Servers) (err error) {
	n := b.nodes[0]
	if servers.Events != "" {
		if n, err = b.serve(ctx, servers, []string{"live"}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.stop()) }()
	}
	before, err := n.resident()
	if err != nil {
		return err
	}
	b.say("%d sockets that do nothing …", b.size.idle)
	l, err := b.listen(ctx, b.size.idle, len(b.rooms), []*upProcess{n}, nil, func(int, int, *live.Message) {})
	if err != nil {
		return err
	}
	defer l.close()
	after, err := n.resident()
	if err != nil {
		return err
	}
	b.report.atMost(fmt.Sprintf("resident with %d idle sockets", b.size.idle), after, "MB", 400)
	b.report.plain("  of that, for each socket", (after-before)*1e3/float64(b.size.idle), "kB")
	return nil
}

func roleOfSide(side int) string {
	if side == 0 {
		return "customer"
	}
	return "groomer"
}
