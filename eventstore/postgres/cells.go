package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/dangdangsalon/salon/eventstore"
)

// Snapshot implements eventstore.Store.
func (s *Store) Snapshot(ctx context.Context, stream string, foldVersion int) (eventstore.Snapshot, bool, error) {
	out := eventstore.Snapshot{Stream: stream, FoldVersion: foldVersion}
	if !eventstore.IsText(stream) {
		return out, false, nil
	}
	var hash []byte
	err := s.read.QueryRow(ctx, "SELECT revision, state, hash FROM snapshots WHERE stream = $1 AND fold_version = $2", stream, foldVersion).
		Scan(&out.Revision, &out.State, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return out, false, nil
	}
	if err != nil {
		return out, false, unavailable("find a snapshot", err)
	}
	copy(out.Hash[:], hash)
	return out, true, nil
}

// SaveSnapshot implements eventstore.Store.
func (s *Store) SaveSnapshot(ctx context.Context, snapshot eventstore.Snapshot) error {
	if err := snapshot.Validate(); err != nil {
		return err
	}
	_, err := s.read.Exec(ctx, "INSERT INTO snapshots (stream, fold_version, revision, state, hash) VALUES ($1, $2, $3, $4, $5) "+
		"ON CONFLICT (stream, fold_version) DO UPDATE SET revision = excluded.revision, state = excluded.state, hash = excluded.hash",
		snapshot.Stream, snapshot.FoldVersion, snapshot.Revision, notNil(snapshot.State), snapshot.Hash[:])
	if err != nil {
		return unavailable("save a snapshot", err)
	}
	return nil
}

// PersonKey implements eventstore.Store.
func (s *Store) PersonKey(ctx context.Context, subject string) (keyID string, wrapped []byte, found bool, err error) {
	if !eventstore.IsText(subject) {
		return "", nil, false, nil // the server would refuse it: nobody is called that
	}
	return personKey(s.read.QueryRow(ctx, "SELECT key_id, wrapped FROM person_keys WHERE subject = $1", subject))
}

func personKey(row pgx.Row) (keyID string, wrapped []byte, found bool, err error) {
	err = row.Scan(&keyID, &wrapped)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil, false, nil
	}
	if err != nil {
		return "", nil, false, unavailable("find a person's key", err)
	}
	return keyID, wrapped, true, nil
}

// PersonKeyByID implements eventstore.Store.
func (s *Store) PersonKeyByID(ctx context.Context, subject, keyID string) (wrapped []byte, found bool, err error) {
	if !eventstore.IsText(subject + keyID) {
		return nil, false, nil
	}
	_, wrapped, found, err = personKey(s.read.QueryRow(ctx, "SELECT key_id, wrapped FROM person_keys WHERE subject = $1 AND key_id = $2", subject, keyID))
	return wrapped, found, err
}

// AddPersonKey implements eventstore.Store.
func (s *Store) AddPersonKey(ctx context.Context, subject, keyID string, wrapped []byte) (standingID string, standing []byte, err error) {
	_, err = s.read.Exec(ctx, "INSERT INTO person_keys (subject, key_id, wrapped) VALUES ($1, $2, $3) ON CONFLICT (subject) DO NOTHING", subject, keyID, wrapped)
	if err != nil {
		return "", nil, unavailable("add a person's key", err)
	}
	standingID, standing, found, err := s.PersonKey(ctx, subject)
	if err == nil && !found {
		err = errors.New("a person's key is gone right after it was added")
	}
	return standingID, standing, err
}
