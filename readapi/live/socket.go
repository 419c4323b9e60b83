package live

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/readapi"
)

// socket is one connection. It has a reader and a writer; what takes long (posts, catching up) runs in goroutines that live
// only as long as there is something to do. An idle socket is two goroutines and the buffers of its connection: measured
// with 5,000 of them, half of the memory was the request's that had been kept, and queues that were empty.
type socket struct {
	g    *Gateway
	conn *websocket.Conn
	id   auth.Identity
	side int

	woken    chan struct{} // there is something to write
	catching chan struct{} // held by the subscription that catches up: one page at a time is in memory
	frames   *rate.Limiter // of the client

	telling sync.Mutex // held while a subscription's frame is sent: none comes after its subscription ended

	// Guarded by the hub's lock.
	dirty []*subscription
	subs  map[string]*subscription // by room

	mu      sync.Mutex
	answers [][]byte // frames that are not a room's state: answers, and what may be dropped
	queue   []any    // frames of the client that are not answered yet, in order
	working bool
	marks   map[string]uint64 // read marks that are not sent yet, by room

	wg sync.WaitGroup // of everything but the reader

	open  context.Context // ends when the connection is to be closed, for a cause
	close context.CancelCauseFunc
}

// wake lets the writer look. It never blocks.
func (s *socket) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// answer queues a frame that the client waits for. A client that asks and does not read is closed.
func (s *socket) answer(frame any) {
	if !s.add(encode(frame), maxAnswers) {
		s.end(CloseSlow, "the answers are not read")
	}
}

// offer queues a frame that nobody misses: it is dropped when others wait.
func (s *socket) offer(frame []byte) { s.add(frame, maxAnswers/2) }

func (s *socket) add(frame []byte, most int) bool {
	s.mu.Lock()
	fits := len(s.answers) < most
	if fits {
		s.answers = append(s.answers, frame)
	}
	s.mu.Unlock()
	s.wake()
	return fits
}

// sendAnswers writes the answers that wait.
func (s *socket) sendAnswers(ctx context.Context) error {
	s.mu.Lock()
	frames := s.answers
	s.answers = nil
	s.mu.Unlock()
	for _, frame := range frames {
		if err := s.send(ctx, frame); err != nil {
			return err
		}
	}
	return nil
}

// closing is why a connection is closed.
type closing struct {
	code   websocket.StatusCode
	reason string
}

func (c closing) Error() string { return c.reason }

// end closes the connection; the first reason counts. The reader sees it, and everything of the socket ends.
func (s *socket) end(code websocket.StatusCode, reason string) { s.close(closing{code, reason}) }

// run serves the connection until it ends.
func (s *socket) run() {
	closed := make(chan struct{})
	stop := context.AfterFunc(s.open, func() {
		defer close(closed)
		var why closing
		errors.As(context.Cause(s.open), &why)
		_ = s.conn.Close(why.code, why.reason) // a peer that is gone cannot be told, and is left after a few seconds
	})
	expiry := time.AfterFunc(time.Until(s.id.Expires), func() { s.end(CloseExpired, "the token expired") })
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.open)) // the close is written before it ends
	s.wg.Go(func() {
		if err := s.write(ctx); err != nil {
			_ = s.conn.CloseNow() // the reader sees it
		}
	})
	s.read(ctx)
	cancel()
	expiry.Stop()
	s.wg.Wait()
	s.g.hub.leave(s) // not before: until its requests end, one may still enter a room
	if !stop() {
		<-closed
	}
	s.close(nil)
	_ = s.conn.CloseNow() // whoever was closed by the peer
}

// read takes the client's frames until the connection ends.
func (s *socket) read(ctx context.Context) {
	s.conn.SetReadLimit(maxFrame)
	patience := rate.NewLimiter(rate.Every(s.g.cfg.forgive), maxRefused)
	for {
		kind, frame, err := s.conn.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			s.end(websocket.StatusUnsupportedData, "frames are JSON in text messages")
			continue // until the close is through
		}
		if !s.frames.Allow() {
			if !patience.Allow() {
				s.end(CloseAbuse, "too many frames")
			}
			s.answer(Error{Type: "error", Code: "rate.limited", Detail: "too many frames; slow down", RetryAfter: 1})
			continue
		}
		f, err := parse(frame)
		if err != nil {
			if !patience.Allow() {
				s.end(CloseAbuse, "too many malformed frames")
			}
			e := Error{Type: "error", Code: "request.invalid", Detail: err.Error()}
			if bad := (*malformedError)(nil); errors.As(err, &bad) {
				e.Frame = bad.frame
			}
			s.answer(e)
			continue
		}
		s.g.request(ctx, s, f)
	}
}

// write sends what there is until ctx ends or the connection does.
func (s *socket) write(ctx context.Context) error {
	beat := time.NewTicker(s.g.cfg.PingEvery)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.woken:
			if err := s.sendNews(ctx); err != nil {
				return err
			}
		case <-beat.C:
			s.wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, s.g.cfg.WriteTimeout)
				defer cancel()
				if err := s.conn.Ping(ctx); err != nil {
					_ = s.conn.CloseNow() // half open: nobody is there
				}
			})
		}
	}
}

// send writes one frame, within its deadline.
func (s *socket) send(ctx context.Context, frame []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.g.cfg.WriteTimeout)
	defer cancel()
	err := s.conn.Write(ctx, websocket.MessageText, frame)
	if err == nil {
		s.g.sent.Add(1)
		s.g.sentBytes.Add(int64(len(frame)))
	}
	return err
}

// sendNews tells of every subscription that has something new, some messages of each in turn, answers in between.
func (s *socket) sendNews(ctx context.Context) error {
	for {
		if err := s.sendAnswers(ctx); err != nil {
			return err
		}
		sub := s.g.hub.takeDirty(s)
		if sub == nil {
			return nil
		}
		n, ok := s.g.hub.pull(sub, fairShare)
		if !ok {
			continue
		}
		err := s.sendMessages(ctx, sub, n.messages)
		switch {
		case errors.Is(err, errSealed) && problem.From(err).Status == http.StatusInternalServerError: // damaged: it never opens
			if s.g.hub.end(sub) {
				s.refuse(ctx, err, &Subscribe{RoomID: sub.room.id})
			}
			continue
		case errors.Is(err, errSealed): // the keys are away: this room waits, others need not
			s.g.log.DebugContext(ctx, "a message cannot be opened yet", "room", sub.room.id, "error", err)
			s.g.hub.seal(sub)
			s.later(ctx, sub)
			continue
		case err == nil:
			err = s.sendState(ctx, sub, n)
		}
		if err != nil && !errors.Is(err, errEnded) {
			return err
		}
		s.g.hub.lookAgain(sub)
	}
}

// tell sends a frame of a subscription, unless that has ended.
func (s *socket) tell(ctx context.Context, sub *subscription, frame any) error {
	s.telling.Lock()
	defer s.telling.Unlock()
	if s.g.hub.over(sub) {
		return errEnded
	}
	return s.send(ctx, encode(frame))
}

// quit ends a subscription for its client: none of its frames is sent after this.
func (s *socket) quit(sub *subscription) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.g.hub.end(sub)
}

// sendMessages sends messages in order, and moves the subscription behind those that went.
func (s *socket) sendMessages(ctx context.Context, sub *subscription, messages []chatrooms.Message) error {
	for _, m := range messages {
		shown, err := s.openMessage(ctx, m)
		if err != nil {
			return fmt.Errorf("%w: %w", errSealed, err)
		}
		if err := s.tell(ctx, sub, Message{"message", shown}); err != nil {
			return err
		}
		s.g.hub.moved(sub, 1)
		s.g.delivered.Add(1)
		if m.Seq > sub.heard {
			s.g.cfg.Delivered(time.Since(m.SentAt))
		}
	}
	return nil
}

// openMessage opens a message's texts. A key that has to be fetched does not hold up the socket's other rooms for long.
func (s *socket) openMessage(ctx context.Context, m chatrooms.Message) (readapi.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	return readapi.OpenMessage(ctx, s.g.cfg.Texts, m)
}

func (s *socket) sendState(ctx context.Context, sub *subscription, n news) error {
	room, other := sub.room.id, readapi.Person{ID: n.other, Role: roleOf(1 - s.side)}
	switch {
	case n.read > 0:
		return s.tell(ctx, sub, HasRead{"read", room, other, n.read})
	case n.presence != unknown:
		return s.tell(ctx, sub, Presence{"presence", room, other, n.presence == online})
	case n.resync > 0:
		s.g.resyncs.Add(1)
		return s.bid(ctx, sub, Resync{"resync", room, n.resync})
	case n.left:
		return s.bid(ctx, sub, Error{Type: "error", Code: "room.left", RoomID: room, Detail: "you left this room"})
	}
	return nil
}

// bid sends a subscription's last frame, and ends it.
func (s *socket) bid(ctx context.Context, sub *subscription, frame any) error {
	defer s.g.hub.end(sub)
	return s.tell(ctx, sub, frame)
}

// later lets the writer look at a subscription again.
func (s *socket) later(ctx context.Context, sub *subscription) {
	s.wg.Go(func() {
		if wait(ctx, openAgain) == nil {
			s.g.hub.lookAgain(sub)
		}
	})
}

// wait is nil after d, ctx's error when it ended first.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

var (
	errSealed = errors.New("sealed")       // a text cannot be opened now
	errEnded  = errors.New("it has ended") // a subscription has, while it was being told something
)

func roleOf(side int) string {
	if side == groomerSide {
		return "groomer"
	}
	return "customer"
}
