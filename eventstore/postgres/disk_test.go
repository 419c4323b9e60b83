package postgres_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/internal/harness"
)

// fill writes a file until the disk has no room, and answers how to make room again.
func fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); err == nil && len(chunk) > 0; chunk = chunk[:len(chunk)/2] {
		for err == nil {
			_, err = f.Write(chunk)
		}
		if errors.Is(err, syscall.ENOSPC) {
			err = nil
		}
	}
	if err != nil {
		t.Error(err)
	}
	return func() {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

// PostgreSQL answers with an error when a table cannot grow, and gives up when its log cannot: what was acknowledged is
// there either way, and appends go on by themselves when there is room again and a server.
func TestEveryCommandHasOneEffectWhenTheDiskIsFull(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	disk := harness.SmallDisk(t, 96)
	server := harness.NewPostgresIn(t, disk, "min_wal_size=8MB", "max_wal_size=16MB")
	url := ownStore(t, server)
	s := settled(t, url, func(ctx context.Context) {
		for range storetest.Times(t, 2) {
			storetest.Underway(ctx)
			free := fill(t, disk)
			// Long enough to fail with what is left in the tables' last pages and the log's files, and to be tried again.
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			free()
			if server.Ended() { // it could not even recover
				server.Start(t)
			}
		}
		storetest.Underway(ctx)
	})
	if s.Unavailable+s.Unknown == 0 || !strings.Contains(server.Log(), "No space left on device") {
		t.Error("the disk was never full: the test has shown nothing")
	}
}

// A flush that the disk refuses makes PostgreSQL give up and recover: whether a commit is there, nobody knows before.
func TestEveryCommandHasOneEffectWhenTheDiskRefusesToFlush(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("strace is not installed: %v", err)
	}
	server := harness.NewPostgres(t)
	url := ownStore(t, server)
	server.Kill(t)
	// Of each process every fortieth flush of the log fails; the process is gone then, so its successor counts anew.
	server.Under = []string{strace, "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=40+40"}
	server.Start(t)
	s := settled(t, url, func(ctx context.Context) {
		for panics := 0; panics < storetest.Times(t, 2); panics = strings.Count(server.Log(), "PANIC:") {
			storetest.Underway(ctx)
			if ctx.Err() != nil {
				return
			}
			if server.Ended() {
				server.Start(t)
			}
		}
	})
	if s.Unknown == 0 {
		t.Error("no append was hit: the test has shown nothing")
	}
}
