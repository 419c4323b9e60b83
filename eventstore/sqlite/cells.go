package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// Snapshot implements eventstore.Store.
func (s *Store) Snapshot(ctx context.Context, stream string, foldVersion int) (eventstore.Snapshot, bool, error) {
	out := eventstore.Snapshot{Stream: stream, FoldVersion: foldVersion}
	var hash []byte
	err := s.read.QueryRowContext(ctx, "SELECT revision, state, hash FROM snapshots WHERE stream = ? AND fold_version = ?", stream, foldVersion).
		Scan(&out.Revision, &out.State, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return out, false, nil
	}
	if err != nil {
		return out, false, fmt.Errorf("%w: find a snapshot: %w", eventstore.ErrUnavailable, err)
	}
	copy(out.Hash[:], hash)
	return out, true, nil
}

// SaveSnapshot implements eventstore.Store.
func (s *Store) SaveSnapshot(ctx context.Context, snapshot eventstore.Snapshot) error {
	if err := snapshot.Validate(); err != nil {
		return err
	}
	_, err := s.writer.db.ExecContext(ctx, "INSERT INTO snapshots (stream, fold_version, revision, state, hash) VALUES (?, ?, ?, ?, ?) "+
		"ON CONFLICT (stream, fold_version) DO UPDATE SET revision = excluded.revision, state = excluded.state, hash = excluded.hash",
		snapshot.Stream, snapshot.FoldVersion, snapshot.Revision, notNil(snapshot.State), snapshot.Hash[:])
	if err != nil {
		return fmt.Errorf("%w: save a snapshot: %w", eventstore.ErrUnavailable, err)
	}
	return nil
}

// PersonKey implements eventstore.Store.
func (s *Store) PersonKey(ctx context.Context, subject string) (keyID string, wrapped []byte, found bool, err error) {
	return personKey(s.read.QueryRowContext(ctx, "SELECT key_id, wrapped FROM person_keys WHERE subject = ?", subject))
}

func personKey(row *sql.Row) (keyID string, wrapped []byte, found bool, err error) {
	err = row.Scan(&keyID, &wrapped)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil, false, nil
	}
	if err != nil {
		return "", nil, false, fmt.Errorf("%w: find a person's key: %w", eventstore.ErrUnavailable, err)
	}
	return keyID, wrapped, true, nil
}

// PersonKeyByID implements eventstore.Store.
func (s *Store) PersonKeyByID(ctx context.Context, subject, keyID string) (wrapped []byte, found bool, err error) {
	_, wrapped, found, err = personKey(s.read.QueryRowContext(ctx, "SELECT key_id, wrapped FROM person_keys WHERE subject = ? AND key_id = ?", subject, keyID))
	return wrapped, found, err
}

// AddPersonKey implements eventstore.Store.
func (s *Store) AddPersonKey(ctx context.Context, subject, keyID string, wrapped []byte) (standingID string, standing []byte, err error) {
	_, err = s.writer.db.ExecContext(ctx, "INSERT INTO person_keys (subject, key_id, wrapped, created_at) VALUES (?, ?, ?, ?) ON CONFLICT (subject) DO NOTHING",
		subject, keyID, wrapped, time.Now().UnixMicro())
	if err != nil {
		return "", nil, fmt.Errorf("%w: add a person's key: %w", eventstore.ErrUnavailable, err)
	}
	standingID, standing, found, err := s.PersonKey(ctx, subject)
	if err == nil && !found {
		err = errors.New("a person's key is gone right after it was added")
	}
	return standingID, standing, err
}
