package sqlite

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A process that is being started has a copy of the lock's file for a moment: whoever gives the lock back must not leave it there.
func TestALockEndsWithItsOwnerAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	l, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := syscall.Dup(int(l.file.Fd())) //nolint:gosec // a file descriptor fits an int
	if err != nil {
		t.Fatal(err)
	}
	defer os.NewFile(uintptr(copied), "copy").Close() //nolint:gosec // not negative
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	again, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := again.release(); err != nil {
			t.Error(err)
		}
	}
}
