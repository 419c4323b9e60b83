package reads

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// choice is which of several servers to connect to.
type choice int

const (
	writable  choice = iota // the one whose read_only is off
	reachable               // the first that answers
)

// lifetime is how long a connection is used at most. A server that was demoted and lives on would answer reads from what it
// had, for as long as its connections are in use.
const lifetime = time.Minute

// patience is how long one of several servers may take to connect: a host that is gone says nothing, and the others wait for
// their turn.
const patience = time.Second

// servers connects to one of several servers. It begins with the one that was right the last time; one that was not is
// asked last the next time, also when the caller's time ended with it.
type servers struct {
	each   []driver.Connector
	names  []string
	choice choice
	first  atomic.Int64
}

// serversOf makes a connector of a configuration and of hosts, separated by commas.
func serversOf(c *mysql.Config, hosts string, of choice) (driver.Connector, error) {
	s := &servers{names: strings.Split(hosts, ","), choice: of}
	for i, host := range s.names {
		if host == "" {
			return nil, errors.New("the URL has an empty name of a host")
		}
		if strings.LastIndex(host, ":") <= strings.LastIndex(host, "]") {
			host += ":3306"
		}
		s.names[i] = host
		own := c.Clone()
		own.Addr = host
		if len(s.names) > 1 {
			own.Timeout = patience
		}
		connector, err := mysql.NewConnector(own)
		if err != nil {
			return nil, err
		}
		s.each = append(s.each, connector)
	}
	if len(s.each) == 1 {
		return s.each[0], nil
	}
	return s, nil
}

func (s *servers) Driver() driver.Driver { return s.each[0].Driver() }

// Connect connects to the first server that is as wanted. Its error names each of the others.
func (s *servers) Connect(ctx context.Context) (driver.Conn, error) {
	var errs []error
	first := s.first.Load()
	for i := range int64(len(s.each)) {
		at := (first + i) % int64(len(s.each))
		conn, err := s.connect(ctx, at)
		if err == nil {
			s.first.Store(at)
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", s.names[at], err))
		s.first.CompareAndSwap(at, (at+1)%int64(len(s.each)))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (s *servers) connect(ctx context.Context, at int64) (driver.Conn, error) {
	conn, err := s.each[at].Connect(ctx)
	if err != nil || s.choice == reachable {
		return conn, err
	}
	only, err := readOnly(ctx, conn)
	if err == nil && only {
		err = errors.New("takes no writes (read_only is on)")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// readOnly asks a server whether it is a replica, or was made one.
func readOnly(ctx context.Context, conn driver.Conn) (bool, error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "SELECT @@GLOBAL.read_only", nil)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	value := make([]driver.Value, 1)
	if err := rows.Next(value); err != nil {
		return false, err
	}
	text, isText := value[0].([]byte)
	return fmt.Sprint(value[0]) != "0" && (!isText || string(text) != "0"), nil
}
