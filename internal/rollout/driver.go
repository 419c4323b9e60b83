package rollout

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Driver is how releases are had and processes are replaced. Everything may be asked for again: after a kill nobody knows how
// far the last call came. dir is the folder of what belongs to the release besides its image.
type Driver interface {
	// Save puts the configuration of a release, as it is now, into dir.
	Save(ctx context.Context, version, dir string) error
	// Check fails when the release cannot be had, or cannot run on the databases as they are. since is when it ran last, the zero
	// time for one that never did.
	Check(ctx context.Context, version, dir string, since time.Time) error
	// Migrate brings the databases up to what the release needs, while the release before runs.
	Migrate(ctx context.Context, version, dir string) error
	// Replace has a node run the release. When it returns, what the node ran before was told to stop, and has ended.
	Replace(ctx context.Context, node, version, dir string) error
	// Address is where a node answers /readyz and /metrics, until it is replaced or does not answer there. ErrEnded says that its
	// process ended by itself. dir is of the release that the node is to run, "" where that is not known.
	Address(ctx context.Context, node, dir string) (url string, err error)
	// Smoke tries the system as a user would, through its front door.
	Smoke(ctx context.Context, version, dir string) error
	// Forget removes what is kept of a release that no rollback will go to any more.
	Forget(ctx context.Context, version, dir string) error
}

// ErrEnded says that a node's process ended by itself.
var ErrEnded = errors.New("ended by itself")

// Command is a driver that is a program of its own, called as
//
//	PROGRAM save|migrate|smoke|forget VERSION
//	PROGRAM check VERSION [SINCE]  for salon migrate check
//	PROGRAM replace NODE VERSION
//	PROGRAM address NODE        prints one URL; exit code 3 is ErrEnded
//
// with ROLLOUT_DIR (versions.env is in it) and, where there is a version or a node has one, RELEASE_DIR in its environment. Exit code 0 is done;
// with any other, the last line that it said is why not. File 3 is the lock of the rollout: whoever was killed with a call under
// way is followed when that call has ended. What outlives a call has to close it.
type Command struct {
	Program string
	Dir     string
	Output  io.Writer // what it says

	lock *os.File
}

// How long a call may take; then it ends with all that it started.
const (
	briefly = 10 * time.Second
	longer  = 2 * time.Minute
	longest = 15 * time.Minute // a migration
)

func (c Command) call(ctx context.Context, limit time.Duration, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Program, args...)
	cmd.Env = append(os.Environ(), "ROLLOUT_DIR="+c.Dir, "RELEASE_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's Ctrl-C is for us; and its children end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a process that it left behind may hold its output
	var out bytes.Buffer
	said := &tail{to: c.Output}
	cmd.Stdout, cmd.Stderr = &out, said
	if c.lock != nil {
		cmd.ExtraFiles = []*os.File{c.lock}
	}
	if args[0] != "address" {
		cmd.Stdout = said
	}
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended well
	}
	switch {
	case err == nil:
		return strings.TrimSpace(out.String()), nil
	case ctx.Err() == context.DeadlineExceeded:
		return "", fmt.Errorf("%s took longer than %v", strings.Join(args, " "), limit)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case args[0] == "address" && cmd.ProcessState.ExitCode() == 3:
		return "", fmt.Errorf("%w: %s", ErrEnded, cmp.Or(said.last, "without a word"))
	case said.last != "":
		return "", fmt.Errorf("%s: %s", strings.Join(args, " "), said.last)
	}
	return "", fmt.Errorf("%s: %w", strings.Join(args, " "), err)
}

// tail hands on what is written and keeps the last line.
type tail struct {
	to   io.Writer
	last string
}

func (t *tail) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" {
			t.last = line[:min(len(line), 500)]
		}
	}
	if t.to == nil {
		return len(b), nil
	}
	return t.to.Write(b)
}

// Save calls save.
func (c Command) Save(ctx context.Context, version, dir string) error {
	_, err := c.call(ctx, longer, dir, "save", version)
	return err
}

// Check calls check.
func (c Command) Check(ctx context.Context, version, dir string, since time.Time) error {
	args := []string{"check", version}
	if !since.IsZero() {
		args = append(args, since.Format(time.RFC3339))
	}
	_, err := c.call(ctx, longest, dir, args...)
	return err
}

// Migrate calls migrate.
func (c Command) Migrate(ctx context.Context, version, dir string) error {
	_, err := c.call(ctx, longest, dir, "migrate", version)
	return err
}

// Replace calls replace.
func (c Command) Replace(ctx context.Context, node, version, dir string) error {
	_, err := c.call(ctx, longer, dir, "replace", node, version)
	return err
}

// Address calls address.
func (c Command) Address(ctx context.Context, node, dir string) (string, error) {
	return c.call(ctx, briefly, dir, "address", node)
}

// Smoke calls smoke.
func (c Command) Smoke(ctx context.Context, version, dir string) error {
	_, err := c.call(ctx, longer, dir, "smoke", version)
	return err
}

// Forget calls forget.
func (c Command) Forget(ctx context.Context, version, dir string) error {
	_, err := c.call(ctx, longer, dir, "forget", version)
	return err
}

// holding is the same driver, whose calls hold the lock, too.
func (c Command) holding(lock *os.File) Driver {
	c.lock = lock
	return c
}

// Find makes the program's path one that does not depend on where it is called from.
func (c Command) Find() (Command, error) {
	path, err := exec.LookPath(c.Program)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	c.Program = path
	return c, err
}
