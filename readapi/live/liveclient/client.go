// Package liveclient talks to the live gateway: it stays connected, and gives each message of the rooms that it follows once,
// in order, whatever happens to connections and nodes.
//
// It remembers the last message of each room and subscribes again after it. A post is sent until it is answered, under
// the same client message ID, so it is said once.
package liveclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"github.com/dangdangsalon/salon/readapi/live"
)

// Config is what a client is made of.
type Config struct {
	// URLs are the addresses of the nodes (http:// or https://). A connection goes to the next after each failure.
	URLs []string
	// Token gives the JWT for a connection: again for each, since the last may have expired.
	Token func(ctx context.Context) (string, error)
	// On is told of every frame that the caller may care for, in order, one at a time: *live.Message (each once, none
	// missing), *live.HasRead, *live.IsTyping, *live.Presence, *live.Subscribed, and *live.Error of a room. It must not block for
	// long: the socket is not read meanwhile. Defaults to nothing.
	On func(frame any)
	// Disconnected is told why a connection ended. Defaults to nothing.
	Disconnected func(err error)
	// Backoff is the longest pause between two attempts to connect; it is drawn at random, from 0 to less after the first
	// failures. Defaults to 2 s.
	Backoff time.Duration
}

// Client is one person's connection. Make it with New, and Run it; everything else may be called at any time.
type Client struct {
	cfg Config

	mu      sync.Mutex
	conn    *websocket.Conn // nil while there is none
	rooms   map[string]*following
	waiting map[string]*posting // by room and client message ID
}

// following is a room that the client follows.
type following struct {
	after uint64 // the last message that On got
}

// posting is a post that was not answered yet.
type posting struct {
	frame  live.Post
	answer chan any // *live.Posted or *live.Error
}

// New makes a client.
func New(cfg Config) *Client {
	if cfg.Backoff == 0 {
		cfg.Backoff = 2 * time.Second
	}
	if cfg.On == nil {
		cfg.On = func(any) {}
	}
	if cfg.Disconnected == nil {
		cfg.Disconnected = func(error) {}
	}
	return &Client{cfg: cfg, rooms: map[string]*following{}, waiting: map[string]*posting{}}
}

// Run stays connected until ctx ends. It returns an error when to go on is useless: the token is refused.
func (c *Client) Run(ctx context.Context) error {
	node := rand.IntN(len(c.cfg.URLs)) //nolint:gosec // no secret
	for failures := 0; ; failures++ {
		connected, err := c.connect(ctx, c.cfg.URLs[node])
		if ctx.Err() != nil {
			return nil //nolint:nilerr // asked to stop
		}
		if refused := (*RefusedError)(nil); errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
			return err
		}
		c.cfg.Disconnected(err)
		node = (node + 1) % len(c.cfg.URLs)
		if connected {
			failures = 0
		}
		most := min(c.cfg.Backoff, 50*time.Millisecond<<min(failures, 10))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rand.N(most)): //nolint:gosec // no secret
		}
	}
}

// RefusedError is an answer that is no socket.
type RefusedError struct{ Status int }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.Status, http.StatusText(e.Status))
}

// connect is one connection, from its beginning to its end.
func (c *Client) connect(ctx context.Context, url string) (connected bool, err error) {
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return false, fmt.Errorf("get a token: %w", err)
	}
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	conn, answer, err := websocket.Dial(dialing, "ws"+strings.TrimPrefix(strings.TrimSuffix(url, "/"), "http")+"/v1/live", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}, Subprotocols: []string{live.Subprotocol},
	})
	cancel()
	if err != nil {
		if answer != nil && answer.StatusCode != http.StatusSwitchingProtocols {
			return false, &RefusedError{answer.StatusCode}
		}
		return false, fmt.Errorf("connect to %s: %w", url, err)
	}
	conn.SetReadLimit(1 << 20)
	defer conn.CloseNow()
	if err := c.resume(ctx, conn); err != nil {
		return true, err
	}
	defer func() {
		c.mu.Lock()
		c.conn = nil
		c.mu.Unlock()
	}()
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return true, fmt.Errorf("read: %w", err)
		}
		f, err := live.ParseServer(frame)
		if err != nil {
			return true, err
		}
		if err := c.take(ctx, f); err != nil {
			return true, err
		}
	}
}

// resume says on a new connection what is to be said.
func (c *Client) resume(ctx context.Context, conn *websocket.Conn) error {
	c.mu.Lock()
	c.conn = conn
	var frames []any
	for room, f := range c.rooms {
		frames = append(frames, live.Subscribe{Type: "subscribe", RoomID: room, AfterSeq: f.after})
	}
	for _, p := range c.waiting {
		frames = append(frames, p.frame)
	}
	c.mu.Unlock()
	for _, f := range frames {
		if err := c.send(ctx, conn, f); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) send(ctx context.Context, conn *websocket.Conn, frame any) error {
	b, err := json.Marshal(frame)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, b); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// say sends a frame if there is a connection; what has to be said on the next is said by resume.
func (c *Client) say(ctx context.Context, frame any) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil && c.send(ctx, conn, frame) != nil {
		_ = conn.CloseNow() // the reader sees it, and connects again
	}
}

// Follow subscribes to a room after a seq: 0 for everything.
func (c *Client) Follow(ctx context.Context, room string, after uint64) {
	c.mu.Lock()
	c.rooms[room] = &following{after}
	c.mu.Unlock()
	c.say(ctx, live.Subscribe{Type: "subscribe", RoomID: room, AfterSeq: after})
}

// Unfollow ends it.
func (c *Client) Unfollow(ctx context.Context, room string) {
	c.mu.Lock()
	delete(c.rooms, room)
	c.mu.Unlock()
	c.say(ctx, live.Unsubscribe{Type: "unsubscribe", RoomID: room})
}

// Read notes how far the caller has read. One that is lost with its connection is made up for by the next.
func (c *Client) Read(ctx context.Context, room string, seq uint64) {
	c.say(ctx, live.Read{Type: "read", RoomID: room, Seq: seq})
}

// Typing tells the other side that the caller is writing.
func (c *Client) Typing(ctx context.Context, room string) {
	c.say(ctx, live.Typing{Type: "typing", RoomID: room})
}

// RejectedError is a post that was not accepted, and will not be.
type RejectedError struct{ Frame live.Error }

func (e *RejectedError) Error() string { return e.Frame.Code + ": " + e.Frame.Detail }

// Post says something, until it is answered or ctx ends. It is on disk when there is no error; after ctx's it may be.
func (c *Client) Post(ctx context.Context, room, clientMessageID, text string) (live.Posted, error) {
	p := &posting{
		frame:  live.Post{Type: "post", RoomID: room, ClientMessageID: clientMessageID, Text: text},
		answer: make(chan any, 1),
	}
	key := room + "\n" + clientMessageID
	c.mu.Lock()
	c.waiting[key] = p
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, key)
		c.mu.Unlock()
	}()
	c.say(ctx, p.frame)
	for {
		select {
		case <-ctx.Done():
			return live.Posted{}, ctx.Err()
		case a := <-p.answer:
			switch a := a.(type) {
			case *live.Posted:
				return *a, nil
			case *live.Error:
				if a.RetryAfter == 0 {
					return live.Posted{}, &RejectedError{*a}
				}
				select {
				case <-ctx.Done():
					return live.Posted{}, ctx.Err()
				case <-time.After(time.Duration(a.RetryAfter) * time.Second):
					c.say(ctx, p.frame)
				}
			}
		}
	}
}

// take handles a frame of the server.
func (c *Client) take(ctx context.Context, frame any) error {
	switch f := frame.(type) {
	case *live.Message:
		c.mu.Lock()
		room := c.rooms[f.RoomID]
		follows := room != nil && f.Seq > room.after
		var hole error
		if follows {
			if f.Seq != room.after+1 {
				hole = fmt.Errorf("message %d of room %s came after %d", f.Seq, f.RoomID, room.after)
			}
			room.after = f.Seq
		}
		c.mu.Unlock()
		if hole != nil {
			return hole
		}
		if follows {
			c.cfg.On(f)
		}
	case *live.Posted:
		c.answered(f.RoomID, f.ClientMessageID, f)
	case *live.Resync:
		c.subscribeAgain(ctx, f.RoomID)
	case *live.Error:
		switch {
		case f.ClientMessageID != "":
			c.answered(f.RoomID, f.ClientMessageID, f)
		case f.RetryAfter > 0 && f.RoomID != "":
			go func() { // not waited for: it ends with ctx, or says one frame
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(f.RetryAfter) * time.Second):
					c.subscribeAgain(ctx, f.RoomID)
				}
			}()
		default:
			c.cfg.On(f)
		}
	case nil, *live.Pong:
	default:
		c.cfg.On(f)
	}
	return nil
}

func (c *Client) subscribeAgain(ctx context.Context, room string) {
	c.mu.Lock()
	f := c.rooms[room]
	var after uint64
	if f != nil {
		after = f.after
	}
	c.mu.Unlock()
	if f != nil {
		c.say(ctx, live.Subscribe{Type: "subscribe", RoomID: room, AfterSeq: after})
	}
}

func (c *Client) answered(room, clientMessageID string, answer any) {
	c.mu.Lock()
	p := c.waiting[room+"\n"+clientMessageID]
	c.mu.Unlock()
	if p != nil {
		select {
		case p.answer <- answer:
		default: // answered already
		}
	}
}
