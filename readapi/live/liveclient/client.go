// Package liveclient talks to the live gateway: it stays connected, and gives each message of the rooms that it follows once,
// in order, whatever happens to connections and nodes.
//
// It remembers the last message of each room and subscribes again after it. A post is sent until it is answered, under
// the same client message ID, so it is said once.
//
// Nothing is queued for the server, either. What is to be said follows from what the client wants (rooms, marks, posts)
// and what the connection has answered; on a new connection nothing is answered, so all of it is said again.
package liveclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/dangdangsalon/salon/readapi/live"
)

// Config is what a client is made of.
type Config struct {
	// URLs are the addresses of the nodes (http:// or https://). A connection goes to the next after each failure.
	URLs []string
	// InOrder begins with the first of them. Defaults to any, which spreads people over the nodes.
	InOrder bool
	// Token gives the JWT for a connection: again for each, since the last may have expired.
	Token func(ctx context.Context) (string, error)
	// HTTP makes the connections. Defaults to http.DefaultClient.
	HTTP *http.Client
	// On is told of every frame that the caller may care for, in order, one at a time: *live.Message (each once, none
	// missing), *live.HasRead, *live.IsTyping, *live.Presence, *live.Subscribed, and *live.Error of a room that is refused or
	// was left. A Subscribed whose HeadSeq is below the last message tells of a store that was restored: what was said after
	// that is gone, and other messages come in its place. It must not block for long: the socket is not read meanwhile.
	// Defaults to nothing.
	On func(frame any)
	// Connected is told which node a connection has reached, before its frames. Defaults to nothing.
	Connected func(url string)
	// Disconnected is told why a connection ended, or could not be made. Defaults to nothing.
	Disconnected func(err error)
	// Backoff is the longest pause between two attempts to connect; it is drawn at random, from 0 to less after the first
	// failures. Defaults to 2 s.
	Backoff time.Duration
	// Heartbeat is how often a connection is tried that brings nothing: a node that lost its power says no goodbye.
	// Defaults to 15 s; one that does not answer for as long again is left.
	Heartbeat time.Duration
}

const (
	dialWithin = 10 * time.Second
	sendWithin = 10 * time.Second
	// Below the gateway's usual limit of 50 frames a second with bursts of 100: coming back to 200 rooms is to be no abuse.
	framesPerSecond, frameBurst = 40, 80
)

// Client is one person's connection. Make it with New, and Run it; everything else may be called at any time.
type Client struct {
	cfg  Config
	more chan struct{} // there may be something to say

	mu     sync.Mutex
	rooms  map[string]*following
	posts  []*posting // not answered yet, in order
	asides []any      // frames that are said once, or never
}

// New makes a client.
func New(cfg Config) *Client {
	if cfg.Backoff == 0 {
		cfg.Backoff = 2 * time.Second
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 15 * time.Second
	}
	if cfg.On == nil {
		cfg.On = func(any) {}
	}
	if cfg.Connected == nil {
		cfg.Connected = func(string) {}
	}
	if cfg.Disconnected == nil {
		cfg.Disconnected = func(error) {}
	}
	return &Client{cfg: cfg, more: make(chan struct{}, 1), rooms: map[string]*following{}}
}

// Run stays connected until ctx ends. It returns an error when to go on is useless: the token is refused, or none of
// the nodes has a live gateway.
func (c *Client) Run(ctx context.Context) error {
	if len(c.cfg.URLs) == 0 {
		return errors.New("there is no node to connect to")
	}
	node := 0
	if !c.cfg.InOrder {
		node = rand.IntN(len(c.cfg.URLs)) //nolint:gosec // no secret
	}
	refusals := 0 // one after the other
	for failures := 0; ; failures++ {
		connected, err := c.connect(ctx, c.cfg.URLs[node])
		if ctx.Err() != nil {
			return nil //nolint:nilerr // asked to stop
		}
		if connected {
			failures, refusals = 0, 0
		}
		if refused := (*RefusedError)(nil); errors.As(err, &refused) && refused.final() {
			if refusals++; refused.ofToken() || refusals == len(c.cfg.URLs) {
				return err
			}
		}
		c.cfg.Disconnected(err)
		node = (node + 1) % len(c.cfg.URLs)
		most := min(c.cfg.Backoff, 50*time.Millisecond<<min(failures, 10))
		if !pause(ctx, rand.N(most)) { //nolint:gosec // no secret
			return nil
		}
	}
}

// RefusedError is an answer that is no socket. Code and Detail are the problem's, when it was one.
type RefusedError struct {
	Status       int
	Code, Detail string
}

func (e *RefusedError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("the server answers %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("the server answers %d %s: %s", e.Status, e.Code, e.Detail)
}

func (e *RefusedError) ofToken() bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

// final is not of a server that is away or has too much to do.
func (e *RefusedError) final() bool {
	return e.Status < 500 && e.Status != http.StatusTooManyRequests
}

// connect is one connection, from its beginning to its end.
func (c *Client) connect(ctx context.Context, url string) (connected bool, err error) {
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return false, fmt.Errorf("get a token: %w", err)
	}
	conn, err := c.dial(ctx, url, token)
	if err != nil {
		return false, err
	}
	c.begin()
	c.cfg.Connected(url)
	ctx, cancel := context.WithCancel(ctx)
	var speaking sync.WaitGroup
	defer speaking.Wait()
	defer func() { _ = conn.CloseNow() }()
	defer cancel()
	speaking.Go(func() {
		if c.speak(ctx, conn) != nil {
			_ = conn.CloseNow() // the reader sees it
		}
	})
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return true, fmt.Errorf("read from %s: %w", url, err)
		}
		f, err := live.ParseServer(frame)
		if err == nil {
			err = c.take(f)
		}
		if err != nil {
			return true, err
		}
	}
}

func (c *Client) dial(ctx context.Context, url, token string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, answer, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(strings.TrimSuffix(url, "/"), "http")+"/v1/live", &websocket.DialOptions{ //nolint:bodyclose // of a refusal it is in memory, else it is the socket
		HTTPClient: c.cfg.HTTP, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}, Subprotocols: []string{live.Subprotocol},
	})
	if err != nil {
		if answer != nil && answer.StatusCode != http.StatusSwitchingProtocols {
			refused := &RefusedError{Status: answer.StatusCode}
			body, _ := io.ReadAll(answer.Body) // its beginning, in memory
			_ = json.Unmarshal(body, refused)
			return nil, refused
		}
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	conn.SetReadLimit(1 << 20)
	return conn, nil
}

// speak says what there is to say, and tries the connection from time to time, until ctx ends or the connection does.
func (c *Client) speak(ctx context.Context, conn *websocket.Conn) error {
	pace := rate.NewLimiter(framesPerSecond, frameBurst)
	beat := time.NewTicker(c.cfg.Heartbeat)
	defer beat.Stop()
	for {
		frame, later := c.next(time.Now())
		var err error
		if frame != nil {
			if err = pace.Wait(ctx); err == nil {
				err = send(ctx, conn, frame)
			}
		} else {
			select {
			case <-ctx.Done():
				return nil
			case <-c.more:
			case <-later:
			case <-beat.C:
				err = ping(ctx, conn, c.cfg.Heartbeat)
			}
		}
		if err != nil {
			return err
		}
	}
}

func ping(ctx context.Context, conn *websocket.Conn, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return conn.Ping(ctx)
}

func send(ctx context.Context, conn *websocket.Conn, frame any) error {
	b, err := json.Marshal(frame)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, b)
}

// Follow subscribes to a room after a seq: 0 for everything.
func (c *Client) Follow(room string, after uint64) {
	c.change(func() { c.rooms[room] = &following{after: after} })
}

// Unfollow ends it.
func (c *Client) Unfollow(room string) {
	c.change(func() {
		delete(c.rooms, room)
		c.asides = append(c.asides, live.Unsubscribe{Type: "unsubscribe", RoomID: room})
	})
}

// Read notes how far the caller has read a room that they follow. It is said again on the next connection, and so not lost.
func (c *Client) Read(room string, seq uint64) {
	c.change(func() {
		if r := c.rooms[room]; r != nil {
			r.read = max(r.read, seq)
		}
	})
}

// Typing tells the other side that the caller is writing, if there is a connection.
func (c *Client) Typing(room string) {
	c.change(func() {
		if r := c.rooms[room]; r != nil && r.there {
			r.typing = true
		}
	})
}

// RejectedError is a post that was refused for good. Only internal.error leaves open whether it is there all the same.
type RejectedError struct{ Frame live.Error }

func (e *RejectedError) Error() string { return e.Frame.Code + ": " + e.Frame.Detail }

// Post says something, until it is answered or ctx ends. It is on disk when there is no error; after ctx's it may be.
func (c *Client) Post(ctx context.Context, room, clientMessageID, text string) (live.Posted, error) {
	p := &posting{
		frame:  live.Post{Type: "post", RoomID: room, ClientMessageID: clientMessageID, Text: text},
		answer: make(chan any, 1),
	}
	c.change(func() { c.posts = append(c.posts, p) })
	select {
	case <-ctx.Done():
		c.change(func() { c.posts = slices.DeleteFunc(c.posts, func(x *posting) bool { return x == p }) })
		return live.Posted{}, ctx.Err()
	case a := <-p.answer:
		if refused, ok := a.(*live.Error); ok {
			return live.Posted{}, &RejectedError{*refused}
		}
		return *a.(*live.Posted), nil
	}
}

// change changes what the client wants, and has it said.
func (c *Client) change(what func()) {
	c.mu.Lock()
	what()
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// pause is false when ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
