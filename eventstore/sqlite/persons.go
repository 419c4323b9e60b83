package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"

	"github.com/dangdangsalon/salon/eventstore"
)

var _ eventstore.Persons = (*Store)(nil)

// ErasePerson implements eventstore.Persons. It reads all commands: no index finds those of one person.
func (s *Store) ErasePerson(ctx context.Context, subject string) error {
	if s.readOnly {
		return errReadOnly
	}
	err := s.overwriting(ctx, func(conn *sql.Conn) error { return erase(ctx, conn, subject) })
	if err == nil {
		err = s.forgetLog(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w: erase a person: %w", eventstore.ErrUnavailable, err)
	}
	return err
}

// overwriting does work on the one connection that writes, so alone, and what is deleted by it is overwritten as well: for who
// has the file and the master key.
func (s *Store) overwriting(ctx context.Context, work func(conn *sql.Conn) error) error {
	conn, err := s.writer.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "PRAGMA secure_delete = ON")
	if err == nil {
		err = work(conn)
	}
	if _, off := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA secure_delete = OFF"); off != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // throws the connection away, which would be slow for good
	}
	return err
}

// forgetLog folds the write-ahead log back and cuts it off: pages of before are in it. It waits for readers, as long as the
// connection waits for anything.
func (s *Store) forgetLog(ctx context.Context) error {
	var busy, frames, folded int
	if err := s.writer.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &folded); err != nil {
		return fmt.Errorf("fold the write-ahead log back: %w", err)
	}
	if busy != 0 {
		return errors.New("the write-ahead log is being read, and has the key still: erase again")
	}
	return nil
}

func erase(ctx context.Context, conn *sql.Conn, subject string) (err error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	type hash struct{ command, of []byte }
	var hashes []hash
	rows, err := tx.QueryContext(ctx, "SELECT command_id, request_hash FROM commands WHERE actor = ? AND NOT (length(request_hash) = 33 AND substr(request_hash, 1, 1) = x'00')", subject)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var h hash
		if err := rows.Scan(&h.command, &h.of); err != nil {
			return err
		}
		hashes = append(hashes, h)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, h := range hashes {
		if _, err := tx.ExecContext(ctx, "UPDATE commands SET request_hash = ? WHERE command_id = ?", eventstore.ErasedRequestHash(h.of), h.command); err != nil {
			return err
		}
	}
	if err := rewriteKeys(ctx, tx, subject); err != nil {
		return err
	}
	return tx.Commit()
}

// rewriteKeys writes all keys anew but that of one: pages that were split before have bytes of it that belong to no row, which
// only go with the pages. A hundred thousand keys are 15 MiB.
func rewriteKeys(ctx context.Context, tx *sql.Tx, without string) error {
	rows, err := tx.QueryContext(ctx, "SELECT subject, key_id, wrapped, created_at FROM person_keys ORDER BY subject")
	if err != nil {
		return err
	}
	defer rows.Close()
	type key struct {
		subject, id string
		wrapped     []byte
		at          int64
	}
	var kept []key
	there := false
	for rows.Next() {
		var k key
		if err := rows.Scan(&k.subject, &k.id, &k.wrapped, &k.at); err != nil {
			return err
		}
		if k.subject == without {
			there = true
			continue
		}
		kept = append(kept, k)
	}
	if err := rows.Err(); err != nil || !there {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM person_keys"); err != nil {
		return err
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO person_keys (subject, key_id, wrapped, created_at) VALUES (?, ?, ?, ?)")
	if err != nil {
		return err
	}
	defer insert.Close()
	for _, k := range kept {
		if _, err := insert.ExecContext(ctx, k.subject, k.id, k.wrapped, k.at); err != nil {
			return err
		}
	}
	return nil
}

// PersonKeys implements eventstore.Persons.
func (s *Store) PersonKeys(ctx context.Context) iter.Seq2[eventstore.PersonKey, error] {
	after := ""
	return eventstore.Paged(func() (page []eventstore.PersonKey, more bool, err error) {
		page, err = s.personKeys(ctx, after)
		if err != nil {
			return nil, false, fmt.Errorf("%w: read persons' keys: %w", eventstore.ErrUnavailable, err)
		}
		if len(page) > 0 {
			after = page[len(page)-1].Subject
		}
		return page, len(page) == pageSize, nil
	})
}

func (s *Store) personKeys(ctx context.Context, after string) (page []eventstore.PersonKey, err error) {
	rows, err := s.read.QueryContext(ctx, "SELECT subject, key_id, wrapped FROM person_keys WHERE subject > ? ORDER BY subject LIMIT ?", after, pageSize)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var k eventstore.PersonKey
		if err := rows.Scan(&k.Subject, &k.KeyID, &k.Wrapped); err != nil {
			return nil, err
		}
		page = append(page, k)
	}
	return page, rows.Err()
}

// RewrapPersonKey implements eventstore.Persons.
func (s *Store) RewrapPersonKey(ctx context.Context, was eventstore.PersonKey, wrapped []byte) (done bool, err error) {
	if s.readOnly {
		return false, errReadOnly
	}
	var changed int64
	r, err := s.writer.db.ExecContext(ctx, "UPDATE person_keys SET wrapped = ? WHERE subject = ? AND key_id = ? AND wrapped = ?",
		wrapped, was.Subject, was.KeyID, was.Wrapped)
	if err == nil {
		changed, err = r.RowsAffected()
	}
	if err != nil {
		return false, fmt.Errorf("%w: rewrap a person's key: %w", eventstore.ErrUnavailable, err)
	}
	return changed > 0, nil
}
