package esdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dangdangsalon/salon/eventstore"
)

// What the client does wrong, and is guarded against here:
//
//   - While it looks for a node, every call waits on a channel without its context. Hence the watch of call, and hence a
//     new client is connected by one goroutine alone before anybody else gets it.
//   - Once it has given up looking it says ConnectionClosed for ever, and calls that wait on the channel wait for ever;
//     closing it makes them panic. Hence retire and the recover in attend.
//   - When it looks for a node again it leaves the connection that it had open, for ever. Hence a client that does is
//     retired; a call that begins in the moment in which another one fails may still cost a connection, and so may a
//     leader that is gone when the client comes to it. gRPC lets go of these after half an hour without calls.
//   - It means to ask for the leader and puts the header where it is not sent. Hence leaderOnly.
//   - Its messages carry addresses. Hence what.

var errClosed = fmt.Errorf("%w: closed", eventstore.ErrUnavailable)

var errHangs = errors.New("the client hangs")

// errPanic says that the client was closed under a call, or was sent what it does not know.
var errPanic = errors.New("the client gave up")

// session is one client and who uses it.
type session struct {
	*esdb.Client
	users   int
	retired chan struct{} // closed when nobody may begin with it any more
}

// connecting is one try to get a session, which everybody who needs one waits for.
type connecting struct {
	done chan struct{}
	err  error // once done
}

// sessions keeps one client connected.
type sessions struct {
	config  esdb.Configuration
	mu      sync.Mutex
	current *session
	next    *connecting
	closed  bool
}

// take gets the session, connecting when there is none. give it back.
func (c *sessions) take(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, errClosed
		}
		if c.current != nil {
			c.current.users++
			defer c.mu.Unlock()
			return c.current, nil
		}
		if c.next == nil {
			c.connect(nil)
		}
		next := c.next
		c.mu.Unlock()
		select {
		case <-next.done:
			if next.err != nil {
				return nil, next.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// connect begins a try, with a new client or with one that is about to change its node. The lock is held.
func (c *sessions) connect(s *session) {
	try := &connecting{done: make(chan struct{})}
	c.next = try
	go func() {
		defer close(try.done)
		s, err := open(&c.config, s)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.next, try.err = nil, err
		if err == nil && !c.closed {
			c.current = s
			return
		}
		c.end(s)
	}()
}

// open looks for a node. It takes as long as the client's own settings let it: a few seconds for each address.
func open(config *esdb.Configuration, s *session) (*session, error) {
	if s == nil {
		client, err := esdb.NewClient(config)
		if err != nil {
			return nil, fmt.Errorf("%w: the settings are refused", eventstore.ErrUnavailable)
		}
		s = &session{Client: client, retired: make(chan struct{})}
	}
	version, err := attend(func() (*esdb.ServerVersion, error) { return s.GetServerVersion() })
	switch {
	case err != nil:
		return s, fmt.Errorf("connect: %w: %s", eventstore.ErrUnavailable, what(err))
	case version.Major < 22 || version.Major == 22 && version.Minor < 6:
		return s, &damageError{what: fmt.Sprintf("the EventStoreDB server is of version %d.%d: 22.6 is the oldest that tells positions in streams", version.Major, version.Minor)}
	}
	return s, nil
}

// end marks a session as over. It is closed when its last user has gone: closing breaks the calls of others. The lock
// is held.
func (c *sessions) end(s *session) {
	if s == nil {
		return
	}
	if c.current == s {
		c.current = nil
	}
	select {
	case <-s.retired:
	default:
		close(s.retired)
		if s.users == 0 {
			_ = s.Close()
		}
	}
}

// judge looks at what became of a call, before anybody hears of it: who begins another with a client that is about to
// look for a node makes it forget its connection without closing it.
func (c *sessions) judge(s *session, err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch code := codeOf(err); {
	case code == esdb.ErrorCodeNotLeader: // the client goes to the leader by itself: nobody may ask it meanwhile
		if c.current == s && !c.closed {
			c.current = nil
			c.connect(s)
		}
	case code == esdb.ErrorCodeConnectionClosed, code == esdb.ErrorUnavailable, errors.Is(err, errHangs), errors.Is(err, errPanic):
		c.end(s)
	}
}

// give gives a session back.
func (c *sessions) give(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	select {
	case <-s.retired:
		if s.users == 0 {
			_ = s.Close()
		}
	default:
	}
}

// close ends the session and waits for a try under way.
func (c *sessions) close() {
	c.mu.Lock()
	c.closed = true
	next := c.next
	c.end(c.current)
	c.mu.Unlock()
	if next != nil {
		<-next.done
	}
}

// attend calls the client, which panics when it is closed at the wrong moment.
func attend[T any](do func() (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errPanic
		}
	}()
	return do()
}

// patience is how long a call has to notice that its context has ended.
const patience = 100 * time.Millisecond

// call runs one call of the client under a watch, for at most the store's time-out. A call that does not end with its
// context is left behind; it ends when its client is closed.
func call[T any](ctx context.Context, s *Store, do func(ctx context.Context, c *esdb.Client) (T, error)) (out T, err error) {
	if err := ctx.Err(); err != nil {
		return out, err
	}
	callers := ctx
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	session, err := s.sessions.take(ctx)
	if err != nil {
		return out, err
	}
	type result struct {
		out T
		err error
	}
	answer := make(chan result, 1)
	go func() {
		out, err := attend(func() (T, error) { return do(leaderOnly(ctx), session.Client) })
		s.sessions.judge(session, err)
		answer <- result{out, err}
	}()
	var r result
	select {
	case r = <-answer:
	case <-ctx.Done():
		select {
		case r = <-answer:
		case <-time.After(patience):
			r.err = fmt.Errorf("%w: %w", ctx.Err(), errHangs)
			s.sessions.judge(session, r.err)
		}
	}
	s.sessions.give(session)
	if d, ok := callers.Deadline(); ok && codeOf(r.err) == esdb.ErrorCodeDeadlineExceeded && time.Until(d) < patience {
		<-callers.Done() // the server was quicker to notice
	}
	if r.err != nil && ctx.Err() != nil {
		r.err = errors.Join(ctx.Err(), r.err)
	}
	return r.out, r.err
}

func leaderOnly(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "requires-leader", "true")
}

// codeOf asks with errors.As: the client's own FromError does not look inside.
func codeOf(err error) esdb.ErrorCode {
	var e *esdb.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	switch status.Code(err) { // what a read begins with comes as it is
	case codes.Unavailable:
		return esdb.ErrorUnavailable
	case codes.DeadlineExceeded:
		return esdb.ErrorCodeDeadlineExceeded
	}
	return esdb.ErrorCodeUnknown
}

// missing tells a stream that does not exist, which the client says itself, from a server that answers "not found" for
// another reason: a stream taken for empty is decided upon.
func missing(err error) bool {
	var e *esdb.Error
	if !errors.As(err, &e) || e.Code() != esdb.ErrorCodeResourceNotFound {
		return false
	}
	_, answered := status.FromError(e.Err())
	return !answered
}

// what tells an error without the addresses and names that its message holds.
func what(err error) string {
	switch {
	case errors.Is(err, errHangs):
		return errHangs.Error()
	case errors.Is(err, errPanic):
		return errPanic.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	}
	switch codeOf(err) {
	case esdb.ErrorCodeAccessDenied:
		return "access denied"
	case esdb.ErrorCodeUnauthenticated:
		return "not authenticated"
	case esdb.ErrorCodeNotLeader:
		return "not the leader"
	case esdb.ErrorCodeStreamDeleted:
		return "the stream was deleted"
	case esdb.ErrorCodeConnectionClosed:
		return "cannot connect"
	}
	if s, ok := status.FromError(err); ok {
		return s.Code().String()
	}
	return "the server's answer is not understood"
}

// unavailable is a failure after which nothing was done, or damage. ctx is the caller's: when that has ended, its error is told.
func (s *Store) unavailable(ctx context.Context, doing string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case s.life.Err() != nil:
		return errClosed
	case errors.Is(err, eventstore.ErrUnavailable), errors.As(err, new(*damageError)):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %s", doing, eventstore.ErrUnavailable, what(err))
}
