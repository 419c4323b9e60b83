package postgres

import (
	"context"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/dangdangsalon/salon/eventstore"
)

var _ eventstore.Persons = (*Store)(nil)

// ErasePerson implements eventstore.Persons. It reads all commands: no index finds those of one person.
func (s *Store) ErasePerson(ctx context.Context, subject string) error {
	if !eventstore.IsText(subject) {
		return nil // nobody is called that
	}
	err := pgx.BeginFunc(ctx, s.read, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE commands SET request_hash = '\x00'::bytea || sha256(request_hash) `+
			`WHERE actor = $1 AND NOT (length(request_hash) = 33 AND get_byte(request_hash, 0) = 0)`, subject)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM person_keys WHERE subject = $1", subject)
		return err
	})
	if err != nil {
		return unavailable("erase a person", err)
	}
	return nil
}

// PersonKeys implements eventstore.Persons.
func (s *Store) PersonKeys(ctx context.Context) iter.Seq2[eventstore.PersonKey, error] {
	after := ""
	return eventstore.Paged(func() (page []eventstore.PersonKey, more bool, err error) {
		rows, err := s.read.Query(ctx, "SELECT subject, key_id, wrapped FROM person_keys WHERE subject > $1 ORDER BY subject LIMIT $2", after, pageSize)
		if err == nil {
			page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[eventstore.PersonKey])
		}
		if err != nil {
			return nil, false, unavailable("read persons' keys", err)
		}
		if len(page) > 0 {
			after = page[len(page)-1].Subject
		}
		return page, len(page) == pageSize, nil
	})
}

// RewrapPersonKey implements eventstore.Persons.
func (s *Store) RewrapPersonKey(ctx context.Context, was eventstore.PersonKey, wrapped []byte) (done bool, err error) {
	tag, err := s.read.Exec(ctx, "UPDATE person_keys SET wrapped = $1 WHERE subject = $2 AND key_id = $3 AND wrapped = $4",
		wrapped, was.Subject, was.KeyID, was.Wrapped)
	if err != nil {
		return false, unavailable("rewrap a person's key", err)
	}
	return tag.RowsAffected() > 0, nil
}
