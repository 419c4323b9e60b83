package sqlite

import (
	"context"
	"fmt"

	"github.com/dangdangsalon/salon/eventstore"
)

// Server implements eventstore.Examined: of the library, whose clock is ours.
func (s *Store) Server(ctx context.Context) (out eventstore.Server, err error) {
	p, err := provider(s.read)
	if err != nil {
		return out, err
	}
	for _, step := range p.ListSources() {
		out.Want = step.Version
	}
	err = s.read.QueryRowContext(ctx, "SELECT 'SQLite ' || sqlite_version(), (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size), "+
		"(SELECT coalesce(max(version_id), 0) FROM events_migrations WHERE is_applied)").Scan(&out.Version, &out.Bytes, &out.Schema)
	if err != nil {
		return out, fmt.Errorf("%w: ask the file how it is: %w", eventstore.ErrUnavailable, err)
	}
	return out, nil
}
