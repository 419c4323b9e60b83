package live

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/dangdangsalon/salon/internal/auth"
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

	woken  chan struct{} // there is something to write
	frames *rate.Limiter // of the client

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
	s.g.hub.leave(s)
	s.wg.Wait()
	if !stop() {
		<-closed
	}
	s.close(nil)
	_ = s.conn.CloseNow() // whoever was closed by the peer
}

// read takes the client's frames until the connection ends.
func (s *socket) read(ctx context.Context) {
	s.conn.SetReadLimit(maxFrame)
	refused := 0
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
			if refused++; refused > maxRefused {
				s.end(CloseAbuse, "too many frames")
			}
			s.answer(Error{Type: "error", Code: "rate.limited", Detail: "too many frames; slow down", RetryAfter: 1})
			continue
		}
		f, err := parse(frame)
		if err != nil {
			if refused++; refused > maxRefused {
				s.end(CloseAbuse, "too many malformed frames")
			}
			s.answer(Error{Type: "error", Code: "request.invalid", Detail: err.Error()})
			continue
		}
		s.g.request(ctx, s, f)
	}
}

// write sends what there is until ctx ends or the connection does.
func (s *socket) write(ctx context.Context) error {
	beat := time.NewTicker(pingEvery)
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
				ctx, cancel := context.WithTimeout(ctx, pongWithin)
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
		sent, err := s.sendMessages(ctx, n.messages)
		s.g.hub.moved(sub, sent)
		if errors.Is(err, errSealed) { // the keys are away: this room waits, others need not
			s.g.log.DebugContext(ctx, "a message cannot be opened yet", "room", sub.room.id, "error", err)
			s.later(ctx, sub)
			continue
		}
		if err == nil {
			err = s.sendState(ctx, sub.room.id, n)
		}
		if err != nil {
			return err
		}
		s.g.hub.lookAgain(sub)
	}
}

// sendMessages sends messages in order, and says how many went.
func (s *socket) sendMessages(ctx context.Context, messages []chatrooms.Message) (sent int, err error) {
	for _, m := range messages {
		shown, err := readapi.OpenMessage(ctx, s.g.cfg.Texts, m)
		if err != nil {
			return sent, fmt.Errorf("%w: %w", errSealed, err)
		}
		if err := s.send(ctx, encode(Message{"message", shown})); err != nil {
			return sent, err
		}
		sent++
	}
	s.g.delivered.Add(int64(sent))
	return sent, nil
}

func (s *socket) sendState(ctx context.Context, room string, n news) error {
	switch {
	case n.read > 0:
		return s.send(ctx, encode(HasRead{"read", room, readapi.Person{ID: n.reader, Role: roleOf(1 - s.side)}, n.read}))
	case n.resync > 0:
		s.g.resyncs.Add(1)
		return s.send(ctx, encode(Resync{"resync", room, n.resync}))
	case n.left:
		return s.send(ctx, encode(Error{Type: "error", Code: "room.left", RoomID: room, Detail: "you left this room"}))
	}
	return nil
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

// errSealed is that a text cannot be opened now.
var errSealed = errors.New("sealed")

func roleOf(side int) string {
	if side == groomerSide {
		return "groomer"
	}
	return "customer"
}
