package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	buildOnce sync.Once
	built     string
	buildErr  error
)

// Binary builds the salon command, once for the test process, and answers its path.
func Binary(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "salon-test-") //nolint:usetesting // outlives this test: every test of the process uses it
		if err != nil {
			buildErr = err
			return
		}
		built = filepath.Join(dir, "salon")
		c := exec.Command("go", "build", "-trimpath", "-o", built, "github.com/dangdangsalon/salon/cmd/salon")
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("build salon: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return built
}

// Process is a running salon, or another program that a test started.
type Process struct {
	Args   []string
	cmd    *exec.Cmd
	output *buffer
	done   chan struct{}
	err    error
}

// Start starts the binary with these arguments and environment (added to the test's own). It is killed at the end of
// the test if it still runs; what it printed is shown when the test failed.
func Start(t testing.TB, env []string, args ...string) *Process {
	t.Helper()
	c := exec.Command(Binary(t), args...)
	c.Env = append(os.Environ(), env...)
	return StartCommand(t, c)
}

// StartCommand is Start of a command that the test has made, and whose output it may take itself.
func StartCommand(t testing.TB, c *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Args: c.Args[1:], cmd: c, output: &buffer{}, done: make(chan struct{})}
	if p.cmd.Stdout == nil {
		p.cmd.Stdout = p.output
	}
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = p.output
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s %v: %v", c.Path, p.Args, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of %v:\n%s", p.Args, p.output.tail(8000))
		}
	})
	return p
}

// Output is what the process has printed so far.
func (p *Process) Output() string { return p.output.String() }

// Await waits until the process has printed the text.
func (p *Process) Await(t testing.TB, text string) {
	t.Helper()
	limit := time.After(time.Minute)
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		if strings.Contains(p.output.String(), text) {
			tick.Stop()
			return
		}
		select {
		case <-p.done:
			t.Fatalf("salon %v ended (%v) before it printed %q:\n%s", p.Args, p.err, text, p.output.tail(4000))
		case <-limit:
			t.Fatalf("salon %v did not print %q:\n%s", p.Args, text, p.output.tail(4000))
		case <-tick.C:
		}
	}
}

// Ended tells whether the process runs no more.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// PID is the process's ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill is kill -9, and waits for the end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks it to stop, waits and answers its exit code; after a minute it is killed and the test fails.
func (p *Process) Stop(t testing.TB) int {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.Wait(t, time.Minute)
}

// Wait waits for the process to end by itself and answers its exit code.
func (p *Process) Wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.Kill()
		t.Fatalf("salon %v did not end within %v", p.Args, limit)
		return -1
	}
}

// Ready waits until the process's /readyz answers 200.
func (p *Process) Ready(t testing.TB, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	last := "no answer"
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		select {
		case <-p.done:
			t.Fatalf("salon %v ended (%v) before it was ready:\n%s", p.Args, p.err, p.output.tail(4000))
		case <-ctx.Done():
			t.Fatalf("salon %v is not ready: %s\n%s", p.Args, last, p.output.tail(4000))
		case <-tick.C:
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			last = err.Error()
			continue
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			tick.Stop()
			return
		}
		last = string(b)
	}
}

// buffer is a bytes.Buffer that a process writes and a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) tail(n int) string {
	s := b.String()
	return s[max(0, len(s)-n):]
}
