package harness

import (
	"bytes"
	"net"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Proxy stands before a server and can take it away: no server of other tests has to be stopped for it.
type Proxy struct {
	Addr   string
	target string

	mu       sync.Mutex
	listener net.Listener // nil while it is cut
	conns    map[net.Conn]bool
	frozen   chan struct{} // closed when it thaws; nil while it passes
	delay    time.Duration // of each piece, each way
	snare    *snare        // nil: none is laid
	wg       sync.WaitGroup
}

// NewProxy passes connections on to target, host:port, until the end of the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{Addr: Address(t), target: target, conns: map[net.Conn]bool{}}
	p.Restore(t)
	t.Cleanup(func() {
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Through answers the URL with a proxy before its server.
func Through(t testing.TB, rawURL string) (string, *Proxy) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(t, u.Host)
	u.Host = p.Addr
	return u.String(), p
}

// Cut ends all connections and refuses new ones, as a server that was killed does.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for c := range p.conns {
		c.Close()
	}
	p.thaw()
}

// Freeze lets connections stand and be made, and nothing pass: as a host that lost its power, or its network.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil {
		p.frozen = make(chan struct{})
	}
}

// Thaw lets pass what was held up.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.thaw()
}

func (p *Proxy) thaw() {
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// Slow holds up each piece for so long, each way; 0 ends it. A server whose disk is slow looks like this to its clients.
func (p *Proxy) Slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// Turn leads new connections to another server, and ends those that stand: a fail-over.
func (p *Proxy) Turn(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for c := range p.conns {
		c.Close()
	}
	p.thaw()
}

// snare waits for a client to say something.
type snare struct {
	text   []byte
	passes bool
	sprung chan struct{}
}

// Snare cuts the next connection whose client sends the text, and no other: before the server has heard it, or, when it
// passes, after, so that the answer is lost. The channel is closed when that has happened.
func (p *Proxy) Snare(text string, passes bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snare = &snare{[]byte(text), passes, make(chan struct{})}
	return p.snare.sprung
}

// Unsnare takes a snare away that nothing went into.
func (p *Proxy) Unsnare() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snare = nil
}

// caught takes the snare when the piece springs it.
func (p *Proxy) caught(piece []byte) *snare {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.snare
	if s == nil || !bytes.Contains(piece, s.text) {
		return nil
	}
	p.snare = nil
	return s
}

func (p *Proxy) copy(to, from net.Conn, client bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		frozen, delay := p.frozen, p.delay
		p.mu.Unlock()
		if delay > 0 {
			<-time.After(delay)
		}
		if frozen != nil {
			<-frozen
		}
		var s *snare
		if client && n > 0 {
			s = p.caught(buffer[:n])
		}
		if s != nil && s.passes {
			// No half-close: the server answers into a connection that nobody reads any more.
			_, _ = to.Write(buffer[:n])
		}
		if s != nil {
			close(s.sprung)
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Restore takes connections again, at the same address.
func (p *Proxy) Restore(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", p.Addr)
	if err != nil {
		t.Fatalf("proxy: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener = l
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(l, c) })
		}
	})
}

func (p *Proxy) pass(l net.Listener, in net.Conn) {
	defer in.Close()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	if p.listener != l || p.target != target { // cut while we dialled
		p.mu.Unlock()
		return
	}
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			p.copy(way[0], way[1], way[1] == in)
			in.Close()
			out.Close()
		})
	}
	both.Wait()
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

// Address is a loopback address that nobody listens on at the moment, and that is given to nobody else until the end of
// the test: whoever is told the address may listen there, end, and listen again.
func Address(t testing.TB) string {
	t.Helper()
	// A socket that is bound and does not listen holds the port against everybody who asks for a free one; a server, which
	// sets SO_REUSEADDR as this one does, may have it all the same.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(at.(*syscall.SockaddrInet4).Port))
}
