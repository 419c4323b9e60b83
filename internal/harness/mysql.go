package harness

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// OwnMySQL is a MySQL or MariaDB server of the test's own: to be killed, frozen, failed over.
type OwnMySQL struct {
	own
	Addr  string   // host:port, the same after each start
	Dir   string   // the data folder
	Flags []string // more of the command line, at the next start
	id    int      // server_id: replicas differ
	fresh bool     // it was never started
	args  []string
}

// NewMySQL starts a MySQL server, until the end of the test.
func NewMySQL(t testing.TB) *OwnMySQL {
	t.Helper()
	return newMySQL(t, "MySQL", 1)
}

func newMySQL(t testing.TB, name string, id int) *OwnMySQL {
	t.Helper()
	return newMySQLIn(t, t.TempDir(), name, id)
}

// NewMySQLIn makes it in a folder that the test gives, with these flags beside the defaults.
func NewMySQLIn(t testing.TB, dir string, flags ...string) *OwnMySQL {
	t.Helper()
	return newMySQLIn(t, dir, "MySQL", 1, flags...)
}

func newMySQLIn(t testing.TB, dir, name string, id int, flags ...string) *OwnMySQL {
	t.Helper()
	s := newOwnMySQL(t, dir, name, id, append(mysqld(t), "--user="+username(t)), "--mysqlx=OFF", "--secure-file-priv=NULL", "--performance-schema=OFF",
		"--gtid-mode=ON", "--enforce-gtid-consistency=ON")
	s.args = append(s.args, flags...)
	init := append(append([]string{}, s.args...), "--initialize-insecure", "--datadir="+s.Dir)
	if out, err := exec.Command(init[0], init[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("initialise MySQL: %v\n%s", err, out)
	}
	s.Start(t)
	return s
}

// Replica starts a MySQL server that follows this one and takes no writes, also after a restart of its own. It has all that
// this one has now.
func (s *OwnMySQL) Replica(t testing.TB) *OwnMySQL {
	t.Helper()
	r := newMySQL(t, s.name+" replica", s.id+1)
	// What it said into its own binary log when it was made is not to be anybody's history.
	r.Execute(t, "RESET BINARY LOGS AND GTIDS")
	r.FollowByGTID(t, s)
	r.InStep(t, s)
	return r
}

// FollowByGTID makes this MySQL server a replica of another one, whose transactions it has or will fetch.
func (s *OwnMySQL) FollowByGTID(t testing.TB, source *OwnMySQL) {
	t.Helper()
	host, port, err := net.SplitHostPort(source.Addr)
	if err != nil {
		t.Fatal(err)
	}
	s.Execute(t, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%s, SOURCE_USER='root', SOURCE_PASSWORD='', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, GET_SOURCE_PUBLIC_KEY=1", host, port),
		"START REPLICA", "SET PERSIST super_read_only = ON")
}

// InStep waits until this MySQL server has every transaction that another one has now.
func (s *OwnMySQL) InStep(t testing.TB, with *OwnMySQL) {
	t.Helper()
	var all string
	if err := with.Query(t, "SELECT @@GLOBAL.gtid_executed", &all); err != nil {
		t.Fatal(err)
	}
	var late int
	if err := s.Query(t, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+strings.ReplaceAll(all, "\n", "")+"', 60)", &late); err != nil || late != 0 {
		t.Fatalf("%s is not in step with %s: %v", s.name, with.name, err)
	}
}

// NewMariaDB starts a MariaDB server, until the end of the test. It writes a binary log, for replicas.
func NewMariaDB(t testing.TB) *OwnMySQL {
	t.Helper()
	server, err := exec.LookPath("mariadbd")
	if err != nil {
		t.Fatal("MariaDB is not installed: run `deploy/services/services.sh install`")
	}
	s := newOwnMySQL(t, t.TempDir(), "MariaDB", 1, []string{server, "--no-defaults", "--user=" + username(t)}, mariaDBSettings...)
	out, err := exec.Command("mariadb-install-db", "--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal",
		"--user="+username(t), "--datadir="+s.Dir).CombinedOutput()
	if err != nil {
		t.Fatalf("initialise MariaDB: %v\n%s", err, out)
	}
	s.Start(t)
	return s
}

// Each event is a row's image: a replica has what the server had, whatever the statement was.
var mariaDBSettings = []string{"--log-bin=binlog", "--binlog-format=ROW", "--sync-binlog=1", "--log-slave-updates=1"}

func newOwnMySQL(t testing.TB, dir, name string, id int, args []string, settings ...string) *OwnMySQL {
	t.Helper()
	s := &OwnMySQL{own: own{name: name, log: &buffer{}}, Addr: Address(t), Dir: filepath.Join(dir, "data"), id: id, fresh: true, args: append(args, settings...)}
	// 'root'@'127.0.0.1' because without name resolution 'localhost' means the socket.
	users := "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1' IDENTIFIED BY '';\nGRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"
	if err := os.WriteFile(s.initFile(), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cleanup(t)
	return s
}

func (s *OwnMySQL) initFile() string { return filepath.Join(filepath.Dir(s.Dir), "init.sql") }

// Start starts the server, again after a kill, and waits until it answers, which is after its recovery.
func (s *OwnMySQL) Start(t testing.TB) {
	t.Helper()
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{}, s.args...), "--datadir="+s.Dir, "--bind-address="+host, "--port="+port,
		"--socket="+filepath.Join(filepath.Dir(s.Dir), "s.sock"), "--pid-file="+filepath.Join(filepath.Dir(s.Dir), "pid"),
		"--server-id="+strconv.Itoa(s.id), "--skip-name-resolve", "--innodb-buffer-pool-size=64M", "--max-connections=500",
		"--local-infile=1", "--character-set-server=utf8mb4")
	args = append(args, s.Flags...)
	if s.fresh { // what is copied has its users, and says nothing of its own into its binary log
		args, s.fresh = append(args, "--init-file="+s.initFile()), false
	}
	s.begin(t, exec.Command(args[0], args[1:]...))
	db := s.open(t)
	defer db.Close()
	s.await(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var dir string
		if err := db.QueryRowContext(ctx, "SELECT @@datadir").Scan(&dir); err != nil {
			return err
		}
		if filepath.Clean(dir) != s.Dir {
			return fmt.Errorf("another server answers at %s: that of %s", s.Addr, dir)
		}
		return nil
	})
}

// Restart waits until the server has ended by itself, and starts it again: what a supervisor does.
func (s *OwnMySQL) Restart(t testing.TB) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end", s.name)
	}
	s.Start(t)
}

func (s *OwnMySQL) open(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", "root@tcp("+s.Addr+")/?timeout=5s")
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// Execute runs statements as root.
func (s *OwnMySQL) Execute(t testing.TB, statements ...string) {
	t.Helper()
	db := s.open(t)
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, q := range statements {
		if _, err := db.ExecContext(ctx, q); err != nil {
			t.Errorf("%s: %s: %v", s.name, q, err)
		}
	}
}

// Query asks for one row, as root.
func (s *OwnMySQL) Query(t testing.TB, query string, dest ...any) error {
	t.Helper()
	db := s.open(t)
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	return db.QueryRowContext(ctx, query).Scan(dest...)
}

// Database makes an empty database and answers its URL.
func (s *OwnMySQL) Database(t testing.TB) string {
	t.Helper()
	n := name()
	s.Execute(t, "CREATE DATABASE "+n+" CHARACTER SET utf8mb4")
	return "mysql://root@" + s.Addr + "/" + n
}

// Follow makes this stopped MariaDB server a replica of another stopped one, from a copy of its data, and starts both.
// It is behind as soon as the test says STOP SLAVE.
func (s *OwnMySQL) Follow(t testing.TB, master *OwnMySQL) {
	t.Helper()
	if err := os.RemoveAll(s.Dir); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", master.Dir, s.Dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the data of %s: %v\n%s", master.name, err, out)
	}
	s.fresh = false
	master.Start(t)
	s.Start(t)
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	s.Execute(t, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos",
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s, MASTER_USER='root', MASTER_PASSWORD='', MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos", host, port),
		"START SLAVE")
}

// NewReplica is a MariaDB server for Follow; it is not started.
func NewReplica(t testing.TB, master *OwnMySQL) *OwnMySQL {
	t.Helper()
	return newOwnMySQL(t, t.TempDir(), master.name+" replica", master.id+1, master.args)
}

// Promote makes a replica a server of its own, with what it has by now.
func (s *OwnMySQL) Promote(t testing.TB) {
	t.Helper()
	s.Execute(t, "STOP SLAVE", "RESET SLAVE ALL")
}

func username(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// mysqld is the command line of the server that the service scripts have unpacked: by its own loader and libraries.
func mysqld(t testing.TB) []string {
	t.Helper()
	machine, err := exec.Command("uname", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(cache(t), "mysql-sid-"+string(bytes.TrimSpace(machine)))
	loaders, _ := filepath.Glob(root + "/usr/lib*/ld-linux*.so.*")
	libs, _ := filepath.Glob(root + "/usr/lib/*-linux-gnu*")
	if len(loaders) == 0 || len(libs) == 0 {
		t.Fatal("MySQL is not installed: run `deploy/services/services.sh install`")
	}
	path := strings.Join([]string{libs[0], root + "/usr/lib/mysql/private"}, ":")
	return []string{
		loaders[0], "--library-path", path, root + "/usr/sbin/mysqld",
		"--no-defaults", "--basedir=" + root + "/usr", "--lc-messages-dir=" + root + "/usr/share/mysql",
		"--character-sets-dir=" + root + "/usr/share/mysql/charsets", "--plugin-dir=" + root + "/usr/lib/mysql/plugin",
	}
}
