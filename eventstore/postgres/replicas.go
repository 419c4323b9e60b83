package postgres

import (
	"context"
	"time"
)

// Replicas tells of each standby that follows how old is what it has: how long ago what it confirmed last was written, or that it
// said anything. A standby that is in step counts as 0, and so does one of which the server does not tell this user
// (it tells members of pg_monitor).
func (s *Store) Replicas(ctx context.Context) (map[string]time.Duration, error) {
	// A standby that is in step still speaks only each 10 s (wal_receiver_status_interval): until then its silence says nothing.
	rows, err := s.read.Query(ctx, "SELECT coalesce(application_name, 'pid ' || pid), "+
		"greatest(coalesce(extract(epoch FROM replay_lag), 0), coalesce(extract(epoch FROM now() - reply_time), 0) - 10, 0)::float8 FROM pg_stat_replication")
	if err != nil {
		return nil, unavailable("list the standbys", err)
	}
	defer rows.Close()
	out := map[string]time.Duration{}
	for rows.Next() {
		var name string
		var seconds float64
		if err := rows.Scan(&name, &seconds); err != nil {
			return nil, unavailable("list the standbys", err)
		}
		out[name] = max(out[name], time.Duration(seconds*float64(time.Second)))
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable("list the standbys", err)
	}
	return out, nil
}
