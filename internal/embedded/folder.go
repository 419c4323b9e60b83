package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Folder is a data folder that this process owns until Close.
type Folder struct {
	Path string
	lock *os.File
}

// OwnedError says that another process has the folder.
type OwnedError struct {
	Path string
	PID  int // 0 when the owner has not written it yet
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("data folder %s is in use by process %d: stop it, or give another folder with --data", e.Path, e.PID)
}

// Open makes the folder if needed and takes its lock. The lock is the kernel's: it ends with the process, however the
// process ends.
func Open(path string) (*Folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, "salon.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data folder's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a file descriptor fits an int
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the data folder: %w", err)
		}
		b, _ := io.ReadAll(f)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return nil, &OwnedError{path, pid}
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the data folder's lock: %w", err)
	}
	return &Folder{path, f}, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// File is the path of a file in the folder.
func (f *Folder) File(name string) string { return filepath.Join(f.Path, name) }

// Sync makes lasting which files the folder has.
func (f *Folder) Sync() error {
	d, err := os.Open(f.Path)
	if err != nil {
		return fmt.Errorf("sync the data folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close gives the folder back. To close the lock's file alone would leave the lock with a process that is being started at this
// very moment: it has a copy of every open file until it becomes another program.
func (f *Folder) Close() error {
	return errors.Join(syscall.Flock(int(f.lock.Fd()), syscall.LOCK_UN), f.lock.Close()) //nolint:gosec // a file descriptor fits an int
}
