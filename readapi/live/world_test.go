package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/projections/chatrooms"
)

// rooms are what chat is about without servers: messages and members in memory, and the way from there to gateways, which a
// test may cut. It is Commands and Store of them.
type rooms struct {
	mu       sync.Mutex
	messages map[string][]chatrooms.Message
	left     map[string]*[2]*uint64
	length   map[string]int64 // of a room's stream
	marks    []uint64
	away     error // what every call answers instead
	hang     chan struct{}
	gateways []*Gateway
}

const (
	kims  = "kim.00000000000000000000000001"
	lees  = "lee.00000000000000000000000001"
	parts = 2
)

func newRooms() *rooms {
	r := &rooms{messages: map[string][]chatrooms.Message{}, left: map[string]*[2]*uint64{}, length: map[string]int64{}}
	for _, room := range []string{kims, lees} {
		r.left[room] = &[2]*uint64{}
	}
	return r
}

// tell is the log: every gateway hears it at once.
func (r *rooms) tell(c chatrooms.Change) {
	if c.Revision = -1; c.Read == nil {
		c.Revision = r.length[c.Room]
		r.length[c.Room]++
	}
	for _, g := range r.gateways {
		g.hub.apply(0, c)
	}
}

func (r *rooms) there(ctx context.Context) error {
	r.mu.Lock()
	hang, away := r.hang, r.away
	r.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return away
}

// Enter: a room's customer is c1; its groomer is in its name.
func (r *rooms) Enter(ctx context.Context, room string) (Membership, error) {
	if err := r.there(ctx); err != nil {
		return Membership{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.left[room]
	if left == nil {
		return Membership{}, chat.ErrRoomUnknown
	}
	salon, _, _ := strings.Cut(room, ".")
	return Membership{"c1", salon, uint64(len(r.messages[room])), r.length[room] - 1, left[customerSide], left[groomerSide]}, nil
}

func (r *rooms) Post(ctx context.Context, by auth.Identity, p Post) (Posted, chatrooms.Change, error) {
	m, err := r.Enter(ctx, p.RoomID)
	if err != nil {
		return Posted{}, chatrooms.Change{}, err
	}
	if side, _ := sideOf(by.Role); by.Sub != [2]string{m.CustomerID, m.GroomerID}[side] {
		return Posted{}, chatrooms.Change{}, chat.ErrRoomUnknown
	}
	return Posted{Seq: r.say(p.RoomID, by.Role, by.Sub, p.Text)}, chatrooms.Change{Revision: -1}, nil
}

// say says something; the gateways hear it in order.
func (r *rooms) say(room, role, who, text string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := chatrooms.Message{
		RoomID: room, Seq: uint64(len(r.messages[room]) + 1), SenderID: who, SenderRole: role,
		Text: domain.Sealed{Cipher: []byte(text)}, SentAt: time.Now(),
	}
	r.messages[room] = append(r.messages[room], m)
	r.tell(chatrooms.Change{Room: room, Message: &m})
	return m.Seq
}

func (r *rooms) leave(room, role string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	side, _ := sideOf(role)
	seq := uint64(len(r.messages[room]))
	r.left[room][side] = &seq
	r.tell(chatrooms.Change{Room: room, Left: &chatrooms.Mark{Role: role, Seq: seq}})
}

func (r *rooms) MarkRead(ctx context.Context, _ auth.Identity, _ string, seq uint64) error {
	err := r.there(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, seq)
	return err
}

func (r *rooms) Messages(ctx context.Context, room string, from uint64, limit int) ([]chatrooms.Message, error) {
	if err := r.there(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.messages[room][from-1:]
	return all[:min(limit, len(all))], nil
}

// plain opens what was never sealed.
type plain struct{}

func (plain) Open(_ context.Context, s domain.Sealed) (string, bool, error) {
	return string(s.Cipher), false, nil
}

// verifier lets "role:sub" be a token, and "role:sub:2s" one that expires so soon.
type verifier struct{}

func (verifier) Verify(_ context.Context, bearer string) (auth.Identity, error) {
	w := strings.Split(strings.ReplaceAll(bearer, "_", ":"), ":")
	if len(w) < 2 {
		return auth.Identity{}, errors.New("no token of ours")
	}
	id := auth.Identity{Role: w[0], Sub: w[1], Expires: time.Now().Add(time.Hour)}
	if len(w) == 3 {
		d, err := time.ParseDuration(w[2])
		if err != nil {
			return id, err
		}
		id.Expires = time.Now().Add(d)
	}
	return id, nil
}

// served is a gateway behind a real server, without a log: rooms tells it.
type served struct {
	*Gateway
	t    *testing.T
	url  string
	logs *logs
}

type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (r *rooms) serve(t *testing.T, change func(*Config)) *served {
	t.Helper()
	l := &logs{}
	log := slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := Config{Commands: r, Store: r, Texts: plain{}, Log: log}
	if change != nil {
		change(&cfg)
	}
	g := New(cfg)
	g.partitions.Store(parts)
	g.place.Do(func() { close(g.placed) })
	r.mu.Lock()
	r.gateways = append(r.gateways, g)
	r.mu.Unlock()
	edge := httpserver.New(httpserver.Config{Verifier: verifier{}, Log: log})
	g.Register(edge)
	server := httptest.NewUnstartedServer(edge.Handler())
	server.Config.ConnState = func(c net.Conn, s http.ConnState) { // whoever does not read is noticed soon
		if s == http.StateNew {
			_ = c.(*net.TCPConn).SetWriteBuffer(8 << 10)
		}
	}
	server.Start()
	ctx, cancel := context.WithCancel(context.Background())
	people := make(chan struct{})
	go func() { defer close(people); g.ephemeral.run(ctx) }()
	t.Cleanup(func() {
		g.drain()
		cancel()
		<-people
		server.Close()
	})
	return &served{g, t, server.URL, l}
}

// guest is a client that says and hears frames as they are.
type guest struct {
	*websocket.Conn
	t *testing.T
}

func (s *served) dial(token string) *guest {
	s.t.Helper()
	c, _, err := websocket.Dial(s.t.Context(), s.url+"/v1/live", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}, Subprotocols: []string{Subprotocol},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	s.t.Cleanup(func() { _ = c.CloseNow() })
	return &guest{c, s.t}
}

func (p *guest) say(frame string, values ...any) {
	p.t.Helper()
	if err := p.Write(p.t.Context(), websocket.MessageText, fmt.Appendf(nil, frame, values...)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *guest) subscribe(room string, after uint64) {
	p.t.Helper()
	p.say(`{"type":"subscribe","room_id":%q,"after_seq":%d}`, room, after)
}

// hear is the next frame, or why there is none.
func (p *guest) hear() (any, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	_, b, err := p.Read(ctx)
	if err != nil {
		return nil, err
	}
	return ParseServer(b)
}

// hears wants these frames next, in short: "message 1", "error room.left".
func (p *guest) hears(want ...string) {
	p.t.Helper()
	for _, w := range want {
		f, err := p.hear()
		if err != nil {
			p.t.Fatalf("%v instead of %q", err, w)
		}
		if got := short(f); got != w {
			p.t.Fatalf("%q instead of %q", got, w)
		}
	}
}

// hearsAtLast passes over what comes before.
func (p *guest) hearsAtLast(want string) {
	p.t.Helper()
	for {
		f, err := p.hear()
		if err != nil {
			p.t.Fatalf("%v instead of %q", err, want)
		}
		if short(f) == want {
			return
		}
	}
}

func short(frame any) string {
	switch f := frame.(type) {
	case *Subscribed:
		return fmt.Sprint("subscribed ", f.HeadSeq)
	case *Message:
		return fmt.Sprint("message ", f.Seq)
	case *Posted:
		return fmt.Sprint("posted ", f.Seq)
	case *HasRead:
		return fmt.Sprint("read ", f.Seq)
	case *IsTyping:
		return "typing " + f.Sender.ID
	case *Presence:
		return fmt.Sprint("presence ", f.Member.ID, " ", f.Online)
	case *Resync:
		return fmt.Sprint("resync ", f.FromSeq)
	case *Pong:
		return "pong"
	case *Error:
		return "error " + f.Code
	}
	b, _ := json.Marshal(frame)
	return string(b)
}

// closed wants the connection to be closed with this code, whatever is heard before.
func (p *guest) closed(code websocket.StatusCode) {
	p.t.Helper()
	for {
		if _, err := p.hear(); err != nil {
			if got := websocket.CloseStatus(err); got != code {
				p.t.Fatalf("closed with %v (%v), want %v", got, err, code)
			}
			return
		}
	}
}

// still shows that a person has nothing to hear, and is heard.
func (p *guest) still() {
	p.t.Helper()
	p.say(`{"type":"ping"}`)
	p.hears("pong")
}
