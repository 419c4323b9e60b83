// Package esdbtest is an EventStoreDB server in the test's own process, on the client's own gRPC stubs, with fault
// switches.
//
// It does what the real one does as far as eventstore/esdb relies on it, which was read in the real one's source
// (EventStore.Core: StorageWriterService, IndexWriter.CheckCommit, AllReader, the enumerators):
//
//   - An append is verified against the expected revision. Behind the stream's end it is accepted again when exactly the
//     same event IDs stand there, and refused otherwise.
//   - Every event of an append has a log position of its own, which is commit and prepare position at once; the answer
//     names the last one's. Positions are byte offsets: they ascend, with holes.
//   - A read of $all from a position gives the event there, too; a subscription begins behind it. A position between
//     two records is refused, one past the end gives nothing.
//   - maxCount and truncateBefore hide events from reads of their stream, not from $all.
//   - The log holds system events as well, and streams that metadata is of.
//
// The content outlives Stop and Start, as a disk does.
package esdbtest

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dangdangsalon/salon/internal/harness"
)

// ErrDrop, returned by an interceptor, breaks every connection instead of answering.
var ErrDrop = errors.New("esdbtest: drop the connections")

// Step is a moment of an append, before or after it has its effect.
type Step struct {
	Stream string
	Done   bool // the append has been verified and, if it was accepted, written
}

// Interceptor is asked at each step of each append. It may wait; an error is answered to the client, see [ErrDrop].
type Interceptor func(ctx context.Context, s Step) error

// Server is a server. Its methods may be called at any time.
type Server struct {
	content *content
	address string

	mu        sync.Mutex
	grpc      *grpc.Server // nil while stopped
	served    chan struct{}
	conns     map[net.Conn]bool
	hang      chan struct{} // closed by Answer; nil while the server answers
	intercept Interceptor
	version   string
	leader    *string // of the node that a follower names; nil for a leader
	calls     map[string]int
}

// New starts a server with an empty log on a free port of 127.0.0.1. It ends with the test.
func New(t testing.TB) *Server { return start(t, newContent()) }

// Beside starts another node with the same log as s: of one cluster, as it were.
func (s *Server) Beside(t testing.TB) *Server { return start(t, s.content) }

func start(t testing.TB, c *content) *Server {
	s := &Server{content: c, conns: map[net.Conn]bool{}, version: "24.10.0", calls: map[string]int{}, address: harness.Address(t)}
	s.Start(t)
	t.Cleanup(s.Stop)
	return s
}

// Address is host:port.
func (s *Server) Address() string { return s.address }

// URL is how a client reaches it.
func (s *Server) URL() string { return "esdb://" + s.address + "?tls=false" }

// Start lets a stopped server come back on its address, with its content.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The client pings each ten seconds.
	s.grpc = grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	s.served = make(chan struct{})
	streams.RegisterStreamsServer(s.grpc, service{s: s})
	serverfeatures.RegisterServerFeaturesServer(s.grpc, features{s: s})
	gossip.RegisterGossipServer(s.grpc, members{s: s})
	go func(server *grpc.Server, served chan struct{}) {
		defer close(served)
		_ = server.Serve(&listener{l, s}) // ends with Stop
	}(s.grpc, s.served)
}

// Stop ends the server as a crash does: every connection breaks.
func (s *Server) Stop() {
	s.Answer()
	s.mu.Lock()
	server, served := s.grpc, s.served
	s.grpc = nil
	s.mu.Unlock()
	if server == nil {
		return
	}
	s.Drop() // handlers end with their connections
	server.Stop()
	<-served
}

// Hang makes the server take calls and answer none.
func (s *Server) Hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang == nil {
		s.hang = make(chan struct{})
	}
}

// Answer ends Hang. What was asked meanwhile is answered now, if anybody still waits for it.
func (s *Server) Answer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang != nil {
		close(s.hang)
		s.hang = nil
	}
}

// Drop breaks every connection. The server takes new ones.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Intercept asks i at each step of each append; nil asks nobody.
func (s *Server) Intercept(i Interceptor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = i
}

// Follow makes the server a follower, which refuses whoever requires the leader. It names the leader's address, or, when
// that is empty, says that it knows of none.
func (s *Server) Follow(leader string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader = &leader
}

// Lead makes it a leader again.
func (s *Server) Lead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader = nil
}

// Version makes the server say that it is of this version.
func (s *Server) Version(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = v
}

// Skew sets how far the server's clock is ahead.
func (s *Server) Skew(d time.Duration) {
	s.content.mu.Lock()
	defer s.content.mu.Unlock()
	s.content.skew = d
}

// Calls counts the calls of a method ("Append", "Read") since the server was made.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// admit is the beginning of every call.
func (s *Server) admit(ctx context.Context, method string) error {
	s.mu.Lock()
	s.calls[method]++
	hang, leader := s.hang, s.leader
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if md, _ := metadata.FromIncomingContext(ctx); leader != nil && len(md.Get("requires-leader")) > 0 && method != "Features" {
		host, port, err := net.SplitHostPort(*leader)
		if err != nil {
			return status.Error(codes.Unknown, "No leader info available in response")
		}
		_ = grpc.SetTrailer(ctx, metadata.Pairs("exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", port))
		return status.Error(codes.NotFound, "Leader info available")
	}
	return nil
}

// step asks the interceptor.
func (s *Server) step(ctx context.Context, stream string, done bool) error {
	s.mu.Lock()
	intercept := s.intercept
	s.mu.Unlock()
	if intercept == nil {
		return nil
	}
	err := intercept(ctx, Step{stream, done})
	if errors.Is(err, ErrDrop) {
		s.Drop()
	}
	return err
}

// listener keeps account of the connections.
type listener struct {
	net.Listener
	s *Server
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	counted := &conn{c, l.s}
	l.s.conns[counted] = true
	return counted, nil
}

type conn struct {
	net.Conn
	s *Server
}

func (c *conn) Close() error {
	go c.forget() // the caller may hold the lock
	return c.Conn.Close()
}

func (c *conn) forget() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	delete(c.s.conns, c)
}

// features answers what the client asks first.
type features struct {
	serverfeatures.UnimplementedServerFeaturesServer
	s *Server
}

func (f features) GetSupportedMethods(ctx context.Context, _ *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	if err := f.s.admit(ctx, "Features"); err != nil {
		return nil, err
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: f.s.version}, nil
}

// members answers clients that look for the cluster's leader.
type members struct {
	gossip.UnimplementedGossipServer
	s *Server
}

func (m members) Read(ctx context.Context, _ *shared.Empty) (*gossip.ClusterInfo, error) {
	if err := m.s.admit(ctx, "Gossip"); err != nil {
		return nil, err
	}
	m.s.mu.Lock()
	address := m.s.address
	if m.s.leader != nil {
		address = *m.s.leader
	}
	m.s.mu.Unlock()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "no leader")
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	return &gossip.ClusterInfo{Members: []*gossip.MemberInfo{{
		State: gossip.MemberInfo_Leader, IsAlive: true, HttpEndPoint: &gossip.EndPoint{Address: host, Port: uint32(number)},
	}}}, nil
}
