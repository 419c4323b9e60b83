package liveclient

import (
	"fmt"
	"slices"
	"time"

	"github.com/dangdangsalon/salon/readapi/live"
)

// saying is a frame that is said until it is answered.
type saying struct {
	said bool // on this connection
	not  time.Time
}

// again has it said once more, in so many seconds.
func (s *saying) again(seconds int) {
	s.said, s.not = false, time.Now().Add(time.Duration(seconds)*time.Second)
}

// following is a room that the client follows.
type following struct {
	saying
	after  uint64 // the last message that On got
	there  bool   // subscribed, on this connection
	read   uint64 // the caller's mark
	marked uint64 // the mark that was said on this connection
	mark   saying // when the next may be said
	typing bool   // to be said
}

// posting is a post that was not answered yet.
type posting struct {
	saying
	frame  live.Post
	answer chan any // *live.Posted or *live.Error
}

// begin is a new connection: nothing is said.
func (c *Client) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asides = nil
	for _, r := range c.rooms {
		*r = following{after: r.after, read: r.read}
	}
	for _, p := range c.posts {
		p.saying = saying{}
	}
}

// next is what is to be said now; nil when there is nothing, and then later tells when there may be (nil: not by itself).
func (c *Client) next(now time.Time) (frame any, later <-chan time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var soonest time.Time
	due := func(s *saying) bool {
		if s.said {
			return false
		}
		if s.not.After(now) {
			if soonest.IsZero() || s.not.Before(soonest) {
				soonest = s.not
			}
			return false
		}
		s.said = true
		return true
	}
	if len(c.asides) > 0 {
		frame, c.asides = c.asides[0], c.asides[1:]
		return frame, nil
	}
	for room, r := range c.rooms {
		switch {
		case due(&r.saying):
			return live.Subscribe{Type: "subscribe", RoomID: room, AfterSeq: r.after}, nil
		case r.there && r.read > r.marked && due(&r.mark):
			r.marked, r.mark = r.read, saying{}
			return live.Read{Type: "read", RoomID: room, Seq: r.read}, nil
		case r.there && r.typing:
			r.typing = false
			return live.Typing{Type: "typing", RoomID: room}, nil
		}
	}
	for _, p := range c.posts {
		if due(&p.saying) {
			return p.frame, nil
		}
	}
	if !soonest.IsZero() {
		later = time.After(soonest.Sub(now))
	}
	return nil, later
}

// take handles a frame of the server. An error ends the connection.
func (c *Client) take(frame any) error {
	switch f := frame.(type) {
	case nil, *live.Pong:
		return nil
	case *live.Message:
		if tell, err := c.takeMessage(f); !tell {
			return err
		}
	case *live.Subscribed:
		c.subscribed(f)
	case *live.Resync:
		c.subscribeAgain(f.RoomID, 0)
		return nil
	case *live.Posted:
		c.answered(f.RoomID, f.ClientMessageID, f)
		return nil
	case *live.Error:
		if !c.refused(f) {
			return nil
		}
	}
	c.cfg.On(frame)
	return nil
}

// takeMessage says whether the message is the next one.
func (c *Client) takeMessage(m *live.Message) (tell bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[m.RoomID]
	if r == nil || !r.there || m.Seq <= r.after {
		return false, nil
	}
	if m.Seq != r.after+1 {
		return false, fmt.Errorf("message %d of room %s came after %d", m.Seq, m.RoomID, r.after)
	}
	r.after = m.Seq
	return true, nil
}

// subscribed lets the room's messages in. Where the store was restored to a time before the last message, the room goes
// on from what it has now.
func (c *Client) subscribed(f *live.Subscribed) {
	c.change(func() {
		r := c.rooms[f.RoomID]
		if r == nil {
			return
		}
		r.there = f.HeadSeq >= r.after
		if !r.there {
			r.after, r.read, r.saying = f.HeadSeq, min(r.read, f.HeadSeq), saying{}
		}
	})
}

func (c *Client) subscribeAgain(room string, seconds int) {
	c.change(func() {
		if r := c.rooms[room]; r != nil {
			r.there, r.marked = false, 0
			r.again(seconds)
		}
	})
}

// serverFault is the code of a failure that the server cannot explain. It ends a subscription all the same.
const serverFault = "internal.error"

// refused says whether the caller is to be told.
func (c *Client) refused(f *live.Error) (tell bool) {
	switch {
	case f.ClientMessageID != "":
		if f.RetryAfter == 0 {
			c.answered(f.RoomID, f.ClientMessageID, f)
			return false
		}
		c.change(func() {
			for _, p := range c.posts {
				if p.is(f.RoomID, f.ClientMessageID) {
					p.again(f.RetryAfter)
				}
			}
		})
	case f.RoomID == "":
		if f.RetryAfter == 0 {
			return true
		}
		c.change(func() { // a frame was passed over, and who knows which
			for _, r := range c.rooms {
				if !r.there {
					r.again(f.RetryAfter)
				}
			}
			for _, p := range c.posts {
				p.again(f.RetryAfter)
			}
		})
	case f.Frame == "read" && (f.RetryAfter > 0 || f.Code == serverFault): // the subscription holds
		c.change(func() {
			if r := c.rooms[f.RoomID]; r != nil {
				r.marked = 0
				r.mark.again(max(1, f.RetryAfter))
			}
		})
	case f.RetryAfter > 0:
		c.subscribeAgain(f.RoomID, f.RetryAfter)
	case f.Code == serverFault:
		c.subscribeAgain(f.RoomID, 1)
	default:
		if f.Code == "room.left" { // everything was told
			c.change(func() { delete(c.rooms, f.RoomID) })
		}
		return true
	}
	return false
}

func (p *posting) is(room, clientMessageID string) bool {
	return p.frame.RoomID == room && p.frame.ClientMessageID == clientMessageID
}

func (c *Client) answered(room, clientMessageID string, answer any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts = slices.DeleteFunc(c.posts, func(p *posting) bool {
		if !p.is(room, clientMessageID) {
			return false
		}
		p.answer <- answer // there is room for the only one
		return true
	})
}
