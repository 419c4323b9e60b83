package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Nginx starts an nginx on a configuration that writes its process ID to the file pid of the same folder, until the end of the
// test.
func Nginx(t testing.TB, conf string) *Process {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // not on everybody's path
	}
	// As root it would give its work to a user who cannot read the test's files.
	p := StartCommand(t, exec.Command(program, "-c", conf, "-g", "daemon off; user "+username(t)+";"))
	t.Cleanup(func() { p.Stop(t) }) // killed, it would leave its workers behind
	limit := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if pid, err := os.ReadFile(filepath.Join(filepath.Dir(conf), "pid")); err == nil && len(pid) > 0 { // written when it listens
			return p
		}
		select {
		case <-p.done:
			t.Fatalf("nginx ended (%v), package nginx-light: %s", p.err, p.Output())
		case <-limit:
			t.Fatalf("nginx does not listen: %s", p.Output())
		case <-tick.C:
		}
	}
}
