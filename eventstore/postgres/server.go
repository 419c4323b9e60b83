package postgres

import (
	"context"
	"strings"

	"github.com/dangdangsalon/salon/eventstore"
)

// Server implements eventstore.Examined.
func (s *Store) Server(ctx context.Context) (out eventstore.Server, err error) {
	out.Want = lastMigration
	err = s.read.QueryRow(ctx, "SELECT current_setting('server_version'), clock_timestamp(), pg_database_size(current_database()), "+
		"(SELECT coalesce(max(version_id), 0) FROM events_migrations WHERE is_applied)").Scan(&out.Version, &out.Now, &out.Bytes, &out.Schema)
	if err != nil {
		return out, unavailable("ask the server how it is", err)
	}
	version, _, _ := strings.Cut(out.Version, " ") // then comes the distribution's
	out.Version = "PostgreSQL " + version
	return out, nil
}
