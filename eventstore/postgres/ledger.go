package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/dangdangsalon/salon/eventstore"
)

var (
	_ eventstore.Ledger  = (*Store)(nil)
	_ eventstore.Ranged  = (*Store)(nil)
	_ eventstore.Strays  = (*Store)(nil)
	_ eventstore.Orderly = (*Store)(nil)
)

// CommandsOf implements eventstore.Ledger.
func (s *Store) CommandsOf(ctx context.Context, ids []uuid.UUID, _ uint64) ([]eventstore.Accepted, error) {
	plain := make([][16]byte, len(ids)) // the driver would ask a uuid.UUID for its text
	for i, id := range ids {
		plain[i] = id
	}
	rows, err := s.read.Query(ctx, "SELECT command_id, request_hash, actor, stream, last_revision, position, recorded_at, 0 "+
		"FROM commands WHERE command_id = ANY($1)", plain)
	if err != nil {
		return nil, unavailable("read commands", err)
	}
	return accepted(rows, len(ids))
}

// blocks is how many of a table's are read at once: some 3,000 commands.
const blocks = 64

// CommandsFrom implements eventstore.Orderly. Rows are added at the table's end, so they lie as they were accepted; not where
// an erasure has written one again, or the room of old ones is used again.
func (s *Store) CommandsFrom(ctx context.Context, id uuid.UUID) iter.Seq2[eventstore.Accepted, error] {
	next, end := int64(-1), int64(0)
	return eventstore.Pages(ctx, func(ctx context.Context) (page []eventstore.Accepted, more bool, err error) {
		if next < 0 {
			err := s.read.QueryRow(ctx, "SELECT (ctid::text::point)[0]::bigint, pg_relation_size('commands') / current_setting('block_size')::bigint "+
				"FROM commands WHERE command_id = $1", [16]byte(id)).Scan(&next, &end)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil, false, nil
			}
			if err != nil {
				return nil, false, unavailable("read commands", err)
			}
		}
		rows, err := s.read.Query(ctx, "SELECT command_id, request_hash, actor, stream, last_revision, position, recorded_at, 0 FROM commands "+
			"WHERE ctid >= $1::text::tid AND ctid < $2::text::tid", fmt.Sprintf("(%d,0)", next), fmt.Sprintf("(%d,0)", next+blocks))
		if err != nil {
			return nil, false, unavailable("read commands", err)
		}
		next += blocks
		page, err = accepted(rows, pageSize)
		return page, next < end, err
	})
}

// accepted reads commands. Their texts and hashes lie in one piece each: of what it took to read them, a third was to make pieces.
func accepted(rows pgx.Rows, about int) ([]eventstore.Accepted, error) {
	type ends struct{ actor, stream, hash int }
	out, cut := make([]eventstore.Accepted, 0, about), make([]ends, 0, about)
	var texts, hashes []byte
	var c eventstore.Accepted
	var hash, actor, stream pgtype.DriverBytes
	_, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&c.ID), &hash, &actor, &stream, (*int64)(&c.LastRevision), &c.Position, &c.RecordedAt, &c.Silent}, func() error {
		c.RecordedAt = c.RecordedAt.UTC()
		e := ends{actor: len(texts) + len(actor)}
		texts, hashes = append(append(texts, actor...), stream...), append(hashes, hash...)
		e.stream, e.hash = len(texts), len(hashes)
		out, cut = append(out, c), append(cut, e)
		return nil
	})
	if err != nil {
		return nil, unavailable("read commands", err)
	}
	all, before := string(texts), ends{}
	for i, e := range cut {
		out[i].Actor, out[i].Stream, out[i].RequestHash = all[before.stream:e.actor], all[e.actor:e.stream], hashes[before.hash:e.hash:e.hash]
		before = e
	}
	return out, nil
}

// Silent implements eventstore.Ledger. One whose row is gone is yielded with its ID alone.
func (s *Store) Silent(ctx context.Context, after uint64) iter.Seq2[eventstore.Accepted, error] {
	return eventstore.Paged(func() (page []eventstore.Accepted, more bool, err error) {
		rows, err := s.read.Query(ctx, "SELECT s.command_id, coalesce(c.request_hash, ''), coalesce(c.actor, ''), coalesce(c.stream, ''), "+
			"coalesce(c.last_revision, 0), coalesce(c.position, 0), coalesce(c.recorded_at, 'epoch'), s.n "+
			"FROM silent_commands s LEFT JOIN commands c ON c.command_id = s.command_id WHERE s.n > $1 ORDER BY s.n LIMIT $2", int64(after), pageSize) //nolint:gosec // it was a bigint
		if err != nil {
			return nil, false, unavailable("read commands", err)
		}
		if page, err = accepted(rows, pageSize); len(page) > 0 {
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
		rows, err := s.read.Query(ctx, "SELECT "+sealColumns+" FROM seals WHERE block > $1 ORDER BY block LIMIT $2", int64(after), sealsPage) //nolint:gosec // it was a bigint
		if err == nil {
			page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[eventstore.Seal])
		}
		if err != nil {
			return nil, false, unavailable("read seals", err)
		}
		if len(page) > 0 {
			after = page[len(page)-1].Block
		}
		return page, len(page) == sealsPage, nil
	})
}

// LastSeal implements eventstore.Ledger.
func (s *Store) LastSeal(ctx context.Context) (last eventstore.Seal, err error) {
	err = s.read.QueryRow(ctx, "SELECT "+sealColumns+" FROM seals ORDER BY block DESC LIMIT 1").
		Scan(&last.Block, &last.Through, &last.SilentThrough, &last.Note, &last.Outline)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return last, unavailable("read the last seal", err)
	}
	return last, nil
}

// AddSeal implements eventstore.Ledger.
func (s *Store) AddSeal(ctx context.Context, seal eventstore.Seal) error {
	done, err := s.read.Exec(ctx, "INSERT INTO seals ("+sealColumns+") SELECT $1, $2, $3, $4, $5 "+
		"WHERE $1 = (SELECT coalesce(max(block), 0) + 1 FROM seals) ON CONFLICT (block) DO NOTHING",
		int64(seal.Block), int64(seal.Through), int64(seal.SilentThrough), seal.Note, notNil(seal.Outline)) //nolint:gosec // far below
	if err != nil {
		return unavailable("keep a seal", err)
	}
	if done.RowsAffected() == 0 {
		return fmt.Errorf("block %d: %w", seal.Block, eventstore.ErrSealed)
	}
	return nil
}

// StrayCommand implements eventstore.Strays.
func (s *Store) StrayCommand(ctx context.Context) (stray eventstore.Accepted, found bool, err error) {
	var all []eventstore.Accepted
	err = pgx.BeginFunc(ctx, s.read, func(tx pgx.Tx) error {
		// Two tables are read as a whole: along their indexes that would be a look-up for each command.
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on"); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT c.command_id, c.request_hash, c.actor, c.stream, c.last_revision, c.position, c.recorded_at, 0 FROM commands c "+
			"WHERE NOT EXISTS (SELECT FROM silent_commands s WHERE s.command_id = c.command_id) AND NOT EXISTS ("+
			"SELECT FROM events e WHERE e.position = c.position AND position(convert_to(c.command_id::text, 'UTF8') IN e.metadata) > 0) "+
			"ORDER BY c.recorded_at, c.command_id LIMIT 1")
		if err == nil {
			all, err = accepted(rows, 1)
		}
		return err
	})
	switch {
	case err != nil:
		return stray, false, unavailable("look for stray commands", err)
	case len(all) == 0:
		return stray, false, nil
	}
	return all[0], true, nil
}
