package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
)

// One who gives up has changed nothing, or is told what was done; and nobody else notices. The lock is held, so that
// every caller stands where the test wants it.
func TestWhoGivesUpAtAnyPointIsToldWhatWasDone(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	s, beside, holder := openAt(t, url), sql(t, url), sql(t, url)
	execute(t, holder, "BEGIN")
	execute(t, holder, holdTheLock)

	type caller struct {
		a      eventstore.Append
		giveUp context.CancelFunc
		answer chan error
	}
	var all sync.WaitGroup
	call := func(name string) caller {
		ctx, giveUp := context.WithCancel(t.Context())
		c := caller{request(name, "x", "y"), giveUp, make(chan error, 1)}
		all.Go(func() {
			_, err := s.Append(ctx, c.a)
			c.answer <- err
		})
		return c
	}
	writing := call("being written")
	waitForTheLock(t, beside, 1)
	// Enough of them for a second group beside the first.
	written := []caller{writing}
	for n := range 64 {
		written = append(written, call(fmt.Sprintf("written too-%d", n)))
	}
	waitForTheLock(t, beside, 2)
	// More than the lane's queue has room for: some wait in it, the others before it.
	var waiting []caller
	for n := range 1100 {
		waiting = append(waiting, call(fmt.Sprintf("waiting-%d", n)))
	}
	before, giveUp := context.WithCancel(t.Context())
	giveUp()
	if _, err := s.Append(before, request("before", "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("given up before the call: %v", err)
	}
	for _, c := range written {
		c.giveUp()
	}
	for _, c := range waiting[:len(waiting)-1] {
		c.giveUp()
	}
	for i, c := range waiting[:len(waiting)-1] {
		if err := <-c.answer; !errors.Is(err, context.Canceled) {
			t.Fatalf("waiting %d: want the context's error, got: %v", i, err)
		}
	}
	for _, c := range written {
		select {
		case err := <-c.answer:
			t.Fatalf("%s: answered while it was being written: %v", c.a.Stream, err)
		default:
		}
	}
	execute(t, holder, "ROLLBACK")
	for _, c := range written {
		if err := <-c.answer; err != nil {
			t.Errorf("what was being written is done, and its caller told so; got: %v", err)
		}
	}
	patient := waiting[len(waiting)-1]
	if err := <-patient.answer; err != nil {
		t.Errorf("one who waited on: %v", err)
	}
	patient.giveUp() // after the answer: nothing changes
	all.Wait()
	for _, c := range append(written, patient) {
		if _, found, err := s.Command(t.Context(), c.a.Command.ID); err != nil || !found {
			t.Errorf("%s: found %t, %v", c.a.Stream, found, err)
		}
	}
	if n := count(t, beside); n != 2*(len(written)+1) {
		t.Errorf("%d events, want 2 of each of %d", n, len(written)+1)
	}
}
