package harness

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// own is a server process of the test's own: it can be killed, frozen and started again, and outlives no test.
type own struct {
	name    string
	log     *buffer
	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
}

// begin starts the process and gathers what it says.
func (o *own) begin(t testing.TB, c *exec.Cmd) {
	t.Helper()
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL // a server outlives no test, also when the test process is killed
	c.Stdout, c.Stderr = o.log, o.log
	if err := c.Start(); err != nil {
		t.Fatalf("start %s: %v", o.name, err)
	}
	ended := make(chan struct{})
	o.process, o.ended = c, ended
	go func() {
		_ = c.Wait()
		close(ended)
	}()
}

// await asks until ready answers nil.
func (o *own) await(t testing.TB, ready func() error) {
	t.Helper()
	limit := time.After(3 * time.Minute) // of a machine whose cores others have
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-o.ended:
			t.Fatalf("%s ended before it was ready:\n%s", o.name, o.log.tail(4000))
		case <-limit:
			t.Fatalf("%s is not ready: %v\n%s", o.name, err, o.log.tail(4000))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill is kill -9, also of a frozen server, and waits for the end.
func (o *own) Kill() {
	if o.process == nil {
		return
	}
	_ = o.process.Process.Kill()
	<-o.ended
}

// Freeze stops the server where it stands (SIGSTOP): its connections stand, and nothing answers.
func (o *own) Freeze() { _ = o.process.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (o *own) Thaw() { _ = o.process.Process.Signal(syscall.SIGCONT) }

// Ended tells whether the server runs no more.
func (o *own) Ended() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

// Log is what the server has said.
func (o *own) Log() string { return o.log.String() }

// cleanup ends the server with the test, and shows what it said when the test failed.
func (o *own) cleanup(t testing.TB) {
	t.Cleanup(func() {
		o.Kill()
		if t.Failed() {
			t.Logf("%s:\n%s", o.name, o.log.tail(3000))
		}
	})
}
