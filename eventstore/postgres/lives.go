package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dangdangsalon/salon/eventstore"
)

// noteLife has the life that the server is in written down before the connection may append. A server that writes stays
// in its life for as long as a connection to it can; one that is a standby still is refused, since its next life would
// begin under the connection.
func noteLife(ctx context.Context, conn *pgx.Conn) error {
	var life string
	if err := conn.QueryRow(ctx, "SELECT note_life()").Scan(&life); err != nil {
		return unavailable("begin to append", err)
	}
	conn.PgConn().CustomData()[lifeKey] = life
	return nil
}

const lifeKey = "life"

// lifeOf is the life that whatever a connection appends becomes part of.
func lifeOf(conn *pgx.Conn) string {
	life, _ := conn.PgConn().CustomData()[lifeKey].(string)
	return life
}

// Lives are the lives of the store up to its present one, the oldest first. A life in which nobody has begun to append is
// not written down: it has what there is.
//
// It is asked for right after a fail-over, when each connection to the lost server fails once: another one is tried.
func (s *Store) Lives(ctx context.Context) (lives []eventstore.Life, err error) {
	for range s.read.Config().MaxConns + 1 {
		lives, err = s.readLives(ctx)
		var refused *pgconn.PgError
		var connect *pgconn.ConnectError
		if err == nil || ctx.Err() != nil || errors.As(err, &connect) || errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR" {
			break
		}
	}
	if err != nil {
		return nil, unavailable("read the store's lives", err)
	}
	return lives, nil
}

func (s *Store) readLives(ctx context.Context) ([]eventstore.Life, error) {
	rows, err := s.read.Query(ctx, "SELECT incarnation, inherited FROM ("+
		"SELECT n, incarnation, inherited FROM store_lives UNION ALL "+
		"SELECT 2147483647, i, (SELECT coalesce(max(position), 0) FROM events) FROM store_incarnation() i "+
		"WHERE NOT EXISTS (SELECT FROM store_lives WHERE incarnation = i)) l ORDER BY n")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[eventstore.Life])
}
