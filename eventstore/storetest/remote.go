package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/rpc"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// Remote is a store in another process, a child that does Serve: to be killed while its callers wait. It has what
// Settle and Linearize use, and nothing else.
type Remote struct {
	eventstore.Store // nil
	start            func() (*exec.Cmd, *rpc.Client, error)

	mu     sync.Mutex
	child  *exec.Cmd
	client *rpc.Client
}

// NewRemote starts the child.
func NewRemote(t testing.TB, child func() *exec.Cmd) *Remote {
	t.Helper()
	r := &Remote{start: func() (*exec.Cmd, *rpc.Client, error) {
		c := child()
		in, err := c.StdinPipe()
		if err != nil {
			return nil, nil, err
		}
		out, err := c.StdoutPipe()
		if err != nil {
			return nil, nil, err
		}
		return c, rpc.NewClient(pipe{out, in}), c.Start()
	}}
	var err error
	if r.child, r.client, err = r.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.end(r.child, r.client) })
	return r
}

// Restart kills the child, -9, and starts another.
func (r *Remote) Restart() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(r.child, r.client)
	r.child, r.client, err = r.start()
	return err
}

func (r *Remote) end(child *exec.Cmd, client *rpc.Client) {
	_ = child.Process.Kill()
	// The client is not closed before it has seen the end: it would call what was under way not done.
	<-client.Go("Store.End", struct{}{}, &struct{}{}, nil).Done
	_ = child.Wait()
	_ = client.Close()
}

type pipe struct {
	io.Reader
	io.WriteCloser
}

// ask answers ErrUnavailable for what was not sent, and ErrOutcomeUnknown for what was and has no answer.
func (r *Remote) ask(ctx context.Context, method string, args any) (told Told, err error) {
	if err := ctx.Err(); err != nil {
		return told, err
	}
	r.mu.Lock()
	client := r.client
	r.mu.Unlock()
	switch err := client.Call("Store."+method, args, &told); {
	case err == nil:
		return told, nil
	case errors.Is(err, rpc.ErrShutdown):
		return told, fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
	default:
		return told, fmt.Errorf("%w: %w", eventstore.ErrOutcomeUnknown, err)
	}
}

// Append implements eventstore.Store.
func (r *Remote) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	told, err := r.ask(ctx, "Append", a)
	if err != nil {
		return eventstore.Appended{}, err
	}
	return told.Appended, told.error()
}

// Command implements eventstore.Store.
func (r *Remote) Command(ctx context.Context, id uuid.UUID) (eventstore.Command, bool, error) {
	told, err := r.ask(ctx, "Command", id)
	if err != nil {
		return eventstore.Command{}, false, err
	}
	return told.Command, told.Found, told.error()
}

// ReadStream implements eventstore.Store.
func (r *Remote) ReadStream(ctx context.Context, stream string, _ eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return r.events(r.ask(ctx, "Stream", stream))
}

// ReadStreamBack implements eventstore.Store.
func (r *Remote) ReadStreamBack(ctx context.Context, stream string, _ eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return r.events(r.ask(ctx, "StreamBack", stream))
}

// ReadAll implements eventstore.Store.
func (r *Remote) ReadAll(ctx context.Context, after uint64, _ eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return r.events(r.ask(ctx, "All", after))
}

func (r *Remote) events(told Told, err error) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err == nil {
			err = told.error()
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		for _, e := range told.Events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Told is an answer on its way from one process to another.
type Told struct {
	Appended  eventstore.Appended
	Command   eventstore.Command
	Found     bool
	Events    []eventstore.Recorded
	Conflict  *eventstore.ConflictError
	Duplicate *eventstore.DuplicateError
	Sentinel  int // of sentinels, from 1
	Text      string
}

var sentinels = []error{eventstore.ErrOutcomeUnknown, eventstore.ErrUnavailable, eventstore.ErrDecisionTooOld}

func (t *Told) set(err error) {
	if err == nil || errors.As(err, &t.Conflict) || errors.As(err, &t.Duplicate) {
		return
	}
	t.Text = err.Error()
	t.Sentinel = 1 + slices.IndexFunc(sentinels, func(s error) bool { return errors.Is(err, s) })
}

func (t Told) error() error {
	switch {
	case t.Conflict != nil:
		return t.Conflict
	case t.Duplicate != nil:
		return t.Duplicate
	case t.Sentinel > 0:
		return fmt.Errorf("%w: %s", sentinels[t.Sentinel-1], t.Text)
	case t.Text != "":
		return errors.New(t.Text)
	}
	return nil
}

// Serve is the child of Remote.
func Serve(ctx context.Context, s eventstore.Store, in io.Reader, out io.WriteCloser) error {
	server := rpc.NewServer()
	if err := server.RegisterName("Store", &Served{ctx, s}); err != nil {
		return err
	}
	server.ServeConn(pipe{in, out})
	return nil
}

// Served are the calls of Remote.
type Served struct {
	ctx   context.Context // net/rpc has none
	store eventstore.Store
}

// Append appends.
func (s *Served) Append(a eventstore.Append, told *Told) (_ error) {
	var err error
	told.Appended, err = s.store.Append(s.ctx, a)
	told.set(err)
	return
}

// Command finds a command.
func (s *Served) Command(id uuid.UUID, told *Told) (_ error) {
	var err error
	told.Command, told.Found, err = s.store.Command(s.ctx, id)
	told.set(err)
	return
}

// Stream reads a stream.
func (s *Served) Stream(stream string, told *Told) (_ error) {
	return told.collect(s.store.ReadStream(s.ctx, stream, 0))
}

// StreamBack reads a stream backwards.
func (s *Served) StreamBack(stream string, told *Told) (_ error) {
	return told.collect(s.store.ReadStreamBack(s.ctx, stream, eventstore.LastRevision))
}

// All reads all.
func (s *Served) All(after uint64, told *Told) (_ error) {
	return told.collect(s.store.ReadAll(s.ctx, after, eventstore.Filter{}))
}

func (t *Told) collect(events iter.Seq2[eventstore.Recorded, error]) error {
	for r, err := range events {
		if err != nil {
			t.set(err)
			return nil
		}
		t.Events = append(t.Events, r)
	}
	return nil
}
