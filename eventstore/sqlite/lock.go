package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// LockedError says that another process has the store.
type LockedError struct {
	Path string
	PID  int // 0 when the owner has not written it yet
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("event store %s is in use by process %d", e.Path, e.PID)
}

// lock is the kernel's lock on FILE.lock: it ends with the process, however that ends.
type lock struct{ file *os.File }

func takeLock(path string) (*lock, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the event store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a file descriptor fits an int
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the event store: %w", err)
		}
		b, _ := io.ReadAll(f)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return nil, &LockedError{path, pid}
	}
	l := &lock{f}
	if err := errors.Join(f.Truncate(0), l.write()); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the event store: %w", err), l.release())
	}
	return l, nil
}

func (l *lock) write() error {
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// release may be called again. To close the file alone would leave the lock with a process that is being started at this very
// moment: it has a copy of every open file until it becomes another program.
func (l *lock) release() error {
	_ = syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN) //nolint:gosec // a file descriptor fits an int; of a closed one, nothing is locked
	if err := l.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
