package sqlite

import (
	"context"
	"sync"
)

// signal is the head's position, and wakes those who wait for it to grow.
type signal struct {
	mu   sync.Mutex
	head uint64
	next chan struct{} // closed when head grows; nil while nobody waits
}

func (s *signal) raise(head uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head = head
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

func (s *signal) wait(ctx context.Context, after uint64) error {
	for {
		s.mu.Lock()
		if s.head > after {
			s.mu.Unlock()
			return nil
		}
		if s.next == nil {
			s.next = make(chan struct{})
		}
		grown := s.next
		s.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
