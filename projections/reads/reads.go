// Package reads is the database of the read models: MySQL, MariaDB or SQLite behind one handle.
//
// What a caller relies on: every connection has the same character set (utf8mb4, compared byte by byte), SQL mode and
// time zone, whatever the server's defaults; an UPDATE reports the rows it matched, not those it changed, so that a
// fence that sets what was there already still counts; a Snapshot sees one state of the database however many
// statements it runs; on SQLite there is one writer, so a write waits in Go and never meets SQLITE_BUSY.
//
// Everything here can be rebuilt from the event store. That is why SQLite runs with synchronous=NORMAL: a power cut
// may take the last transactions, rows and offsets together, and the projections go on from there.
package reads

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Dialect is which SQL the database speaks.
type Dialect int

// The dialects. MariaDB speaks MySQL.
const (
	MySQL Dialect = iota + 1
	SQLite
)

func (d Dialect) String() string {
	if d == SQLite {
		return "sqlite"
	}
	return "mysql"
}

// Queryer is what a read needs of a connection, a transaction or a snapshot.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Execer is what a statement needs of a pool, a connection or a transaction.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Conn takes any statement: a pool, a connection or a transaction.
type Conn interface {
	Queryer
	Execer
}

// DB is an open reads database, safe for concurrent use.
type DB struct {
	dialect Dialect
	write   *sql.DB
	read    *sql.DB
	long    *sql.DB // as write, for statements that may take long
}

// Open opens mysql://user:password@host:port/database or sqlite:FILE. Of several hosts, separated by commas, it uses the one
// that takes writes (read_only is off), also after another has become that. The server may be away: the URL is checked, and
// Ping tells about the server. A SQLite file is made at once, so that a folder that is not there is an error here.
func Open(ctx context.Context, rawURL string) (*DB, error) {
	var db *DB
	var err error
	switch {
	case strings.HasPrefix(rawURL, "sqlite:"):
		db, err = openSQLite(strings.TrimPrefix(rawURL, "sqlite:"))
	case strings.HasPrefix(rawURL, "mysql://"):
		db, err = openMySQL(rawURL, writable)
	default:
		return nil, errors.New("reads database: want mysql://user:password@host:port/database or sqlite:FILE")
	}
	if err != nil {
		return nil, fmt.Errorf("reads database: %w", err)
	}
	if db.dialect == SQLite {
		if err := db.Ping(ctx); err != nil {
			db.Close()
			return nil, err
		}
	}
	return db, nil
}

// OpenReplica opens mysql://user:password@host:port/database for reads alone: of several hosts the first that answers.
func OpenReplica(rawURL string) (*DB, error) {
	if !strings.HasPrefix(rawURL, "mysql://") {
		return nil, errors.New("replica of the reads database: want mysql://user:password@host:port/database")
	}
	db, err := openMySQL(rawURL, reachable)
	if err != nil {
		return nil, fmt.Errorf("replica of the reads database: %w", err)
	}
	return db, nil
}

// The write connections: five seconds for a lock, because a projector that waits longer is better off starting its
// batch again; and an end to a transaction whose owner went silent, because it would hold the rows its successor needs
// (MariaDB ends it after 3 s, MySQL with the idle connection). READ COMMITTED because the fence, not a gap lock, keeps
// other writers away, and gap locks of neighbouring rows deadlock.
//
// The versioned comments ride on one variable since the driver sets all of them in one statement, and each server
// refuses the other's names.
var mysqlWrite = map[string]string{
	"innodb_lock_wait_timeout": "5",
	"wait_timeout": "15 /*M! , idle_write_transaction_timeout=3, tx_isolation='READ-COMMITTED' */" +
		" /*!80000 , transaction_isolation='READ-COMMITTED' */",
}

// A snapshot needs REPEATABLE READ.
var mysqlRead = map[string]string{
	"wait_timeout": "60 /*M! , tx_isolation='REPEATABLE-READ' */ /*!80000 , transaction_isolation='REPEATABLE-READ' */",
}

func openMySQL(rawURL string, of choice) (*DB, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the URL cannot be parsed") // the parser's own error repeats the password
	}
	name := strings.Trim(u.Path, "/")
	if u.Host == "" || name == "" {
		return nil, errors.New("the URL needs a host and a database: mysql://user:password@host:port/database")
	}
	open := func(vars map[string]string, writes bool, most int, idle, patience time.Duration) (*sql.DB, error) {
		c := mysql.NewConfig()
		c.User = u.User.Username()
		c.Passwd, _ = u.User.Password()
		c.Net, c.DBName = "tcp", name
		c.Collation = "utf8mb4_bin"
		c.ClientFoundRows = true
		c.RejectReadOnly = writes           // one that was demoted: its connections are thrown away, the next one goes to its successor
		c.InterpolateParams = true          // one round trip for a statement, not two
		c.Loc, c.ParseTime = time.UTC, true // goose keeps times in a TIMESTAMP
		c.Timeout = 5 * time.Second
		c.ReadTimeout = patience
		c.WriteTimeout = 30 * time.Second
		c.Logger = &mysql.NopLogger{} // what it would log, it returns as well
		c.Params = map[string]string{
			"sql_mode":  "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
			"time_zone": "'+00:00'",
		}
		for k, v := range vars {
			c.Params[k] = v
		}
		connector, err := serversOf(c, u.Host, of)
		if err != nil {
			return nil, err
		}
		pool := sql.OpenDB(connector)
		pool.SetConnMaxLifetime(lifetime)
		pool.SetMaxOpenConns(most)
		pool.SetMaxIdleConns(most)
		pool.SetConnMaxIdleTime(idle) // before the server's wait_timeout: a pooled connection must not die unseen
		return pool, nil
	}
	write, err := open(mysqlWrite, true, 32, 10*time.Second, 30*time.Second)
	if err != nil {
		return nil, err
	}
	read, err := open(mysqlRead, false, 32, 45*time.Second, 30*time.Second)
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	// An index over a large table takes minutes, in which the server says nothing. One that is gone is found by its silence on
	// the connection's keep-alive.
	long, err := open(mysqlWrite, true, 4, 10*time.Second, 0)
	if err != nil {
		return nil, errors.Join(err, write.Close(), read.Close())
	}
	return &DB{MySQL, write, read, long}, nil
}

func openSQLite(file string) (*DB, error) {
	open := func(most int, options string) (*sql.DB, error) {
		pool, err := sql.Open("sqlite", "file:"+url.PathEscape(file)+
			"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(5000)&_pragma=foreign_keys(0)"+
			"&_pragma=cache_size(-8000)"+options)
		if err != nil {
			return nil, err
		}
		pool.SetMaxOpenConns(most)
		pool.SetMaxIdleConns(most)
		return pool, nil
	}
	write, err := open(1, "&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	read, err := open(8, "&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return &DB{SQLite, write, read, write}, nil
}

// Dialect is which SQL to write.
func (db *DB) Dialect() Dialect { return db.dialect }

// Writer is the pool of write connections, for the engine. On SQLite it is one connection.
func (db *DB) Writer() *sql.DB { return db.write }

// Reader is the pool of read connections: each statement by itself sees the latest state. Snapshot is for those that
// have to agree.
func (db *DB) Reader() Queryer { return db.read }

// Ping sees that the server answers.
func (db *DB) Ping(ctx context.Context) error {
	// The write pool: on SQLite it makes the file, which a query-only connection cannot.
	if err := db.write.PingContext(ctx); err != nil {
		return fmt.Errorf("reads database (%s): %w", db.dialect, err)
	}
	return nil
}

// Close closes all connections.
func (db *DB) Close() error { return errors.Join(db.read.Close(), db.write.Close(), db.long.Close()) }

// Stats counts the connections of both pools.
func (db *DB) Stats() (open, inUse int, waited int64) {
	w, r := db.write.Stats(), db.read.Stats()
	return w.OpenConnections + r.OpenConnections, w.InUse + r.InUse, w.WaitCount + r.WaitCount
}

// Snapshot runs fn on one consistent, read-only state of the database: an offset and the rows it stands for agree.
func (db *DB) Snapshot(ctx context.Context, fn func(ctx context.Context, q Queryer) error) error {
	conn, err := db.read.Conn(ctx)
	if err != nil {
		return fmt.Errorf("reads database: %w", err)
	}
	defer conn.Close()
	// A snapshot left open on a pooled connection would answer the next caller with the past, or with an error: whatever
	// happens before it is known to have ended, the connection is thrown away.
	ended := false
	defer func() {
		if !ended {
			throwAway(conn)
		}
	}()
	begin := "BEGIN"
	if db.dialect == MySQL {
		begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
	}
	// SQLite's driver calls a statement failed that ran while its context ended.
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		return fmt.Errorf("begin a snapshot: %w", err)
	}
	err = fn(ctx, conn)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, e := conn.ExecContext(end, "ROLLBACK")
	if ended = e == nil; !ended && err == nil {
		err = fmt.Errorf("end a snapshot: %w", e)
	}
	return err
}

// throwAway closes a connection that is taken from a pool, instead of giving it back.
func throwAway(conn *sql.Conn) { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }

// Only runs fn while nobody else runs under the same name, on one connection: where that breaks, what fn goes on to do on it
// fails, and another may run. It is for statements that no transaction holds back, as those that make and drop tables, and
// for as long as they take. The one writer of SQLite is alone anyway.
func (db *DB) Only(ctx context.Context, name string, fn func(ctx context.Context, x Conn) error) error {
	if db.dialect == SQLite {
		return fn(ctx, db.write)
	}
	conn, err := db.long.Conn(ctx)
	if err != nil {
		return fmt.Errorf("reads database: %w", err)
	}
	defer conn.Close()
	var got sql.NullInt64
	// Names are the server's, and at most 64 characters long. MySQL 9 has no MD5.
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(SHA2(CONCAT(DATABASE(), ?), 224), 10)", "/"+name).Scan(&got); err != nil {
		throwAway(conn) // it may have it all the same
		return fmt.Errorf("lock %s: %w", name, err)
	}
	if got.Int64 != 1 {
		return fmt.Errorf("lock %s: another process has held it for 10 s", name)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, err := conn.ExecContext(end, "DO RELEASE_LOCK(SHA2(CONCAT(DATABASE(), ?), 224))", "/"+name); err != nil {
			throwAway(conn) // and the lock with it
		}
	}()
	return fn(ctx, conn)
}

// Write runs fn in one read-write transaction and commits it unless fn fails.
func (db *DB) Write(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := fn(ctx, tx); err != nil {
		tx.Rollback()
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
