package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connect opens a pool. begin, when set, is run on each new connection, and refuses it with an error.
func connect(ctx context.Context, url string, connections int32, settings map[string]string, begin func(context.Context, *pgx.Conn) error) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("--events is not a valid postgres:// URL") // the parser's message would show it, password and all
	}
	c.MaxConns = connections
	c.ConnConfig.ConnectTimeout = 5 * time.Second
	maps.Copy(c.ConnConfig.RuntimeParams, map[string]string{
		"application_name":                    applicationName,
		"timezone":                            "UTC",
		"statement_timeout":                   "5s",
		"idle_in_transaction_session_timeout": "5s",
		"synchronous_commit":                  "on",
		// What the server, the database or the role has set must not change what append_events is: under another level
		// its check would see what was true before it got the lock.
		"default_transaction_isolation": "read committed",
	})
	maps.Copy(c.ConnConfig.RuntimeParams, settings)
	// The driver asks for 8 KiB at a time, which are eleven events: of what it takes to read them, the calls were a tenth.
	c.ConnConfig.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, 1<<16), w)
	}
	c.BeforeConnect = neverCancel
	c.AfterConnect = begin
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open the event store: %w", err)
	}
	return pool, nil
}

// neverCancel keeps the driver from asking the server to cancel what a connection that it gives up on still does. A
// commit that is cancelled while it waits for its synchronous standby is shown to everybody though the standby may lack
// it. The server's own time-outs end the rest.
func neverCancel(_ context.Context, c *pgx.ConnConfig) error {
	dial, validated, connected := c.DialFunc, c.AfterConnect, false
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		connected = true
		if validated == nil {
			return nil
		}
		return validated(ctx, conn)
	}
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected { // it dials again for one purpose
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
	return nil
}

var errNoCancel = errors.New("nothing is cancelled on the server")

// appendSettings are of the connections that append. append_events is one large statement that touches few rows:
// planning it anew would cost as much as running it (measured: 0.9 ms a call against 0.45), and a plan made while the
// tables were small must not scan them later.
var appendSettings = map[string]string{
	"plan_cache_mode": "force_generic_plan",
	"enable_seqscan":  "off",
	"jit":             "off",
	// Whoever got the lock has 2 seconds left of the statement's 5, at least; one that hangs is ended then.
	"lock_timeout": "3s",
}

// readSettings make every page a walk along an index, in its order. Left to itself, the planner sorts the rest of a table
// that it knows little of for each page (measured on one just filled: a sixth of the rate).
var readSettings = map[string]string{
	"plan_cache_mode":   "force_generic_plan",
	"enable_seqscan":    "off",
	"enable_bitmapscan": "off",
	"enable_sort":       "off",
	"jit":               "off",
}
