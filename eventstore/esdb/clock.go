package esdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

const (
	// measureEvery is how long a measurement is trusted while the clock runs evenly.
	measureEvery = time.Minute
	// jump is how far the wall clock may move against the steady one before it is measured again.
	jump = 250 * time.Millisecond
	// clockCount is how many measurements the server keeps: those of all processes that measure at the same moment.
	clockCount = 64
)

// clock knows how far this process's clock is off the server's.
type clock struct {
	measuring sync.Mutex // one measures for all

	mu  sync.Mutex
	off time.Duration // the server's clock is so much ahead
	at  time.Time     // of the measurement, by both clocks
}

// skew is the last measurement; fresh is false when it is old or the clock has jumped since.
func (c *clock) skew(now time.Time) (off time.Duration, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	steady := now.Sub(c.at)
	wall := now.Round(0).Sub(c.at.Round(0))
	return c.off, steady < measureEvery && (wall-steady).Abs() < jump
}

// check refuses a decision that is too old by the server's clock, and everything while this process's clock is off.
func (c *clock) check(ctx context.Context, s *Store, decided time.Time) error {
	off, fresh := c.skew(time.Now())
	if !fresh && c.measuring.TryLock() {
		// A server that does not answer this will not answer the append either, which then says so.
		_ = c.measured(ctx, s)
		c.measuring.Unlock()
		off, _ = c.skew(time.Now())
	}
	if off.Abs() > eventstore.MaxDecisionAge {
		return fmt.Errorf("%w: this process's clock is %v off the server's", eventstore.ErrDecisionTooOld, off.Abs().Round(time.Millisecond))
	}
	if age := time.Now().Round(0).Add(off).Sub(decided.Round(0)); age.Abs() > eventstore.MaxDecisionAge {
		return eventstore.ErrDecisionTooOld
	}
	return nil
}

func (c *clock) measure(ctx context.Context, s *Store) error {
	c.measuring.Lock()
	defer c.measuring.Unlock()
	return c.measured(ctx, s)
}

// measured writes an event and reads back when the server says that it was written: between the call and its answer.
func (c *clock) measured(ctx context.Context, s *Store) error {
	stream, id := s.namespace+clockStream, uuid.New()
	before := time.Now()
	done, err := s.write(ctx, stream, esdb.Any{}, esdb.EventData{EventID: id, EventType: clockType, ContentType: esdb.ContentTypeBinary})
	after := time.Now()
	if err != nil {
		return s.unavailable(ctx, "measure the clock", err)
	}
	if done.NextExpectedVersion == 0 {
		if err := s.keep(ctx, stream, clockCount); err != nil {
			return s.unavailable(ctx, "measure the clock", err)
		}
	}
	found, err := s.events(ctx, stream, esdb.Forwards, esdb.Revision(done.NextExpectedVersion), 1)
	if err != nil {
		return s.unavailable(ctx, "measure the clock", err)
	}
	if len(found.events) == 0 || found.events[0].EventID != id {
		return errors.New("measure the clock: the event that was just written is not there")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	middle := before.Add(after.Sub(before) / 2)
	c.off, c.at = found.events[0].CreatedDate.Sub(middle.Round(0)), after
	return nil
}
