package reads

import (
	"context"
	"fmt"
	"time"
)

// Server is what a reads database tells of itself to those who look after it.
type Server struct {
	Version      string // "9.7.4", "10.11.6-MariaDB…", "SQLite 3.50.1"
	Bytes        int64  // that its tables take, as the server estimates it
	Schema, Want int64  // the last migration that it has, and that this release has
}

// Server asks it. One that was never migrated is an error, see Check.
func (db *DB) Server(ctx context.Context) (out Server, err error) {
	p, err := db.provider()
	if err != nil {
		return out, err
	}
	for _, step := range p.ListSources() {
		out.Want = step.Version
	}
	const schema = ", (SELECT COALESCE(MAX(version_id), 0) FROM reads_migrations WHERE is_applied)"
	query := "SELECT VERSION(), (SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE())"
	if db.dialect == SQLite {
		query = "SELECT 'SQLite ' || sqlite_version(), (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)"
	}
	if err := db.Reader().QueryRowContext(ctx, query+schema).Scan(&out.Version, &out.Bytes, &out.Schema); err != nil {
		return out, fmt.Errorf("ask the reads database how it is: %w", err)
	}
	return out, nil
}

// Now is the server's clock. SQLite has ours.
func (db *DB) Now(ctx context.Context) (time.Time, error) {
	if db.dialect == SQLite {
		return time.Now(), nil
	}
	var now int64
	err := db.Reader().QueryRowContext(ctx, "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)").Scan(&now)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the reads database for the time: %w", err)
	}
	return time.UnixMicro(now).UTC(), nil
}
