package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/readapi/live"
	"github.com/dangdangsalon/salon/readapi/live/liveclient"
)

// phone is a person's app: it stays connected, and keeps what it was told.
type phone struct {
	name, room string
	client     *liveclient.Client

	mu      sync.Mutex
	heard   []live.Message
	read    uint64 // how far the other side has read
	node    string // where it is connected
	lost    time.Time
	moved   []string // what befell its connection, and was not shown yet
	refused error    // why it will never be connected

	news chan struct{}
	stop context.CancelFunc
	over chan struct{}
}

// newPhone is one that prefers the first of the nodes.
func newPhone(name, room, token string, nodes ...string) *phone {
	p := &phone{name: name, room: room, news: make(chan struct{}, 1)}
	p.client = liveclient.New(liveclient.Config{
		URLs: nodes, InOrder: true, Token: func(context.Context) (string, error) { return token, nil },
		On: p.on,
		Connected: func(node string) {
			p.note(func() {
				if !p.lost.IsZero() {
					p.moved = append(p.moved, fmt.Sprintf("%s is back, at %s after %d ms", p.name, node, time.Since(p.lost).Milliseconds()))
				}
				p.node, p.lost = node, time.Time{}
			})
		},
		Disconnected: func(error) {
			p.note(func() {
				if p.lost.IsZero() {
					p.lost = time.Now()
				}
			})
		},
	})
	p.client.Follow(room, 0)
	return p
}

func (p *phone) on(frame any) {
	p.note(func() {
		switch f := frame.(type) {
		case *live.Message:
			p.heard = append(p.heard, *f)
		case *live.HasRead:
			p.read = max(p.read, f.Seq)
		case *live.Error:
			p.refused = fmt.Errorf("%s: %s: %s", p.name, f.Code, f.Detail)
		}
	})
}

func (p *phone) note(what func()) {
	p.mu.Lock()
	what()
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// open connects it, until it is closed.
func (p *phone) open(ctx context.Context) {
	ctx, p.stop = context.WithCancel(ctx)
	p.over = make(chan struct{})
	go func() {
		defer close(p.over)
		if err := p.client.Run(ctx); err != nil {
			p.note(func() { p.refused = err })
		}
	}()
}

// close cuts its connection, without a goodbye.
func (p *phone) close() {
	p.stop()
	<-p.over
}

// until waits for what the phone is to be told.
func (p *phone) until(ctx context.Context, there func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		p.mu.Lock()
		ok, refused := there(), p.refused
		p.mu.Unlock()
		if ok || refused != nil {
			return refused
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not told of it: %w", p.name, ctx.Err())
		case <-p.news:
		}
	}
}

// hears waits for the message with this seq.
func (p *phone) hears(ctx context.Context, seq uint64) error {
	return p.until(ctx, func() bool { return uint64(len(p.heard)) >= seq })
}

// says posts, and answers the message's seq.
func (p *phone) says(ctx context.Context, text string) (seq uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	posted, err := p.client.Post(ctx, p.room, rand.Text(), text)
	return posted.Seq, err
}

// show is a step of the talk: what it answers is printed below its name.
func (s *stage) show(what string, do func() (string, error)) {
	if s.err != nil {
		return
	}
	s.n++
	answer, err := do()
	if err != nil {
		s.err = fmt.Errorf("step %d, %s: %w", s.n, what, err)
		return
	}
	fmt.Fprintf(s.out, "%2d. %s\n    %s\n", s.n, what, answer)
}

// talk lets both sides of a room talk over their sockets, she at the first node and he at the last.
func (s *stage) talk(nodes []string, room string, customer, groomer *client, talkOn time.Duration) {
	if s.err != nil {
		return
	}
	ctx := s.ctx
	others := slices.Clone(nodes)
	slices.Reverse(others)
	she, he := newPhone("the customer", room, customer.token, nodes...), newPhone("the groomer", room, groomer.token, others...)
	she.open(ctx)
	defer func() { she.close() }() // the last that was opened
	he.open(ctx)
	defer he.close()
	if err := errors.Join(she.hears(ctx, 1), he.hears(ctx, 1)); err != nil {
		if refused := (*liveclient.RefusedError)(nil); errors.As(err, &refused) && refused.Status == http.StatusNotFound {
			fmt.Fprintf(s.out, "    (nobody serves live here: talking over sockets is passed over)\n")
			return
		}
		s.err = fmt.Errorf("open the sockets: %w", err)
		return
	}
	tell := func(from, to *phone, text string) (string, error) {
		began := time.Now()
		seq, err := from.says(ctx, text)
		acknowledged := time.Since(began)
		if err == nil {
			err = to.hears(ctx, seq)
		}
		return fmt.Sprintf("message %d, %q: on disk after %.1f ms, heard by %s after %.1f ms", seq, text,
			milliseconds(acknowledged), to.name, milliseconds(time.Since(began))), err
	}
	s.show("both open their phones", func() (string, error) {
		return fmt.Sprintf("a socket of hers at %s, one of the groomer's at %s; both have message 1", she.at(), he.at()), nil
	})
	s.show("the groomer answers", func() (string, error) { return tell(he, she, "천천히 친해질게요 🐶") })
	s.show("she writes back", func() (string, error) { return tell(she, he, "고맙습니다!") })
	s.show("the groomer has read it, and she sees that", func() (string, error) {
		began := time.Now()
		he.client.Read(room, 3)
		err := she.until(ctx, func() bool { return she.read >= 3 })
		return fmt.Sprintf("read up to message 3, shown after %.1f ms", milliseconds(time.Since(began))), err
	})
	s.show("her phone goes through a tunnel, and the groomer writes on", func() (string, error) {
		she.close()
		_, err := he.says(ctx, "물은 있으니")
		if err == nil {
			_, err = he.says(ctx, "간식만 챙겨 오세요")
		}
		return "her socket is cut; messages 4 and 5 are on disk", err
	})
	s.show("she is back, and has what she missed, once, in order", func() (string, error) {
		began := time.Now()
		she.open(ctx)
		err := she.hears(ctx, 5)
		return fmt.Sprintf("messages 4 and 5 after %.1f ms", milliseconds(time.Since(began))), err
	})
	last := uint64(5)
	if talkOn > 0 && s.err == nil {
		last = s.talkOn(she, he, talkOn)
	}
	s.show("both heard the same", func() (string, error) {
		if err := errors.Join(she.hears(ctx, last), he.hears(ctx, last)); err != nil {
			return "", err
		}
		she.mu.Lock()
		defer she.mu.Unlock()
		he.mu.Lock()
		defer he.mu.Unlock()
		for _, p := range []*phone{she, he} {
			for i, m := range p.heard {
				if m.Seq != uint64(i+1) { //nolint:gosec // an index
					return "", fmt.Errorf("%s heard message %d as number %d", p.name, m.Seq, i+1)
				}
			}
		}
		if len(she.heard) != len(he.heard) {
			return "", fmt.Errorf("she heard %d messages, the groomer %d", len(she.heard), len(he.heard))
		}
		return fmt.Sprintf("%d messages, each heard by both, once, in one order", len(she.heard)), nil
	})
}

// talkOn lets them talk for a while, so that somebody may kill a node. It answers the last message's seq.
func (s *stage) talkOn(she, he *phone, long time.Duration) (last uint64) {
	fmt.Fprintf(s.out, "    they talk on for %v: kill a node now\n", long)
	s.show("they talked on, whatever happened", func() (string, error) {
		said, slowest := 0, time.Duration(0)
		for until := time.Now().Add(long); time.Now().Before(until); said++ {
			from, to := she, he
			if said%2 == 1 {
				from, to = he, she
			}
			began := time.Now()
			seq, err := from.says(s.ctx, fmt.Sprintf("멍! %d", said))
			if err == nil {
				err = to.hears(s.ctx, seq)
			}
			if err != nil {
				return "", err
			}
			last, slowest = seq, max(slowest, time.Since(began))
			for _, what := range append(she.befell(), he.befell()...) {
				fmt.Fprintf(s.out, "    %s\n", what)
			}
			select {
			case <-s.ctx.Done():
				return "", s.ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
		return fmt.Sprintf("%d messages; the slowest was heard after %.1f ms", said, milliseconds(slowest)), nil
	})
	return last
}

// at is the node that it is connected to, or was last.
func (p *phone) at() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// befell is what happened to its connection since it was asked last.
func (p *phone) befell() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out, p.moved = p.moved, nil
	return out
}
