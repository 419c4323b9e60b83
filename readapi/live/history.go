package live

import (
	"context"
	"errors"
	"fmt"

	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// pageSize is how many messages are read at once.
const pageSize = 200

// older reads up to a page of messages from one on: from the read model, or from the store when that lacks some, is away
// or was not given. They are next, next+1, …, none missing; at least one.
func (g *Gateway) older(ctx context.Context, room string, next, upTo uint64) ([]chatrooms.Message, error) {
	select {
	case g.reading <- struct{}{}: // so many at once: a whole town that comes back is not to drown the read model
		defer func() { <-g.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	g.pages.Add(1)
	limit := int(min(pageSize, upTo-next+1)) //nolint:gosec // at most a page
	var rows []chatrooms.Message
	var failed error
	if g.cfg.Reads != nil {
		rows, failed = fromTables(ctx, g.cfg.Reads, room, next, limit)
	}
	if rows = unbroken(rows, next); len(rows) > 0 {
		return rows, nil
	}
	rows, err := g.cfg.Store.Messages(ctx, room, next, limit)
	if rows = unbroken(rows, next); err == nil && len(rows) == 0 {
		err = fmt.Errorf("message %d of room %s is nowhere", next, room)
	}
	if err != nil {
		return nil, errors.Join(err, failed)
	}
	g.fromStore.Add(1)
	return rows, nil
}

// fromTables reads the version of the read model that serves.
func fromTables(ctx context.Context, db *reads.DB, room string, next uint64, limit int) (rows []chatrooms.Message, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTables)
	defer cancel()
	err = db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		p := chatrooms.Projection()
		version, found, err := engine.ActiveVersion(ctx, q, p.Name)
		if err != nil {
			return err
		}
		if !found {
			version = p.Version
		}
		rows, err = engine.Query(ctx, q, chatrooms.Messages, version, "WHERE room_id = ? AND seq >= ? ORDER BY seq LIMIT ?",
			room, int64(next), limit) //nolint:gosec // seqs stay below 2^63
		return err
	})
	return rows, err
}

// unbroken is the beginning of rows that are next, next+1, ….
func unbroken(rows []chatrooms.Message, next uint64) []chatrooms.Message {
	for i, m := range rows {
		if m.Seq != next+uint64(i) { //nolint:gosec // an index
			return rows[:i]
		}
	}
	return rows
}
