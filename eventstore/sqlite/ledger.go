package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

var (
	_ eventstore.Ledger = (*Store)(nil)
	_ eventstore.Ranged = (*Store)(nil)
	_ eventstore.Strays = (*Store)(nil)
)

// CommandsOf implements eventstore.Ledger.
func (s *Store) CommandsOf(ctx context.Context, ids []uuid.UUID, _ uint64) ([]eventstore.Accepted, error) {
	out := make([]eventstore.Accepted, 0, len(ids))
	for len(ids) > 0 {
		some := ids[:min(len(ids), pageSize)]
		ids = ids[len(some):]
		args := make([]any, len(some))
		for i := range some {
			args[i] = some[i][:]
		}
		page, err := s.accepted(ctx, "SELECT command_id, request_hash, actor, stream, last_revision, position, recorded_at, 0 FROM commands "+
			"WHERE command_id IN (?"+strings.Repeat(", ?", len(args)-1)+")", args...)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
	}
	return out, nil
}

func (s *Store) accepted(ctx context.Context, query string, args ...any) (out []eventstore.Accepted, err error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%w: read commands: %w", eventstore.ErrUnavailable, err)
	}
	defer rows.Close()
	var id sql.RawBytes
	var at int64
	for rows.Next() {
		var c eventstore.Accepted
		if err := rows.Scan(&id, &c.RequestHash, &c.Actor, &c.Stream, &c.LastRevision, &c.Position, &at, &c.Silent); err != nil {
			return nil, fmt.Errorf("%w: read commands: %w", eventstore.ErrUnavailable, err)
		}
		copy(c.ID[:], id)
		c.RecordedAt = time.UnixMicro(at).UTC()
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%w: read commands: %w", eventstore.ErrUnavailable, err)
	}
	return out, nil
}

// Silent implements eventstore.Ledger. One whose row is gone is yielded with its ID alone.
func (s *Store) Silent(ctx context.Context, after uint64) iter.Seq2[eventstore.Accepted, error] {
	return eventstore.Paged(func() (page []eventstore.Accepted, more bool, err error) {
		page, err = s.accepted(ctx, "SELECT s.command_id, coalesce(c.request_hash, x''), coalesce(c.actor, ''), coalesce(c.stream, ''), "+
			"coalesce(c.last_revision, 0), coalesce(c.position, 0), coalesce(c.recorded_at, 0), s.n "+
			"FROM silent_commands s LEFT JOIN commands c ON c.command_id = s.command_id WHERE s.n > ? ORDER BY s.n LIMIT ?", after, pageSize)
		if len(page) > 0 {
			after = page[len(page)-1].Silent
		}
		return page, len(page) == pageSize, err
	})
}

// sealsPage is how many seals are read at once: an outline may have hundreds of kilobytes.
const sealsPage = 8

const sealColumns = "block, through, silent_through, note, outline"

// Seals implements eventstore.Ledger.
func (s *Store) Seals(ctx context.Context, after uint64) iter.Seq2[eventstore.Seal, error] {
	return eventstore.Paged(func() (page []eventstore.Seal, more bool, err error) {
		page, err = s.seals(ctx, "SELECT "+sealColumns+" FROM seals WHERE block > ? ORDER BY block LIMIT ?", after, sealsPage)
		if len(page) > 0 {
			after = page[len(page)-1].Block
		}
		return page, len(page) == sealsPage, err
	})
}

func (s *Store) seals(ctx context.Context, query string, args ...any) (page []eventstore.Seal, err error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%w: read seals: %w", eventstore.ErrUnavailable, err)
	}
	defer rows.Close()
	for rows.Next() {
		var l eventstore.Seal
		if err := rows.Scan(&l.Block, &l.Through, &l.SilentThrough, &l.Note, &l.Outline); err != nil {
			return nil, fmt.Errorf("%w: read seals: %w", eventstore.ErrUnavailable, err)
		}
		page = append(page, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%w: read seals: %w", eventstore.ErrUnavailable, err)
	}
	return page, nil
}

// LastSeal implements eventstore.Ledger.
func (s *Store) LastSeal(ctx context.Context) (last eventstore.Seal, err error) {
	page, err := s.seals(ctx, "SELECT "+sealColumns+" FROM seals ORDER BY block DESC LIMIT 1")
	if len(page) > 0 {
		last = page[0]
	}
	return last, err
}

// AddSeal implements eventstore.Ledger.
func (s *Store) AddSeal(ctx context.Context, seal eventstore.Seal) error {
	if s.readOnly {
		return errReadOnly
	}
	done, err := s.writer.db.ExecContext(ctx, "INSERT INTO seals ("+sealColumns+") SELECT ?, ?, ?, ?, ? "+
		"WHERE ? = (SELECT coalesce(max(block), 0) + 1 FROM seals)", seal.Block, seal.Through, seal.SilentThrough, seal.Note, notNil(seal.Outline), seal.Block)
	var n int64
	if err == nil {
		n, err = done.RowsAffected()
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: keep a seal: %w", eventstore.ErrUnavailable, err)
	case n == 0:
		return fmt.Errorf("block %d: %w", seal.Block, eventstore.ErrSealed)
	}
	return nil
}

// StrayCommand implements eventstore.Strays.
func (s *Store) StrayCommand(ctx context.Context) (stray eventstore.Accepted, found bool, err error) {
	const text = "CAST(lower(substr(hex(c.command_id), 1, 8) || '-' || substr(hex(c.command_id), 9, 4) || '-' || substr(hex(c.command_id), 13, 4) || '-' || " +
		"substr(hex(c.command_id), 17, 4) || '-' || substr(hex(c.command_id), 21)) AS BLOB)"
	all, err := s.accepted(ctx, "SELECT c.command_id, c.request_hash, c.actor, c.stream, c.last_revision, c.position, c.recorded_at, 0 FROM commands c "+
		"WHERE c.command_id NOT IN (SELECT command_id FROM silent_commands) "+
		"AND NOT EXISTS (SELECT 1 FROM events e WHERE e.position = c.position AND instr(e.metadata, "+text+") > 0) "+
		"ORDER BY c.recorded_at, c.command_id LIMIT 1")
	if err != nil || len(all) == 0 {
		return stray, false, err
	}
	return all[0], true, nil
}
