package reads

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// ErrNotTold is the answer to a user whom the server does not tell how its replication is.
var ErrNotTold = errors.New("the server does not tell this user how its replication is: GRANT REPLICATION CLIENT ON *.* (MariaDB: SLAVE MONITOR)")

// notTold is MySQL's and MariaDB's error for a user who lacks a right of the whole server.
const notTold = 1227

// ReplicaURLs are the URLs of each host of a replica's URL by itself, by name: of several, OpenReplica uses one that answers,
// which hides that another does not.
func ReplicaURLs(rawURL string) (map[string]string, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("replica of the reads database: the URL cannot be parsed") // the parser's own error repeats the password
	}
	out := map[string]string{}
	for host := range strings.SplitSeq(u.Host, ",") {
		own := *u
		own.Host = host
		out[host] = own.String()
	}
	return out, nil
}

// TakesWrites reports whether the server is no replica, or one that was promoted.
func (db *DB) TakesWrites(ctx context.Context) (bool, error) {
	var only bool
	if err := db.read.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&only); err != nil {
		return false, fmt.Errorf("ask a reads database whether it takes writes: %w", err)
	}
	return !only, nil
}

// Follows asks a replica what keeps it from fetching or applying what its source writes; "" when nothing does. ErrNotTold: this
// user may not know.
func (db *DB) Follows(ctx context.Context) (stopped string, err error) {
	rows, err := db.read.QueryContext(ctx, "SHOW REPLICA STATUS")
	var refused *mysql.MySQLError
	if errors.As(err, &refused) && refused.Number == notTold {
		return "", ErrNotTold
	}
	if err != nil {
		return "", fmt.Errorf("ask a replica how it is: %w", err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return "", fmt.Errorf("ask a replica how it is: %w", err)
	}
	stopped = "it follows nobody"
	for rows.Next() { // one for each source
		values := make([]sql.NullString, len(names))
		dest := make([]any, len(names))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return "", fmt.Errorf("ask a replica how it is: %w", err)
		}
		of := map[string]string{}
		for i, name := range names { // Replica_IO_Running is Slave_IO_Running on MariaDB
			name = strings.TrimPrefix(strings.TrimPrefix(name, "Replica_"), "Slave_")
			of[name] = values[i].String
		}
		var wrong []string
		for _, part := range []string{"IO", "SQL"} { // the one fetches, the other one applies
			if state := of[part+"_Running"]; state != "Yes" {
				wrong = append(wrong, strings.TrimSpace(fmt.Sprintf("%s_Running: %s %s", part, state, of["Last_"+part+"_Error"])))
			}
		}
		if stopped = strings.Join(wrong, "; "); stopped != "" {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("ask a replica how it is: %w", err)
	}
	return stopped, nil
}
