package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// OwnPostgres is a PostgreSQL server of the test's own: to be killed, filled up, promoted. The servers that all tests
// share are never hurt. It is there until the end of the test.
type OwnPostgres struct {
	Addr string // host:port, the same after each start
	Dir  string // the data folder
	// Under, when set, is put before the server's command line at the next start: strace, for a disk that fails.
	Under []string

	settings []string
	log      *buffer
	process  *exec.Cmd
	ended    chan struct{} // closed when the process has ended
}

// NewPostgres makes a server with these settings ("name=value") beside the defaults, and starts it.
func NewPostgres(t testing.TB, settings ...string) *OwnPostgres {
	t.Helper()
	return NewPostgresIn(t, t.TempDir(), settings...)
}

// NewPostgresIn makes it in a folder that the test gives. Nobody has a password, and the log is cut into small files, so
// that a small disk is enough.
func NewPostgresIn(t testing.TB, dir string, settings ...string) *OwnPostgres {
	t.Helper()
	p := &OwnPostgres{Addr: Address(t), Dir: filepath.Join(dir, "data"), settings: settings, log: &buffer{}}
	p.own(t, dir)
	p.run(t, "initdb", "-D", p.Dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--wal-segsize=1", "--no-sync")
	p.Start(t)
	t.Cleanup(func() {
		p.Kill(t)
		if t.Failed() {
			t.Logf("PostgreSQL in %s:\n%s", p.Dir, p.log.tail(6000))
		}
	})
	return p
}

// URL is of a database of the server.
func (p *OwnPostgres) URL(database string) string {
	return "postgres://postgres@" + p.Addr + "/" + database + "?sslmode=disable"
}

// Start starts the server again and waits until it takes connections, which is after its recovery.
func (p *OwnPostgres) Start(t testing.TB) {
	t.Helper()
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	// Left behind by a kill, and refused while its number lives: nobody works in the folder, see Kill.
	if err := os.Remove(filepath.Join(p.Dir, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	args := append(append([]string{}, p.Under...), p.binary(t, "postgres"), "-D", p.Dir, "-p", port, "-h", host, "-c", "unix_socket_directories=", "-c", "recovery_init_sync_method=syncfs", "-c", "log_line_prefix=%m [%p] ")
	for _, s := range p.settings {
		args = append(args, "-c", s)
	}
	p.process = exec.Command(args[0], args[1:]...)
	p.process.SysProcAttr = AsPostgres(t)
	p.process.Stdout, p.process.Stderr = p.log, p.log
	if err := p.process.Start(); err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	ended, process := make(chan struct{}), p.process
	p.ended = ended
	go func() {
		_ = process.Wait()
		close(ended)
	}()
	p.ready(t)
}

// Ended tells whether the server has given up.
func (p *OwnPostgres) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *OwnPostgres) ready(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		var dir string
		c, err := pgx.Connect(ctx, p.URL("postgres"))
		if err == nil {
			err = c.QueryRow(ctx, "SHOW data_directory").Scan(&dir)
			_ = c.Close(ctx)
		}
		if err == nil && dir != p.Dir {
			t.Fatalf("another server answers at %s: that of %s", p.Addr, dir)
		}
		if err == nil {
			return
		}
		select {
		case <-p.ended:
			t.Fatalf("PostgreSQL ended before it was ready:\n%s", p.log.tail(4000))
		case <-ctx.Done():
			t.Fatalf("PostgreSQL is not ready: %v\n%s", err, p.log.tail(4000))
		case <-time.After(25 * time.Millisecond): // each look costs the server a process
		}
	}
}

// Kill is kill -9 of the server and of every process of it, and waits for their end.
func (p *OwnPostgres) Kill(t testing.TB) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		pids := p.processes(t)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			t.Fatalf("processes %v of PostgreSQL in %s do not end", pids, p.Dir)
		}
	}
	if p.process.Process != nil {
		_ = p.process.Process.Kill() // what it was started under
	}
	<-p.ended
}

// processes are those that stand in the data folder, which each process of a server does and nothing else.
func (p *OwnPostgres) processes(t testing.TB) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if dir, err := os.Readlink("/proc/" + e.Name() + "/cwd"); err == nil && dir == p.Dir {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Reload makes the server read its settings again after an ALTER SYSTEM.
func (p *OwnPostgres) Reload(t testing.TB) {
	t.Helper()
	p.execute(t, "SELECT pg_reload_conf()")
}

// Authenticate makes the server ask a role for its password, by this method, from now on.
func (p *OwnPostgres) Authenticate(t testing.TB, role, method string) {
	t.Helper()
	name := filepath.Join(p.Dir, "pg_hba.conf")
	rules, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append([]byte("host all "+role+" all "+method+"\n"), rules...), 0o600); err != nil { // of files that are there the owner stays
		t.Fatal(err)
	}
	p.Reload(t)
	limit := time.After(time.Minute)
	for {
		c, err := pgx.Connect(t.Context(), strings.Replace(p.URL("postgres"), "postgres@", role+"@", 1))
		if err != nil {
			return // it asks for the password now
		}
		_ = c.Close(t.Context())
		select {
		case <-limit:
			t.Fatalf("PostgreSQL does not ask %s for a password", role)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Standby makes a server that follows this one. No commit is acknowledged from now on before the standby has it.
func (p *OwnPostgres) Standby(t testing.TB) *OwnPostgres {
	t.Helper()
	dir := t.TempDir()
	s := &OwnPostgres{Addr: Address(t), Dir: filepath.Join(dir, "data"), settings: p.settings, log: &buffer{}}
	s.own(t, dir)
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, "pg_basebackup", "-h", host, "-p", port, "-U", "postgres", "-D", s.Dir, "-R", "-C", "-S", "standby", "-X", "stream", "-c", "fast", "--no-sync")
	s.Start(t)
	t.Cleanup(func() { s.Kill(t) })
	p.execute(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	p.Reload(t)
	p.await(t, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')")
	return s
}

// Followed waits until a standby has all of this server's log, and follows.
func (p *OwnPostgres) Followed(t testing.TB) {
	t.Helper()
	p.await(t, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
}

// Asynchronous has commits acknowledged without the standby from now on.
func (p *OwnPostgres) Asynchronous(t testing.TB) {
	t.Helper()
	p.execute(t, "ALTER SYSTEM SET synchronous_standby_names = ''")
	p.Reload(t)
	p.await(t, "SELECT current_setting('synchronous_standby_names') = ''")
}

// Promote makes a standby a server of its own, and waits until it takes writes.
func (p *OwnPostgres) Promote(t testing.TB) {
	t.Helper()
	p.execute(t, "SELECT pg_promote(true, 60)")
	p.await(t, "SELECT NOT pg_is_in_recovery()")
}

func (p *OwnPostgres) execute(t testing.TB, query string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// await waits until the query answers true.
func (p *OwnPostgres) await(t testing.TB, query string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	limit := time.After(time.Minute)
	for {
		var so bool
		if err := c.QueryRow(t.Context(), query).Scan(&so); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if so {
			return
		}
		select {
		case <-limit:
			t.Fatalf("never true: %s", query)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Database makes an empty database and answers its URL.
func (p *OwnPostgres) Database(t testing.TB) string {
	t.Helper()
	n := name()
	p.execute(t, "CREATE DATABASE "+n)
	return p.URL(n)
}

// own gives the folder to the user that the server runs as, who must also be able to get there.
func (p *OwnPostgres) own(t testing.TB, dir string) {
	t.Helper()
	a := AsPostgres(t)
	if a.Credential == nil {
		return
	}
	if err := errors.Join(os.Chown(dir, int(a.Credential.Uid), int(a.Credential.Gid)), os.Chmod(dir, 0o700), os.Chmod(filepath.Dir(dir), 0o711)); err != nil { //nolint:gosec // passing through is all that is allowed
		t.Fatal(err)
	}
}

func (p *OwnPostgres) run(t testing.TB, program string, args ...string) {
	t.Helper()
	c := exec.Command(p.binary(t, program), args...)
	c.SysProcAttr = AsPostgres(t)
	c.Dir = "/"
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (p *OwnPostgres) binary(t testing.TB, program string) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/postgresql/15/bin/", "/usr/lib/postgresql/*/bin/"} {
		if found, _ := filepath.Glob(pattern + program); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("PostgreSQL's %s is not installed: run `make services`, or install postgresql-15", program)
	}
	return path
}

// AsPostgres makes root's child a process of the user postgres: the server refuses to run as root.
func AsPostgres(t testing.TB) *syscall.SysProcAttr {
	t.Helper()
	// A server outlives no test, also when the test process is killed.
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		return a
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return a
}

// Log is what the server has said.
func (p *OwnPostgres) Log() string { return strings.TrimSpace(p.log.String()) }

// SmallDisk is a folder on a disk of so many MiB, until the end of the test.
func SmallDisk(t testing.TB, mebibytes int) string {
	t.Helper()
	dir := t.TempDir()
	SmallDiskAt(t, dir, mebibytes)
	return dir
}

// SmallDiskAt mounts a disk of so many MiB over a folder, until the end of the test. What the folder had is on it.
func SmallDiskAt(t testing.TB, dir string, mebibytes int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("only root can mount a small disk")
	}
	had := t.TempDir()
	if err := os.CopyFS(had, os.DirFS(dir)); err != nil {
		t.Fatalf("copy what the small disk hides: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes)); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	if err := os.CopyFS(dir, os.DirFS(had)); err != nil {
		t.Fatalf("copy what the small disk hides: %v", err)
	}
}
