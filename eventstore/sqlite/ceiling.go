package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

// PlainScan reads every event of a file by one statement and answers how many there were: what SQLite and its driver can
// do, for `salon bench`.
func PlainScan(ctx context.Context, path string) (events int, err error) {
	db, err := connect(path, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, "SELECT "+columns+" FROM events ORDER BY position")
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for ; rows.Next(); events++ {
		var r eventstore.Recorded
		var id, hash []byte
		var at int64
		if err := rows.Scan(&r.Position, &r.Stream, &r.Revision, &id, &r.Type, &r.Key, &at, &r.Metadata, &r.Data, &hash); err != nil {
			return events, err
		}
		copy(r.ID[:], id)
		copy(r.Hash[:], hash)
		r.RecordedAt = time.UnixMicro(at).UTC()
	}
	return events, rows.Err()
}
