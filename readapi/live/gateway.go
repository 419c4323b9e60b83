package live

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/readapi"
)

// Commands is the write side. Its errors are those that HTTP answers, too.
type Commands interface {
	// Enter reads a room from the store, as of now.
	Enter(ctx context.Context, room string) (Membership, error)
	// Post says something; the same client message ID is the same message. Seq, SentAt and the token are answered, and the
	// message as the log will bring it, so that it can be shown before; with revision -1 when it was said before.
	Post(ctx context.Context, by auth.Identity, p Post) (Posted, chatrooms.Change, error)
	// MarkRead moves a member's read mark forward.
	MarkRead(ctx context.Context, by auth.Identity, room string, seq uint64) error
}

// Store gives messages when the read model does not.
type Store interface {
	// Messages reads up to limit messages of a room with seq ≥ from, in order.
	Messages(ctx context.Context, room string, from uint64, limit int) ([]chatrooms.Message, error)
}

// Config is what a gateway is made of. The numbers default to what serves thousands of sockets on a small machine.
type Config struct {
	Brokers      []string
	TopicPrefix  string // Put before the topic, and before what stands in Redis. Defaults to none.
	KafkaOptions []kgo.Opt
	Decode       func(wire.Record) (chatrooms.Change, error)
	Commands     Commands
	Store        Store
	Reads        *reads.DB     // Gives what is older than the windows; nil: the store does.
	Redis        *redis.Client // Carries typing, presence and early messages between nodes; nil: they stay on theirs, and nobody is told who is there.
	Texts        readapi.Texts // Opens what is sealed, for the sockets alone.
	// Delivered is told of every message that was sent to a socket: how long after it was recorded. Defaults to nothing.
	Delivered func(after time.Duration)
	Log       *slog.Logger

	// Origins may open sockets from a browser besides the server's own: "https://app.example". Defaults to none.
	Origins []string
	// MaxSockets of one subject on this node. Defaults to 20.
	MaxSockets int
	// MaxSubscriptions of one socket. Defaults to 200.
	MaxSubscriptions int
	// FrameRate is a client's frames a second, with bursts of twice as many. Defaults to 50.
	FrameRate float64
	// Recent is how far back the windows are filled at a start. Defaults to 5 minutes; more makes a start longer.
	Recent time.Duration
	// WindowMessages and WindowBytes bound the windows of all rooms. They default to 200,000 and 128 MiB; less makes
	// those who come back after a while ask the read model.
	WindowMessages, WindowBytes int
	// WriteTimeout is how long a client may take to read a frame, or to answer a ping. Defaults to 10 s; a shorter one loses
	// phones in tunnels.
	WriteTimeout time.Duration
	// PingEvery is how often each client is asked whether it is there. Defaults to 25 s; usual proxies end what is idle for 60 s.
	PingEvery time.Duration
	// MarkEvery is how far apart a socket's read marks are recorded. Defaults to 1 s; less makes more events.
	MarkEvery time.Duration

	hurry   int           // tests: presence is said, kept and taken back so many times faster
	forgive time.Duration // tests: the time after which one refused frame is forgotten, 600 ms else: maxRefused a minute
}

const (
	maxAnswers = 128 // frames that wait for a client that does not read
	maxWaiting = 64  // frames of a client that wait for their answer
	maxRefused = 100 // malformed or too frequent frames of a socket at once, after which it is closed
	maxRooms   = 100_000
	maxReading = 16 // pages that are read from the read model or the store at once
	fairShare  = 64 // messages of one room before the others have their turn

	openAgain   = 500 * time.Millisecond
	openWithin  = 2 * time.Second
	readyWait   = 5 * time.Second
	kafkaSilent = 20 * time.Second // after it, the node says that it does not follow
	drainGap    = time.Millisecond // between two sockets that are told to go: so many reconnects a second
	drainAtEnd  = 5 * time.Second
)

// Gateway serves sockets. Make it with New, add its route with Register, and Run it.
type Gateway struct {
	cfg Config
	log *slog.Logger
	hub *hub

	placed     chan struct{} // closed when the tail has its place
	place      sync.Once
	partitions atomic.Int64
	trouble    atomic.Pointer[string] // why the tail does not follow; nil while it does
	reading    chan struct{}          // one for each page that is read at this moment

	ephemeral *ephemeral

	mu       sync.Mutex
	sockets  map[*socket]struct{}
	subjects map[string]int
	draining bool
	gone     sync.WaitGroup // of sockets

	delivered, sent, sentBytes, resyncs, pages, fromStore atomic.Int64
}

// New makes a gateway.
func New(cfg Config) *Gateway {
	or(&cfg.MaxSockets, 20)
	or(&cfg.MaxSubscriptions, 200)
	or(&cfg.FrameRate, 50)
	or(&cfg.Recent, 5*time.Minute)
	or(&cfg.WindowMessages, 200_000)
	or(&cfg.WindowBytes, 128<<20)
	or(&cfg.WriteTimeout, 10*time.Second)
	or(&cfg.MarkEvery, time.Second)
	or(&cfg.PingEvery, 25*time.Second)
	or(&cfg.forgive, time.Minute/maxRefused)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Delivered == nil {
		cfg.Delivered = func(time.Duration) {}
	}
	h := newHub(bounds{cfg.WindowMessages, cfg.WindowBytes, maxRooms})
	return &Gateway{
		cfg: cfg, log: cfg.Log, hub: h, ephemeral: newEphemeral(h, cfg.Redis, cfg.TopicPrefix, max(1, cfg.hurry), cfg.Log),
		placed: make(chan struct{}), reading: make(chan struct{}, maxReading),
		sockets: map[*socket]struct{}{}, subjects: map[string]int{},
	}
}

func or[T comparable](value *T, usual T) {
	var zero T
	if *value == zero {
		*value = usual
	}
}

// Register adds the route of the sockets, and their document.
func (g *Gateway) Register(s *httpserver.Server) {
	s.Socket("/v1/live", bearerOf, []string{"customer", "groomer"}, g.serve)
	s.ServeDocument("/asyncapi.json", "application/json", AsyncAPI)
}

// bearerOf is the token that a browser offers as a subprotocol.
func bearerOf(r *http.Request) string {
	for _, header := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(header, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(p), BearerPrefix); ok {
				return token
			}
		}
	}
	return ""
}

// Run follows the topic until ctx ends, then sends the sockets away, spread over some time, and waits for them.
func (g *Gateway) Run(ctx context.Context) error {
	t := &tail{
		topic: g.cfg.TopicPrefix + chatrooms.Topic, brokers: g.cfg.Brokers, options: g.cfg.KafkaOptions, since: g.cfg.Recent, silence: kafkaSilent, log: g.log,
		record: g.record, missing: g.hub.forget,
		ready: func(partitions int) {
			g.partitions.Store(int64(partitions))
			g.trouble.Store(nil)
			g.place.Do(func() { close(g.placed) })
		},
		stopped: func(err error) {
			why := err.Error()
			g.trouble.Store(&why)
		},
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx)) // also while the sockets are sent away
	var parts sync.WaitGroup
	parts.Go(func() { t.run(following) })
	parts.Go(func() { g.ephemeral.run(following) })
	<-ctx.Done()
	g.drain()
	stop()
	parts.Wait()
	return nil
}

// record takes an event of the topic.
func (g *Gateway) record(part int32, r wire.Record) {
	c, err := g.cfg.Decode(r)
	if err == nil {
		g.hub.apply(part, c)
		return
	}
	// Of a later release. It is missing in the room that its key names, which has to be read anew.
	g.log.Error("live tail cannot read an event", "position", r.Pos, "type", r.Event.Type, "error", err)
	if room := r.Event.Key; roomID.MatchString(room) {
		g.hub.forgetRoom(room)
	} else {
		g.hub.forget(part)
	}
}

// ready waits until the tail has its place, and says how many partitions the topic has.
func (g *Gateway) ready(ctx context.Context) (partitions int, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	select {
	case <-g.placed:
		return int(g.partitions.Load()), nil
	case <-ctx.Done():
		return 0, problem.New(http.StatusServiceUnavailable, "live.unavailable", "this node does not hear the log yet").RetryAfter(2)
	}
}

// serve makes a connection of a request. The request is over then: what it took is not kept for as long as the socket lives.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, id auth.Identity) error {
	side, ok := sideOf(id.Role)
	if !ok {
		return problem.New(http.StatusForbidden, "auth.forbidden", "this is not for your role")
	}
	s := &socket{
		g: g, id: id, side: side, woken: make(chan struct{}, 1), catching: make(chan struct{}, 1),
		frames: rate.NewLimiter(rate.Limit(g.cfg.FrameRate), max(1, int(2*g.cfg.FrameRate))), subs: map[string]*subscription{},
	}
	if err := g.admit(s); err != nil {
		return err
	}
	opened := false
	defer func() {
		if !opened {
			g.dismiss(s)
		}
	}()
	answer := &accepting{ResponseWriter: w}
	conn, err := websocket.Accept(answer, r, &websocket.AcceptOptions{
		Subprotocols: []string{Subprotocol}, OriginPatterns: g.cfg.Origins, CompressionMode: websocket.CompressionDisabled,
	})
	switch {
	case err == nil:
	case answer.status == http.StatusForbidden:
		return problem.New(http.StatusForbidden, "auth.forbidden", "a page of this origin may not open sockets")
	default:
		return problem.New(max(http.StatusBadRequest, answer.status), "request.invalid", "this is for WebSocket connections, version 13")
	}
	s.open, s.close = context.WithCancelCause(context.WithoutCancel(r.Context())) // the request's ends with the server, before the socket is sent away
	g.mu.Lock()
	s.conn = conn
	draining := g.draining
	g.mu.Unlock()
	if draining {
		s.end(CloseRestart, "this node ends")
	}
	opened = true
	go func() { // Run waits for it
		defer g.dismiss(s)
		s.run()
	}()
	return nil
}

// accepting keeps back what the library answers instead of a socket: what is answered is a problem, as everywhere.
type accepting struct {
	http.ResponseWriter
	status int
}

func (a *accepting) WriteHeader(status int) {
	if a.status = status; status == http.StatusSwitchingProtocols {
		a.ResponseWriter.WriteHeader(status)
	}
}

func (a *accepting) Write(b []byte) (int, error) { return len(b), nil }

// Unwrap is how the library finds the connection.
func (a *accepting) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// admit counts a socket in.
func (g *Gateway) admit(s *socket) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return problem.New(http.StatusServiceUnavailable, "live.unavailable", "this node ends; ask another").RetryAfter(1)
	}
	subject := s.id.Role + ":" + s.id.Sub
	if g.subjects[subject] >= g.cfg.MaxSockets {
		return problem.New(http.StatusTooManyRequests, "rate.limited", "you have as many sockets open as you may").RetryAfter(5)
	}
	g.subjects[subject]++
	g.sockets[s] = struct{}{}
	g.gone.Add(1)
	return nil
}

func (g *Gateway) dismiss(s *socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	subject := s.id.Role + ":" + s.id.Sub
	if g.subjects[subject]--; g.subjects[subject] == 0 {
		delete(g.subjects, subject)
	}
	delete(g.sockets, s)
	g.gone.Done()
}

// drain sends the sockets away, one after the other, so that they do not all come back to another node at once.
func (g *Gateway) drain() {
	g.mu.Lock()
	g.draining = true
	var all []*socket
	for s := range g.sockets {
		if s.conn != nil { // others are told by serve
			all = append(all, s)
		}
	}
	g.mu.Unlock()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	gap := min(drainGap, drainAtEnd/time.Duration(max(1, len(all))))
	next := time.NewTicker(gap)
	defer next.Stop()
	for _, s := range all {
		s.end(CloseRestart, "this node ends")
		<-next.C
	}
	g.gone.Wait()
}

// Status is how a gateway is.
type Status struct {
	Sockets       int
	Rooms         int    // that it remembers
	WindowBytes   int    // of messages that it remembers
	Delivered     int64  // messages sent to sockets, since the start
	Frames, Bytes int64  // sent to sockets, since the start
	Resyncs       int64  // subscriptions that were told to begin again
	PageReads     int64  // pages of messages that the windows did not have
	StoreReads    int64  // of these, the ones that the read model did not give
	Placed        bool   // it hears the log, or has: until then it serves nobody
	Trouble       string // why it does not follow the log at the moment; "" while it does
}

// Status says how the gateway is.
func (g *Gateway) Status() Status {
	g.mu.Lock()
	sockets := len(g.sockets)
	g.mu.Unlock()
	trouble := ""
	if why := g.trouble.Load(); why != nil {
		trouble = *why
	}
	placed := g.partitions.Load() > 0
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	return Status{
		Sockets: sockets, Rooms: len(g.hub.rooms), WindowBytes: g.hub.bytes, Delivered: g.delivered.Load(), Frames: g.sent.Load(),
		Bytes: g.sentBytes.Load(), Resyncs: g.resyncs.Load(), PageReads: g.pages.Load(), StoreReads: g.fromStore.Load(),
		Placed: placed, Trouble: trouble,
	}
}

func person(id auth.Identity) readapi.Person { return readapi.Person{ID: id.Sub, Role: id.Role} }
