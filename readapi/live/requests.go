package live

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
)

// roomID is a reservation's ID, which is its room's.
var roomID = regexp.MustCompile(`^[a-z0-9-]{1,40}\.[0-9a-z]{26}$`)

// request takes a frame of the client. What may take long is queued: frames are answered in order, one at a time.
func (g *Gateway) request(ctx context.Context, s *socket, frame any) {
	switch f := frame.(type) {
	case *Ping:
		s.answer(Pong{"pong"})
	case *Typing:
		g.typing(s, f.RoomID)
	case *Read:
		g.markRead(ctx, s, f)
	default:
		if !s.enqueue(ctx, f) {
			s.answer(refusal(problem.New(http.StatusTooManyRequests, "rate.limited", "too many frames wait for an answer").RetryAfter(1), frame))
		}
	}
}

// enqueue adds a frame to those that wait, and sees to it that somebody answers them.
func (s *socket) enqueue(ctx context.Context, frame any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxWaiting {
		return false
	}
	s.queue = append(s.queue, frame)
	if !s.working {
		s.working = true
		s.wg.Go(func() { s.work(ctx) })
	}
	return true
}

// work answers the frames that wait, until there is none.
func (s *socket) work(ctx context.Context) {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || ctx.Err() != nil {
			s.queue, s.working = nil, false
			s.mu.Unlock()
			return
		}
		frame := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		var err error
		switch f := frame.(type) {
		case *Subscribe:
			err = s.g.subscribe(ctx, s, f)
		case *Unsubscribe:
			if sub := s.g.hub.subscription(s, f.RoomID); sub != nil {
				s.quit(sub)
			}
		case *Post:
			err = s.g.post(ctx, s, f)
		}
		if err != nil && ctx.Err() == nil {
			s.refuse(ctx, err, frame)
		}
	}
}

// refuse answers a frame that could not be done.
func (s *socket) refuse(ctx context.Context, err error, frame any) {
	p := problem.From(err)
	if cause := p.Unwrap(); cause != nil && p.Status >= http.StatusInternalServerError {
		s.g.log.WarnContext(ctx, "live request failed", "code", p.Code, "error", cause)
	}
	s.answer(refusal(p, frame))
}

func refusal(p *problem.Problem, frame any) Error {
	e := Error{Type: "error", Code: p.Code, Detail: p.Detail}
	e.RetryAfter, _ = strconv.Atoi(p.GetHeaders().Get("Retry-After")) // 0: none
	switch f := frame.(type) {
	case *Subscribe:
		e.Frame, e.RoomID = "subscribe", f.RoomID
	case *Unsubscribe:
		e.Frame, e.RoomID = "unsubscribe", f.RoomID
	case *Post:
		e.Frame, e.RoomID, e.ClientMessageID = "post", f.RoomID, f.ClientMessageID
	case *Read:
		e.Frame, e.RoomID = "read", f.RoomID
	case *Typing:
		e.Frame, e.RoomID = "typing", f.RoomID
	}
	return e
}

func unknownRoom() error {
	return problem.New(http.StatusNotFound, "room.unknown", "there is no such room of yours")
}

// subscribe puts the socket into a room, and lets it catch up. To subscribe again is to begin anew after another seq.
func (g *Gateway) subscribe(ctx context.Context, s *socket, f *Subscribe) error {
	if !roomID.MatchString(f.RoomID) {
		return unknownRoom()
	}
	if f.AfterSeq > maxSeq {
		return problem.Invalid("after_seq", "expected at most 9007199254740991")
	}
	if old := g.hub.subscription(s, f.RoomID); old != nil {
		s.quit(old)
	} else if g.hub.count(s) >= g.cfg.MaxSubscriptions {
		return problem.New(http.StatusTooManyRequests, "rate.limited", "this socket is in as many rooms as it may be")
	}
	partitions, err := g.ready(ctx)
	if err != nil {
		return err
	}
	load := func() (Membership, error) {
		asking, cancel := context.WithTimeout(ctx, askStore)
		defer cancel()
		return g.cfg.Commands.Enter(asking, f.RoomID)
	}
	for {
		r, err := g.hub.enter(f.RoomID, engine.PartitionOf(f.RoomID, partitions), load)
		if err != nil {
			return err
		}
		sub, head, err := g.hub.attach(r, s, f.AfterSeq)
		if errors.Is(err, errForgotten) {
			continue
		}
		if err != nil {
			return unknownRoom()
		}
		if head < f.AfterSeq { // this node hears later than the one that the client comes from, or the store was restored
			now, err := load()
			if err != nil {
				g.hub.end(sub)
				return err
			}
			head = g.hub.knowHead(sub, now.HeadSeq)
		}
		if err := s.send(ctx, encode(Subscribed{"subscribed", f.RoomID, head})); err != nil {
			return err // the connection is gone
		}
		if _, done := g.hub.caughtUp(sub); !done {
			s.wg.Go(func() { g.catchUp(ctx, s, sub) })
		}
		return nil
	}
}

// catchUp sends what is older than the window, page by page, until the window reaches the subscription's place.
func (g *Gateway) catchUp(ctx context.Context, s *socket, sub *subscription) {
	select {
	case s.catching <- struct{}{}:
		defer func() { <-s.catching }()
	case <-ctx.Done():
		return
	}
	for {
		upTo, done := g.hub.caughtUp(sub)
		if done {
			return
		}
		page, err := g.older(ctx, sub.room.id, sub.next, upTo)
		if err == nil {
			err = s.sendPage(ctx, sub, page)
		}
		if err != nil {
			if g.hub.end(sub) && ctx.Err() == nil {
				s.refuse(ctx, err, &Subscribe{RoomID: sub.room.id})
			}
			return
		}
	}
}

// sendPage sends a page to a subscription that is not live: nobody else moves its place.
func (s *socket) sendPage(ctx context.Context, sub *subscription, page []chatrooms.Message) error {
	for tries := 0; ; tries++ {
		from := sub.next
		err := s.sendMessages(ctx, sub, page)
		if page = page[sub.next-from:]; !errors.Is(err, errSealed) || tries == 10 {
			return err
		}
		if err := wait(ctx, openAgain); err != nil {
			return err
		}
	}
}

func (g *Gateway) post(ctx context.Context, s *socket, f *Post) error {
	ctx, cancel := context.WithTimeout(ctx, askStore)
	defer cancel()
	posted, message, err := g.cfg.Commands.Post(ctx, s.id, *f)
	if err != nil {
		return err
	}
	if message.Revision >= 0 { // not one that was said before
		g.hub.ahead(message)
		g.ephemeral.tell(hint{Node: g.ephemeral.node, Room: f.RoomID, Message: &message})
	}
	posted.Type, posted.RoomID, posted.ClientMessageID = "posted", f.RoomID, f.ClientMessageID
	s.answer(posted)
	return nil
}

// markRead notes how far the client has read. Marks are sent a second apart, each room's latest: a client that scrolls
// through a conversation is one event, not a hundred.
func (g *Gateway) markRead(ctx context.Context, s *socket, f *Read) {
	if g.hub.subscription(s, f.RoomID) == nil {
		s.answer(refusal(problem.From(unknownRoom()), f))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, waits := s.marks[f.RoomID]
	first := s.marks == nil
	if first {
		s.marks = map[string]uint64{}
	}
	if !waits || f.Seq > s.marks[f.RoomID] {
		s.marks[f.RoomID] = f.Seq
	}
	if first {
		s.wg.Go(func() { g.sendMarks(ctx, s) })
	}
}

// sendMarks sends the marks that wait, until there is none. Those of a socket that ends are sent at once, and given up
// when the store does not take them soon.
func (g *Gateway) sendMarks(ctx context.Context, s *socket) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastMarks, cancel) })
	defer stop()
	for {
		s.mu.Lock()
		marks := s.marks
		if s.marks = map[string]uint64{}; len(marks) == 0 {
			s.marks = nil
		}
		s.mu.Unlock()
		if len(marks) == 0 {
			return
		}
		for room, seq := range marks {
			asking, cancel := context.WithTimeout(sending, askStore)
			err := g.cfg.Commands.MarkRead(asking, s.id, room, seq)
			cancel()
			if err != nil && ctx.Err() == nil {
				s.refuse(ctx, err, &Read{RoomID: room})
			}
		}
		_ = wait(ctx, g.cfg.MarkEvery) // ended or not: what waits is sent
		if sending.Err() != nil {
			return
		}
	}
}

const (
	maxSeq    = 1<<53 - 1 // what a JavaScript number holds
	askStore  = 10 * time.Second
	askTables = 2 * time.Second
	lastMarks = 3 * time.Second
)
