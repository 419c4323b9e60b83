package liveclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/dangdangsalon/salon/readapi"
	"github.com/dangdangsalon/salon/readapi/live"
)

// node is a gateway whose every frame the test says itself: what a real one cannot be made to say at will. The client
// before the real gateway, killed and frozen, is tested with the whole system.
type node struct {
	t       *testing.T
	url     string
	refuse  atomic.Int64 // the status that is answered instead of a socket; 0: none
	sockets chan *socket
}

type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

func newNode(t *testing.T) *node {
	n := &node{t: t, sockets: make(chan *socket, 16)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := int(n.refuse.Load()); status != 0 {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"code":"some.code","detail":"for a reason"}`)
			return
		}
		if r.Header.Get("Authorization") != "Bearer a token" {
			t.Errorf("authorized by %q", r.Header.Get("Authorization"))
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{live.Subprotocol}})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = conn.CloseNow() })
		n.sockets <- &socket{t, conn}
	}))
	n.url = s.URL
	t.Cleanup(s.Close)
	return n
}

// next is the client's next connection here.
func (n *node) next() *socket {
	n.t.Helper()
	select {
	case s := <-n.sockets:
		return s
	case <-time.After(10 * time.Second):
		n.t.Fatal("the client did not connect")
		return nil
	}
}

// hears reads frames of the client, which are these, in this order.
func (s *socket) hears(frames ...string) {
	s.t.Helper()
	for _, want := range frames {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		_, got, err := s.conn.Read(ctx)
		cancel()
		if err != nil || string(got) != want {
			s.t.Fatalf("heard %s (%v), want %s", got, err, want)
		}
	}
}

func (s *socket) says(frames ...any) {
	s.t.Helper()
	for _, f := range frames {
		b, err := json.Marshal(f)
		if err == nil {
			err = s.conn.Write(s.t.Context(), websocket.MessageText, b)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *socket) dies() { _ = s.conn.CloseNow() }

// run starts a client over these nodes, in order, and answers what it is told.
func run(t *testing.T, cfg Config, nodes ...*node) (c *Client, told chan any) {
	told = make(chan any, 64)
	for _, n := range nodes {
		cfg.URLs = append(cfg.URLs, n.url)
	}
	cfg.InOrder, cfg.Backoff = true, 10*time.Millisecond
	cfg.Token = func(context.Context) (string, error) { return "a token", nil }
	cfg.On = func(frame any) { told <- frame }
	c = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return c, told
}

// hear takes so many messages from what the client is told, passing over what is none, and wants these seqs.
func hear(t *testing.T, told chan any, seqs ...uint64) {
	t.Helper()
	for _, want := range seqs {
		m := await[*live.Message](t, told)
		if m.Seq != want {
			t.Fatalf("told of message %d, want %d", m.Seq, want)
		}
	}
}

func await[T any](t *testing.T, told chan any) T {
	t.Helper()
	for {
		select {
		case frame := <-told:
			if f, ok := frame.(T); ok {
				return f
			}
		case <-time.After(10 * time.Second):
			var f T
			t.Fatalf("not told of a %T", f)
			return f
		}
	}
}

func message(seq uint64) live.Message {
	return live.Message{Type: "message", Message: readapi.Message{RoomID: "r", Seq: seq}}
}

func subscribed(head uint64) live.Subscribed {
	return live.Subscribed{Type: "subscribed", RoomID: "r", HeadSeq: head}
}

const subscribe = `{"type":"subscribe","room_id":"r"}`

func subscribeAfter(seq uint64) string {
	return fmt.Sprintf(`{"type":"subscribe","room_id":"r","after_seq":%d}`, seq)
}

func TestTheNextNodeGoesOnAfterTheLastMessage(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	c, told := run(t, Config{}, a, b)
	c.Follow("r", 0)
	s := a.next()
	s.hears(subscribe)
	s.says(subscribed(2), message(1), message(2), message(2))
	hear(t, told, 1, 2)
	s.dies()
	s = b.next()
	s.hears(subscribeAfter(2))
	s.says(message(9), subscribed(3), message(2), message(3)) // 9 is of nothing that this connection asked for
	hear(t, told, 3)
	b.refuse.Store(503)
	s.dies()
	a.next().hears(subscribeAfter(3))
}

func TestAHoleIsNotPassedOver(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	c, told := run(t, Config{}, a, b)
	c.Follow("r", 4)
	s := a.next()
	s.hears(subscribeAfter(4))
	s.says(subscribed(7), message(5), message(7))
	s = b.next()
	s.hears(subscribeAfter(5))
	s.says(subscribed(7), message(6), message(7))
	hear(t, told, 5, 6, 7)
}

func TestAResyncSubscribesAfterTheLastMessage(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, told := run(t, Config{}, n)
	c.Follow("r", 0)
	s := n.next()
	s.hears(subscribe)
	s.says(subscribed(9), message(1), live.Resync{Type: "resync", RoomID: "r", FromSeq: 2}, message(4))
	s.hears(subscribeAfter(1))
	s.says(subscribed(9), message(2))
	hear(t, told, 1, 2)
}

func TestARestoredStoreIsFollowedFromWhatItHas(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, told := run(t, Config{}, n)
	c.Follow("r", 8)
	c.Read("r", 8)
	s := n.next()
	s.hears(subscribeAfter(8))
	s.says(subscribed(5), message(9)) // after 8, of a server that knows no better
	s.hears(subscribeAfter(5))
	s.says(subscribed(5), message(6))
	if f := await[*live.Subscribed](t, told); f.HeadSeq != 5 {
		t.Errorf("told of head %d", f.HeadSeq)
	}
	hear(t, told, 6)
	s.hears(`{"type":"read","room_id":"r","seq":5}`)
}

func TestARefusedRoom(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, told := run(t, Config{}, n)
	c.Follow("r", 0)
	s := n.next()
	s.hears(subscribe)
	s.says(live.Error{Type: "error", Code: "store.unavailable", RoomID: "r", RetryAfter: 1})
	s.hears(subscribe)
	s.says(live.Error{Type: "error", Code: "internal.error", RoomID: "r"}) // the server cannot say, and has ended it all the same
	s.hears(subscribe)
	s.says(live.Error{Type: "error", Code: "room.unknown", RoomID: "r"})
	if e := await[*live.Error](t, told); e.Code != "room.unknown" {
		t.Errorf("told of %+v", e)
	}
	s.dies()
	s = n.next()
	s.hears(subscribe) // it may be there by now
	s.says(subscribed(1), message(1), live.Error{Type: "error", Code: "room.left", RoomID: "r"})
	hear(t, told, 1)
	if e := await[*live.Error](t, told); e.Code != "room.left" {
		t.Errorf("told of %+v", e)
	}
	s.dies()
	s = n.next()
	c.Follow("q", 0)
	s.hears(`{"type":"subscribe","room_id":"q"}`) // and not r
}

// A mark that is refused for now is said again; the room goes on meanwhile.
func TestARefusedMarkIsSaidAgain(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, told := run(t, Config{}, n)
	c.Follow("r", 0)
	s := n.next()
	s.hears(subscribe)
	s.says(subscribed(1), message(1))
	hear(t, told, 1)
	c.Read("r", 1)
	const mark = `{"type":"read","room_id":"r","seq":1}`
	for _, code := range []string{"store.unavailable", "internal.error"} {
		s.hears(mark)
		s.says(live.Error{Type: "error", Code: code, Frame: "read", RoomID: "r", RetryAfter: map[string]int{"store.unavailable": 1}[code]}, message(2))
		c.Follow("q", 0) // said meanwhile: what is refused for now holds up nothing else
		s.hears(`{"type":"subscribe","room_id":"q"}`)
		c.Unfollow("q")
		s.hears(`{"type":"unsubscribe","room_id":"q"}`)
	}
	s.hears(mark)
	hear(t, told, 2)
}

// settle posts in the background; the outcome is asked for later.
func settle(t *testing.T, c *Client, id string) (outcome func() (live.Posted, error)) {
	type result struct {
		posted live.Posted
		err    error
	}
	done := make(chan result, 1)
	go func() {
		posted, err := c.Post(t.Context(), "r", id, "hi")
		done <- result{posted, err}
	}()
	return func() (live.Posted, error) {
		t.Helper()
		r := <-done
		return r.posted, r.err
	}
}

func posts(id string) string {
	return fmt.Sprintf(`{"type":"post","room_id":"r","client_message_id":%q,"text":"hi"}`, id)
}

func posted(id string, seq uint64) live.Posted {
	return live.Posted{Type: "posted", RoomID: "r", ClientMessageID: id, Seq: seq}
}

func TestAPostIsSaidUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	c, _ := run(t, Config{}, a, b)
	outcome := settle(t, c, "m1")
	s := a.next()
	s.hears(posts("m1"))
	s.dies() // with the answer
	s = b.next()
	s.hears(posts("m1"))
	s.says(live.Error{Type: "error", Code: "outcome.unknown", RoomID: "r", ClientMessageID: "m1", RetryAfter: 1})
	s.hears(posts("m1"))
	s.says(posted("m1", 7), posted("m1", 7))
	if p, err := outcome(); err != nil || p.Seq != 7 {
		t.Errorf("%+v, %v", p, err)
	}
	outcome = settle(t, c, "m2")
	s.hears(posts("m2"))
	s.says(live.Error{Type: "error", Code: "room.left", RoomID: "r", ClientMessageID: "m2"})
	var rejected *RejectedError
	if _, err := outcome(); !errors.As(err, &rejected) || rejected.Frame.Code != "room.left" {
		t.Errorf("%v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Post(over, "r", "m3", "hi"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if len(c.posts) != 0 {
		t.Errorf("%d posts are kept", len(c.posts))
	}
}

// The server has refused a frame without having read it, so it cannot say which.
func TestWhateverWasPassedOverIsSaidAgain(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, _ := run(t, Config{}, n)
	c.Follow("r", 0)
	s := n.next()
	s.hears(subscribe)
	outcome := settle(t, c, "m1")
	s.hears(posts("m1"))
	s.says(live.Error{Type: "error", Code: "rate.limited", RetryAfter: 1})
	s.hears(subscribe, posts("m1"))
	s.says(subscribed(0), posted("m1", 1))
	if _, err := outcome(); err != nil {
		t.Error(err)
	}
}

func TestPostsAreSaidInOrder(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, _ := run(t, Config{}, n)
	s := n.next()
	var want []string
	for i := range 9 {
		id := fmt.Sprint("m", i)
		settle(t, c, id)
		want = append(want, posts(id))
		s.hears(posts(id))
	}
	s.dies()
	s = n.next()
	s.hears(want...)
	for i := range 9 {
		s.says(posted(fmt.Sprint("m", i), 1))
	}
}

func TestMarksAreSaidOnceTheRoomIsThere(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, told := run(t, Config{}, n)
	c.Follow("r", 5)
	c.Typing("r") // there is nobody to see it yet
	c.Read("r", 5)
	s := n.next()
	s.hears(subscribeAfter(5))
	s.says(subscribed(6))
	s.hears(`{"type":"read","room_id":"r","seq":5}`)
	s.says(message(6))
	hear(t, told, 6)
	c.Read("r", 6)
	c.Read("r", 3)
	s.hears(`{"type":"read","room_id":"r","seq":6}`)
	c.Typing("r")
	s.hears(`{"type":"typing","room_id":"r"}`)
	s.dies()
	s = n.next()
	s.hears(subscribeAfter(6))
	s.says(subscribed(6))
	s.hears(`{"type":"read","room_id":"r","seq":6}`) // it may have been lost with the connection
	c.Unfollow("r")
	s.hears(`{"type":"unsubscribe","room_id":"r"}`)
}

func TestANodeThatIsSilentIsLeft(t *testing.T) {
	t.Parallel()
	silent, b := newNode(t), newNode(t)
	c, _ := run(t, Config{Heartbeat: 100 * time.Millisecond}, silent, b)
	silent.next() // reads nothing, so answers no ping
	c.Follow("r", 0)
	b.next().hears(subscribe)
}

func TestRunEndsWhenToGoOnIsUseless(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		nodes []int // what each answers
		want  int   // 0: it goes on
	}{
		{"a token that is refused", []int{401, 0}, 401},
		{"a role that is refused", []int{403}, 403},
		{"no node has a gateway", []int{404, 404}, 404},
		{"one has", []int{404, 0}, 0},
		{"one is away, one has too much to do, one serves", []int{503, 429, 0}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var urls []string
			for _, status := range c.nodes {
				n := newNode(t)
				n.refuse.Store(int64(status))
				urls = append(urls, n.url)
			}
			err := New(Config{
				URLs: urls, InOrder: true, Backoff: time.Millisecond,
				Token:     func(context.Context) (string, error) { return "a token", nil },
				Connected: func(string) { cancel() },
			}).Run(ctx)
			var refused *RefusedError
			switch {
			case c.want == 0 && err != nil:
				t.Error(err)
			case c.want != 0 && (!errors.As(err, &refused) || refused.Status != c.want || refused.Code != "some.code"):
				t.Errorf("%v, want a refusal with %d", err, c.want)
			}
		})
	}
	if err := New(Config{}).Run(t.Context()); err == nil {
		t.Error("it runs without a node")
	}
}

// Two hundred rooms are more than the server takes at once.
func TestManyRoomsAreSubscribedWithinTheServersLimits(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, _ := run(t, Config{}, n)
	var want []string
	for i := range frameBurst + 20 {
		c.Follow(fmt.Sprint("r", i), 0)
		want = append(want, fmt.Sprintf(`{"type":"subscribe","room_id":"r%d"}`, i))
	}
	s := n.next()
	var got []string
	began := time.Now()
	for range want {
		_, frame, err := s.conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(frame))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("heard %q", got)
	}
	// A lower bound, which no slow machine breaks: those beyond the burst have to wait.
	if least := 18 * time.Second / framesPerSecond; time.Since(began) < least {
		t.Errorf("%d frames within %v", len(got), time.Since(began))
	}
}
