package harness

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// OwnRedis is a Redis server of the test's own: to be killed, emptied, frozen, promoted. The servers that all tests
// share are never hurt. It is there until the end of the test.
type OwnRedis struct {
	Addr string // host:port, the same after each start
	Dir  string // where it saves, which it does only when asked

	settings []string
	log      *buffer
	process  *exec.Cmd
	ended    chan struct{} // closed when the process has ended
}

// NewRedis makes an empty server with these settings ("maxmemory 10mb") beside the defaults, and starts it.
func NewRedis(t testing.TB, settings ...string) *OwnRedis {
	t.Helper()
	return NewRedisIn(t, t.TempDir(), settings...)
}

// NewRedisIn makes it save in a folder that the test gives.
func NewRedisIn(t testing.TB, dir string, settings ...string) *OwnRedis {
	t.Helper()
	r := &OwnRedis{Addr: Address(t), Dir: dir, settings: settings, log: &buffer{}}
	r.Start(t)
	t.Cleanup(func() {
		r.Kill()
		if t.Failed() {
			t.Logf("Redis at %s:\n%s", r.Addr, r.log.tail(2000))
		}
	})
	return r
}

// URL is of its first database.
func (r *OwnRedis) URL() string { return "redis://" + r.Addr + "/0" }

// Start starts the server again, with what it saved last, and waits until it answers.
func (r *OwnRedis) Start(t testing.TB) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: run `make services`, or install redis-server")
	}
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--port", port, "--bind", host, "--dir", r.Dir, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}
	for _, s := range r.settings {
		name, value, _ := strings.Cut(s, " ")
		args = append(args, "--"+name, value)
	}
	r.process = exec.Command(program, args...)
	// A server outlives no test, also when the test process is killed.
	r.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r.process.Stdout, r.process.Stderr = r.log, r.log
	if err := r.process.Start(); err != nil {
		t.Fatalf("start Redis: %v", err)
	}
	ended, process := make(chan struct{}), r.process
	r.ended = ended
	go func() {
		_ = process.Wait()
		close(ended)
	}()
	r.await(t, "ready", func(ctx context.Context, c *redis.Client) bool { return c.Ping(ctx).Err() == nil })
}

// await waits until something is true of the server.
func (r *OwnRedis) await(t testing.TB, what string, is func(ctx context.Context, c *redis.Client) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// Without retries and pool: the client would print that it cannot connect yet.
	c := redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	for dialer := (net.Dialer{}); ; {
		conn, err := dialer.DialContext(ctx, "tcp", r.Addr)
		if err == nil {
			_ = conn.Close()
			if is(ctx, c) {
				return
			}
		}
		select {
		case <-r.ended:
			t.Fatalf("Redis ended before it was %s:\n%s", what, r.log.tail(2000))
		case <-ctx.Done():
			t.Fatalf("Redis is not %s:\n%s", what, r.log.tail(2000))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Kill is kill -9, and waits for the end.
func (r *OwnRedis) Kill() {
	_ = r.process.Process.Kill()
	<-r.ended
}

// Forget removes what the server has saved, so that its next start is without data.
func (r *OwnRedis) Forget(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(r.Dir, "dump.rdb")); err != nil {
		t.Fatal(err)
	}
}

// Save makes it save what it has now: what the next start begins with.
func (r *OwnRedis) Save(t testing.TB) {
	t.Helper()
	r.execute(t, "SAVE")
}

// Freeze stops the server in the middle of whatever it does, until Thaw.
func (r *OwnRedis) Freeze(t testing.TB) {
	t.Helper()
	if err := r.process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// Thaw lets it go on.
func (r *OwnRedis) Thaw(t testing.TB) {
	t.Helper()
	if err := r.process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// Replica makes a server that follows this one, and waits until it has all that this one has now.
func (r *OwnRedis) Replica(t testing.TB) *OwnRedis {
	t.Helper()
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	f := NewRedis(t)
	f.execute(t, "REPLICAOF", host, port)
	f.await(t, "in step", func(ctx context.Context, c *redis.Client) bool {
		return strings.Contains(c.Info(ctx, "replication").Val(), "master_link_status:up")
	})
	return f
}

// Promote makes a replica a server of its own, which takes writes.
func (r *OwnRedis) Promote(t testing.TB) {
	t.Helper()
	r.execute(t, "REPLICAOF", "NO", "ONE")
}

func (r *OwnRedis) execute(t testing.TB, command ...any) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer c.Close()
	if err := c.Do(t.Context(), command...).Err(); err != nil {
		t.Fatalf("%v: %v", command, err)
	}
}

// Unfollowed lets nobody follow this server any more, as when the way to its replicas is cut. What is written from now on is
// lost when one of them takes its place.
func (r *OwnRedis) Unfollowed(t testing.TB) {
	t.Helper()
	r.execute(t, "ACL", "SETUSER", "default", "-psync", "-sync")
	r.execute(t, "CLIENT", "KILL", "TYPE", "replica")
}

// Sentinels starts three that watch this server under a name, until the end of the test, and waits until they know each
// other and its replicas, of which there have to be some. Who answers nothing for a second is replaced. It answers their
// addresses.
func (r *OwnRedis) Sentinels(t testing.TB, name string, replicas int) (addrs []string) {
	t.Helper()
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: run `make services`, or install redis-server")
	}
	var all []*own
	for i := range 3 {
		addr, dir := Address(t), t.TempDir()
		_, mine, _ := net.SplitHostPort(addr)
		conf := filepath.Join(dir, "sentinel.conf")
		settings := fmt.Sprintf("port %s\nbind %s\ndir %s\nsentinel monitor %s %s %s 2\nsentinel down-after-milliseconds %[4]s 1000\nsentinel failover-timeout %[4]s 5000\n",
			mine, host, dir, name, host, port)
		if err := os.WriteFile(conf, []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &own{name: fmt.Sprintf("sentinel %d", i+1), log: &buffer{}}
		s.cleanup(t)
		s.begin(t, exec.Command(program, conf, "--sentinel"))
		all, addrs = append(all, s), append(addrs, addr)
	}
	for i, s := range all {
		c := redis.NewSentinelClient(&redis.Options{Addr: addrs[i], MaxRetries: -1})
		s.await(t, func() error {
			if err := c.CkQuorum(t.Context(), name).Err(); err != nil {
				return err
			}
			known, err := c.Replicas(t.Context(), name).Result()
			if err == nil && len(known) < replicas {
				err = fmt.Errorf("it knows %d replicas of %d", len(known), replicas)
			}
			return err
		})
		_ = c.Close()
	}
	return addrs
}
