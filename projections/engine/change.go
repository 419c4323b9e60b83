package engine

import (
	"context"
	"encoding/json"
	"fmt"
)

// parkChange is what one transaction changes about one parked key. A nil one changes nothing.
type parkChange struct {
	was, now *Parked // nil: the key does not wait before, or after
	ended    bool    // a request for a retry has been dealt with, though the key waits on
}

// done notes a change that was committed.
func (c *parkChange) done(waiting map[string]Parked) {
	switch {
	case c == nil:
	case c.now != nil:
		waiting[c.now.Key] = *c.now
	default:
		delete(waiting, c.was.Key)
	}
}

// reached makes the change one of less: event e was the last, and next is what the key waits for now.
func (c *parkChange) reached(e, next Event) {
	now := *c.was
	now.FromPos, now.AfterPos, now.EventType = next.Position, e.Position, next.Event.EventType()
	c.now, c.ended = &now, false
}

// write is the change in the reads database, behind the fence. The row must be as the owner knows it: a table that
// another wrote, or that came back from a backup without its offsets, is not to be believed.
func (c *parkChange) write(ctx context.Context, tx *transaction) error {
	if c == nil {
		return nil
	}
	if c.was == nil {
		p := c.now
		err := tx.exec(ctx, "INSERT INTO projection_parked ("+parkedColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
			p.Projection, p.Topic, p.Part, p.Key, int64(p.FromPos), int64(p.AfterPos), p.EventType, p.Cause, p.Detail, p.Attempts, p.ParkedAt.UnixMicro()) //nolint:gosec // positions stay below 2^63
		if err != nil {
			return fmt.Errorf("park %q: %w", p.Key, err)
		}
		return nil
	}
	const at = " WHERE projection = ? AND topic = ? AND part = ? AND ordering_key = ? AND from_pos = ?"
	row := []any{c.was.Projection, c.was.Topic, c.was.Part, c.was.Key, int64(c.was.FromPos)} //nolint:gosec // positions stay below 2^63
	var n int64
	var err error
	if p := c.now; p == nil {
		n, err = tx.update(ctx, "DELETE FROM projection_parked"+at, row...)
	} else {
		set := "UPDATE projection_parked SET from_pos = ?, after_pos = ?, event_type = ?, cause = ?, detail = ?, attempts = ?"
		if c.ended {
			set += ", retry_at = 0"
		}
		n, err = tx.update(ctx, set+at, append([]any{int64(p.FromPos), int64(p.AfterPos), p.EventType, p.Cause, p.Detail, p.Attempts}, row...)...) //nolint:gosec // positions stay below 2^63
	}
	if err == nil && n != 1 {
		err = fmt.Errorf("its row is not where it was left, at position %d", c.was.FromPos)
	}
	if err != nil {
		return fmt.Errorf("move parked %q: %w", c.was.Key, err)
	}
	return nil
}

// ops adds the change to the hashes that a batch's script writes.
func (c *parkChange) ops(k redisKeys, keys []string, args []any) ([]string, []any, error) {
	if c == nil {
		return keys, args, nil
	}
	keys = append(keys, k.parked())
	if c.now != nil {
		text, err := json.Marshal(c.now)
		if err != nil {
			return nil, nil, &foldError{fmt.Errorf("park %q: %w", c.now.Key, err)}
		}
		args = append(args, k.parkedName(), 1, 0, c.now.Key, text)
	} else {
		args = append(args, k.parkedName(), 0, 1, c.was.Key)
	}
	if c.was != nil && (c.now == nil || c.ended) {
		keys = append(keys, k.retries())
		args = append(args, "", 0, 1, c.was.Key) // anybody asks: it is in no index
	}
	return keys, args, nil
}
