package esdb

import (
	"context"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// Wait implements eventstore.Store. Appends of this process, and whatever it reads, wake it at once. For those of others
// one of all who wait holds a subscription to the server's log, from where the last one was left, and gives it up with
// the first event of ours: whoever waited reads on by itself, so that no event comes over the network twice for long, and
// nothing runs while nobody waits. A subscription that is dropped, as they are in normal life, goes on where it was.
func (s *Store) Wait(ctx context.Context, after uint64) error {
	for {
		if s.life.Err() != nil {
			return errClosed
		}
		grown := s.signal.Beyond(after)
		if grown == nil {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.life.Done():
		case s.following <- struct{}{}:
			err := s.follow(ctx, grown)
			<-s.following
			if err != nil {
				return err
			}
		}
	}
}

// follow raises the signal with what the server has more. It ends when the head has grown, when a subscription was
// dropped, or with an error.
func (s *Store) follow(ctx context.Context, grown <-chan struct{}) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	var from esdb.AllPosition = esdb.Start{}
	s.mu.Lock()
	if at := max(s.scanned, s.head.Position); at > 0 {
		from = esdb.Position{Commit: at, Prepare: at} // begins behind it
	}
	s.mu.Unlock()
	// The client that serves it may be retired under it: then it is dropped.
	sub, err := call(within, s, func(_ context.Context, c *esdb.Client) (*esdb.Subscription, error) {
		return c.SubscribeToAll(leaderOnly(within), esdb.SubscribeToAllOptions{From: from, RequiresLeader: true})
	})
	if err != nil {
		return s.unavailable(ctx, "look for more events", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.receive(sub) }()
	select {
	case err = <-ended:
		if err == nil { // dropped: a server that does nothing else is not to be pressed
			return pause(ctx, dropWait)
		}
	case <-grown:
	case <-within.Done():
	}
	cancel() // now it ends
	if err == nil {
		err = <-ended
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

const dropWait = 10 * time.Millisecond

// receive takes what the server sends until the subscription is dropped. An error is damage.
func (s *Store) receive(sub *esdb.Subscription) error {
	defer func() { _ = sub.Close() }()
	for {
		e := sub.Recv()
		switch {
		case e.SubscriptionDropped != nil:
			return nil
		case e.EventAppeared == nil:
			continue
		}
		event := e.EventAppeared.OriginalEvent()
		if _, ok := s.ours(event); ok {
			r, err := s.read(event)
			if err != nil {
				return err
			}
			s.note(r.Position, r.RecordedAt)
		}
		s.mu.Lock()
		s.scanned = max(s.scanned, event.Position.Commit)
		s.mu.Unlock()
	}
}
