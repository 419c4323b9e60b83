package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// PlainScan reads every event of a file by one statement: what SQLite and its driver can do, for `salon bench`.
func PlainScan(ctx context.Context, path string) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := plainScan(ctx, path, yield); err != nil {
			yield(eventstore.Recorded{}, err)
		}
	}
}

func plainScan(ctx context.Context, path string, yield func(eventstore.Recorded, error) bool) (err error) {
	db, err := connect(path, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, "SELECT "+columns+" FROM events ORDER BY position")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r eventstore.Recorded
		var id, hash []byte
		var at int64
		if err := rows.Scan(&r.Position, &r.Stream, &r.Revision, &id, &r.Type, &r.Key, &at, &r.Metadata, &r.Data, &hash); err != nil {
			return err
		}
		copy(r.ID[:], id)
		copy(r.Hash[:], hash)
		r.RecordedAt = time.UnixMicro(at).UTC()
		if !yield(r, nil) {
			return nil
		}
	}
	return rows.Err()
}

// Fill writes events into the empty store of a file, numbered from 1, in one transaction, for `salon bench rebuild`: nobody
// else may have it open, and no command is remembered.
func Fill(ctx context.Context, path string, events iter.Seq[eventstore.Recorded]) (err error) {
	db, err := connect(path, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()                                // does nothing after a commit
	insert, err := tx.PrepareContext(ctx, insertEvent) //nolint:sqlclosecheck // it is closed below: a loop over a function hides that
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	defer insert.Close()
	var position, at int64
	for r := range events {
		position++
		at = r.RecordedAt.UnixMicro()
		hash := eventstore.ContentHash(r)
		if _, err := insert.ExecContext(ctx, position, r.Stream, int64(r.Revision), r.ID[:], r.Type, r.Key, eventstore.Slice(r.Key), at, r.Metadata, r.Data, hash[:]); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE store_head SET position = ?, recorded_at = ? WHERE id = 1", position, at); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return tx.Commit()
}

// FileBytes is what a file takes whose write-ahead log has been folded back into it.
func FileBytes(ctx context.Context, path string) (bytes int64, err error) {
	db, err := connect(path, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRowContext(ctx, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").Scan(&bytes); err != nil {
		return 0, fmt.Errorf("look how large %s is: %w", path, err)
	}
	return bytes, nil
}
