package live

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"github.com/dangdangsalon/salon/internal/problem"
)

func TestOutsidersAreToldNothing(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, nil)
	r.say(kims, "customer", "c1", "secret")
	member := g.dial("customer:c1")
	member.subscribe(kims, 0)
	member.hears("subscribed 1", "message 1")
	for _, who := range []string{"customer:c2", "customer:kim", "groomer:lee", "groomer:c1"} { // two have a member's name
		x := g.dial(who)
		for _, room := range []string{
			kims, "kim.00000000000000000000000002", "kim.*", "kim.%", "*", "", "kim.0000000000000000000000000_", "KIM.00000000000000000000000001",
			kims + "\\n", "kim.00000000000000000000000001 OR 1=1", "../" + kims, "chat-" + kims, strings.Repeat("k", 30000),
		} {
			for _, frame := range []string{
				`{"type":"subscribe","room_id":"%s"}`, `{"type":"post","room_id":"%s","client_message_id":"1","text":"x"}`,
				`{"type":"read","room_id":"%s","seq":1}`, `{"type":"typing","room_id":"%s"}`,
			} {
				x.say(frame, room)
				x.hears("error room.unknown")
			}
			x.say(`{"type":"unsubscribe","room_id":"%s"}`, room)
		}
		r.say(kims, "groomer", "kim", "more")
		x.still()
	}
	member.hears("message 2", "message 3", "message 4", "message 5")
	member.still()
	if n := g.Status().Rooms; n > 1 {
		t.Errorf("%d rooms are remembered: guesses leave something behind", n)
	}
}

func TestWhoLeavesHearsWhatWasThereAndNoMore(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, nil)
	stays, leaves, late := g.dial("groomer:kim"), g.dial("customer:c1"), g.dial("customer:c1")
	stays.subscribe(kims, 0)
	leaves.subscribe(kims, 0)
	stays.hears("subscribed 0")
	leaves.hears("subscribed 0")
	r.say(kims, "customer", "c1", "bye")
	r.leave(kims, "customer")
	r.say(kims, "groomer", "kim", "alone at last")
	leaves.hears("message 1", "error room.left")
	leaves.still()
	stays.hears("message 1", "message 2")
	late.subscribe(kims, 0) // what was there may be read later, too
	late.hears("subscribed 1", "message 1", "error room.left")
	leaves.say(`{"type":"typing","room_id":%q}`, kims)
	leaves.hears("error room.unknown")
	stays.still()
}

func TestWhoMayNotComeInIsToldWhy(t *testing.T) {
	t.Parallel()
	g := newRooms().serve(t, func(c *Config) { c.MaxSockets = 2; c.Origins = []string{"https://app.example"} })
	dial := func(header http.Header, protocols ...string) (int, error) {
		c, answer, err := websocket.Dial(t.Context(), g.url+"/v1/live", &websocket.DialOptions{HTTPHeader: header, Subprotocols: append([]string{Subprotocol}, protocols...)})
		if err == nil {
			t.Cleanup(func() { _ = c.CloseNow() })
			if c.Subprotocol() != Subprotocol {
				t.Errorf("the server chose %q", c.Subprotocol())
			}
		}
		if kind := answer.Header.Get("Content-Type"); err != nil && kind != "application/problem+json" {
			t.Errorf("the refusal %d is %q", answer.StatusCode, kind)
		}
		return answer.StatusCode, err
	}
	for _, c := range []struct {
		what      string
		header    http.Header
		protocols []string
		status    int
	}{
		{"no token", nil, nil, 401},
		{"a token of another", http.Header{"Authorization": {"Bearer nonsense"}}, nil, 401},
		{"an admin", http.Header{"Authorization": {"Bearer admin:a"}}, nil, 403},
		{"another site", http.Header{"Authorization": {"Bearer customer:c3"}, "Origin": {"https://evil.example"}}, nil, 403},
		{"a browser", http.Header{"Origin": {"https://app.example"}}, []string{BearerPrefix + "customer_c2"}, 101},
		{"a browser with another's token", nil, []string{BearerPrefix + "nonsense"}, 401},
		{"a first socket", http.Header{"Authorization": {"Bearer customer:c9"}}, nil, 101},
		{"a second", http.Header{"Authorization": {"Bearer customer:c9"}}, nil, 101},
		{"one too many", http.Header{"Authorization": {"Bearer customer:c9"}}, nil, 429},
		{"somebody of that name and another role", http.Header{"Authorization": {"Bearer groomer:c9"}}, nil, 101},
	} {
		if status, err := dial(c.header, c.protocols...); status != c.status {
			t.Errorf("%s: %d, %v, want %d", c.what, status, err, c.status)
		}
	}
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/v1/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	ask.Header.Set("Authorization", "Bearer customer:c8")
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var p struct {
		Code string `json:"code"`
	}
	if err := json.UnmarshalRead(answer.Body, &p); err != nil || answer.StatusCode != http.StatusUpgradeRequired || p.Code != "request.invalid" {
		t.Errorf("no WebSocket: %d, %+v, %v", answer.StatusCode, p, err)
	}
	g.logs.mu.Lock()
	defer g.logs.mu.Unlock()
	if log := g.logs.b.String(); strings.Contains(log, "customer_c2") || strings.Contains(log, "nonsense") || !strings.Contains(log, "/v1/live") {
		t.Errorf("the log holds a token, or nothing:\n%s", log)
	}
}

func TestBadFramesAreAnsweredAndTooManyEndTheConnection(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, func(c *Config) { c.FrameRate = 20; c.MaxSubscriptions = 1 })
	other := g.dial("groomer:kim")
	other.subscribe(kims, 0)
	other.hears("subscribed 0")
	for _, c := range []struct {
		what string
		do   func(p *guest)
		code websocket.StatusCode
	}{
		{"binary", func(p *guest) { _ = p.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"ping"}`)) }, websocket.StatusUnsupportedData},
		{"too large", func(p *guest) {
			_ = p.Write(t.Context(), websocket.MessageText, []byte(strings.Repeat(" ", maxFrame+1)))
		}, websocket.StatusMessageTooBig},
		{"malformed", func(p *guest) {
			p.say(`{"type":"shout"}`)
			p.hears("error request.invalid")
			p.say(`{`)
			p.hears("error request.invalid")
			p.still() // and is still served
			p.subscribe(kims, maxSeq+1)
			p.hears("error request.invalid")
		}, 0},
		{"one room too many", func(p *guest) {
			p.subscribe(kims, 0)
			p.hears("subscribed 0")
			p.subscribe(lees, 0)
			p.hears("error rate.limited")
			p.subscribe(kims, 0) // the same again is none more
			p.hears("subscribed 0")
		}, 0},
		{"a flood", func(p *guest) {
			for range 40 {
				p.say(`{"type":"ping"}`)
			}
			limited := false
			for !limited {
				f, err := p.hear()
				if err != nil {
					t.Fatal(err)
				}
				limited = short(f) == "error rate.limited"
				p.say(`{"type":"ping"}`)
			}
			for range 3 * maxRefused {
				if p.Write(t.Context(), websocket.MessageText, []byte(`{"type":"ping"}`)) != nil {
					break
				}
			}
		}, CloseAbuse},
	} {
		p := g.dial("customer:c1")
		c.do(p)
		if c.code != 0 {
			p.closed(c.code)
		}
		t.Log(c.what)
		other.still()
	}
}

// A client that errs now and then, for however long, is not one that floods.
func TestWhoErrsNowAndThenIsForgiven(t *testing.T) {
	t.Parallel()
	g := newRooms().serve(t, func(c *Config) { c.FrameRate, c.forgive = 1_000_000, time.Microsecond })
	p := g.dial("customer:c1")
	for range 3 * maxRefused {
		p.say(`{"type":"shout"}`)
		p.hears("error request.invalid")
	}
	p.still()
}

func TestARefusalNamesTheFrame(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, func(c *Config) { c.MarkEvery = time.Millisecond })
	p := g.dial("customer:c1")
	p.subscribe(kims, 0)
	p.hears("subscribed 0")
	r.mu.Lock()
	r.away = problem.New(http.StatusServiceUnavailable, "store.unavailable", "the event store is away; nothing was done").RetryAfter(1)
	r.mu.Unlock()
	for _, c := range []struct {
		frame string
		want  Error
	}{
		{`{"type":"subscribe","room_id":"` + lees + `"}`, Error{Code: "store.unavailable", Frame: "subscribe", RoomID: lees, RetryAfter: 1}},
		{`{"type":"post","room_id":"` + kims + `","client_message_id":"1","text":"x"}`,
			Error{Code: "store.unavailable", Frame: "post", RoomID: kims, ClientMessageID: "1", RetryAfter: 1}},
		{`{"type":"read","room_id":"` + kims + `","seq":1}`, Error{Code: "store.unavailable", Frame: "read", RoomID: kims, RetryAfter: 1}},
		{`{"type":"read","room_id":"` + lees + `","seq":1}`, Error{Code: "room.unknown", Frame: "read", RoomID: lees}},
		{`{"type":"typing","room_id":"` + lees + `"}`, Error{Code: "room.unknown", Frame: "typing", RoomID: lees}},
		{`{"type":"read","room_id":"` + kims + `","seq":-1}`, Error{Code: "request.invalid", Frame: "read"}},
		{`{"type":"shout","room_id":"` + kims + `"}`, Error{Code: "request.invalid"}}, // what a client says is not said after it
		{`{`, Error{Code: "request.invalid"}},
	} {
		p.say("%s", c.frame)
		f, err := p.hear()
		if err != nil {
			t.Fatal(err)
		}
		got, ok := f.(*Error)
		if !ok {
			t.Fatalf("%s is answered with %s", c.frame, short(f))
		}
		got.Type, got.Detail = "", ""
		if *got != c.want {
			t.Errorf("%s is refused with %+v, want %+v", c.frame, *got, c.want)
		}
	}
}

func TestATokenThatExpiresClosesItsSocketAlone(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, nil)
	short, long := g.dial("customer:c1:1s"), g.dial("customer:c1")
	for _, p := range []*guest{short, long} {
		p.subscribe(kims, 0)
		p.hears("subscribed 0")
	}
	short.closed(CloseExpired)
	r.say(kims, "groomer", "kim", "hello")
	long.hears("message 1")
}

func TestWhoNeverReadsHurtsNobody(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, func(c *Config) { c.WriteTimeout = 2 * time.Second; c.WindowMessages, c.MaxSockets = 50, 100 })
	text := strings.Repeat("멍", 2000)
	for range 100 {
		r.say(kims, "customer", "c1", text)
	}
	for range maxReading + 8 { // more than there are places to read pages from, all behind the window
		g.dial("customer:c1").subscribe(kims, 0)
	}
	reads := g.dial("groomer:kim")
	reads.subscribe(kims, 0)
	reads.hears("subscribed 100")
	for n := range 100 {
		reads.hears(fmt.Sprint("message ", n+1))
	}
	if n := g.Status().Sockets; n <= maxReading {
		t.Fatalf("it had to wait until %d of those who do not read were gone", maxReading+9-n)
	}
	for n := range 300 {
		r.say(kims, "customer", "c1", text)
		reads.hears(fmt.Sprint("message ", 101+n))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for g.Status().Sockets > 1 {
		if wait(ctx, 5*time.Millisecond) != nil {
			t.Fatalf("%d sockets are open that do not read", g.Status().Sockets)
		}
	}
	if s := g.Status(); s.WindowBytes > 50*(len(text)+1000) {
		t.Errorf("%+v", s)
	}
	reads.still()
}

func TestTheStoreAwayIsSaidAndNotWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, func(c *Config) { c.MarkEvery = 10 * time.Millisecond })
	p, other := g.dial("customer:c1"), g.dial("groomer:kim")
	for _, p := range []*guest{p, other} {
		p.subscribe(kims, 0)
		p.hears("subscribed 0")
	}
	hang := make(chan struct{})
	r.mu.Lock()
	r.hang = hang
	r.mu.Unlock()
	p.say(`{"type":"read","room_id":%q,"seq":1}`, kims)
	p.say(`{"type":"post","room_id":%q,"client_message_id":"1","text":"x"}`, kims)
	for range maxWaiting + 5 {
		p.say(`{"type":"subscribe","room_id":%q}`, lees)
	}
	p.say(`{"type":"ping"}`)
	for range 3 { // so many may wait, and no more
		p.hears("error rate.limited")
	}
	p.hearsAtLast("pong")
	r.say(kims, "groomer", "kim", "delivery goes on")
	p.hears("message 1")
	other.hears("message 1")
	close(hang)
	p.hearsAtLast("message 2") // the post, in whichever order

	r.mu.Lock()
	r.hang, r.away = nil, problem.New(http.StatusServiceUnavailable, "store.unavailable", "the event store is away; nothing was done").RetryAfter(1)
	r.mu.Unlock()
	for refused := false; !refused; {
		other.say(`{"type":"post","room_id":%q,"client_message_id":"2","text":"x"}`, kims)
		f, err := other.hear()
		if err != nil {
			t.Fatal(err)
		}
		e, is := f.(*Error)
		if refused = is; is && (e.Code != "store.unavailable" || e.ClientMessageID != "2" || e.RoomID != kims || e.RetryAfter != 1) {
			t.Errorf("%+v", e)
		}
	}
}

// TestWhoLeftWhileARoomWasReadIsNotInIt: somebody waits for a room that is being read for somebody else, and hangs up.
func TestWhoLeftWhileARoomWasReadIsNotInIt(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, nil)
	sockets := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.sockets)
	}
	hang := make(chan struct{})
	r.mu.Lock()
	r.hang = hang
	r.mu.Unlock()
	stays, leaves := g.dial("groomer:lee"), g.dial("customer:c1")
	for _, p := range []*guest{stays, leaves} {
		p.subscribe(lees, 0)
		p.say(`{"type":"ping"}`)
		p.hears("pong") // the subscription is under way
	}
	_ = leaves.CloseNow()
	for range 20 { // while the node sees that
		p := g.dial("customer:c2")
		p.say(`{"type":"ping"}`)
		p.hears("pong")
		_ = p.CloseNow()
	}
	close(hang)
	stays.hears("subscribed 0")
	for deadline := time.Now().Add(time.Minute); sockets() > 1; {
		if time.Now().After(deadline) {
			t.Fatal("who left is still there")
		}
		stays.say(`{"type":"ping"}`)
		stays.hearsAtLast("pong")
	}
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	if room := g.hub.rooms[lees]; len(room.subs) != 1 || room.idle != nil {
		t.Errorf("%d sockets are in the room, of one that is there", len(room.subs))
	}
}

// TestToSubscribeAgainIsToBeginAnew: nothing of the former subscription comes after the answer to the new one.
func TestToSubscribeAgainIsToBeginAnew(t *testing.T) {
	t.Parallel()
	r := newRooms()
	g := r.serve(t, func(c *Config) { c.WindowMessages = 20; c.FrameRate = 1000 })
	for range 300 {
		r.say(kims, "customer", "c1", "x")
	}
	p := g.dial("groomer:kim")
	for n := range 100 {
		after := uint64(n * 37 % 250)
		p.subscribe(kims, after)
		for next := uint64(0); next < after+uint64(2+n%5); { // then again, in the middle of it
			f, err := p.hear()
			if err != nil {
				t.Fatal(err)
			}
			switch got := short(f); {
			case got == "subscribed 300":
				next = after + 1
			case next == 0 && n > 0: // of the former one
			case got == fmt.Sprint("message ", next):
				next++
			default:
				t.Fatalf("subscription %d was told %q instead of message %d", n, got, next)
			}
		}
	}
}

func TestANodeThatEndsSendsEverybodyAway(t *testing.T) {
	t.Parallel()
	g := newRooms().serve(t, nil)
	var people []*guest
	for n := range 30 {
		people = append(people, g.dial(fmt.Sprintf("customer:c%d", n)))
	}
	deaf := g.dial("customer:deaf") // does not answer the close
	_ = deaf
	done := make(chan struct{})
	go func() { defer close(done); g.drain() }()
	for _, p := range people {
		p.closed(CloseRestart)
	}
	_, answer, err := websocket.Dial(t.Context(), g.url+"/v1/live", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer customer:late"}}})
	if err == nil || answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a node that ends let somebody in: %v", err)
	}
	_ = deaf.CloseNow()
	<-done
}

func TestAConnectionWithNobodyAtItsEndIsClosed(t *testing.T) {
	t.Parallel()
	g := newRooms().serve(t, func(c *Config) { c.PingEvery, c.WriteTimeout = 50*time.Millisecond, 200*time.Millisecond })
	gone, here := g.dial("customer:c1"), g.dial("groomer:kim")
	_ = gone // reads nothing, so it answers no ping
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for g.Status().Sockets > 1 {
		if wait(ctx, 20*time.Millisecond) != nil {
			t.Fatal("it is still open")
		}
		here.still() // whoever reads answers
	}
	here.still()
}
