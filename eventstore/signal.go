package eventstore

import "sync"

// Signal is how far a store is known to go, and wakes those who wait for more. The zero value is ready.
type Signal struct {
	mu   sync.Mutex
	head uint64
	next chan struct{} // closed when head grows; nil while nobody waits
}

// Raise notes a head; a lower one than known changes nothing.
func (s *Signal) Raise(head uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if head <= s.head {
		return
	}
	s.head = head
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

// Beyond returns nil when the head is known to be above after, else a channel that is closed when it grows.
func (s *Signal) Beyond(after uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.head > after {
		return nil
	}
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}
