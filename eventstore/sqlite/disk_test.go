package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/eventstore/storetest"
	"github.com/dangdangsalon/salon/internal/harness"
)

// settles settles commands for a while, in a process that the parent's faults reach.
func settles(ctx context.Context, s *sqlite.Store, args []string) error {
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	enough, hit := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var waiting sync.WaitGroup
	waiting.Go(func() {
		defer close(enough)
		least, most := time.After(d), time.After(d+time.Minute)
		<-least
		select {
		case <-hit:
		case <-most: // a disk so slow that too little was flushed until then
		}
	})
	settled, err := storetest.Settle(ctx, []eventstore.Store{s}, 16, enough, func() { once.Do(func() { close(hit) }) })
	waiting.Wait()
	if err == nil && settled.Unavailable+settled.Unknown == 0 {
		err = errors.New("no append was hit: nothing was shown")
	}
	fmt.Fprintf(os.Stderr, "%+v\n", settled)
	return err
}

func TestEveryCommandHasOneEffectWhenTheDiskRefusesToFlush(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("strace is not installed: %v", err)
	}
	path := newFile(t)
	child := storetest.Child(t, "settles", path, storetest.Long(t).String())
	// Of each thread every tenth flush fails.
	child.Path, child.Args = strace, append([]string{strace, "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=10+10"}, child.Args...)
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	whole(t, path)
}

// whole opens the store, which looks at its tail, and reads it all.
func whole(t *testing.T, path string) {
	t.Helper()
	n := uint64(0)
	for r, err := range openAt(t, path).ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if n++; err != nil || r.Position != n || r.Hash != eventstore.ContentHash(r) {
			t.Fatalf("position %d is the %d.: %v", r.Position, n, err)
		}
	}
}

func TestEveryCommandHasOneEffectWhenTheDiskIsFull(t *testing.T) {
	t.Parallel()
	harness.NeedsServers(t)
	disk := harness.SmallDisk(t, 192+48*storetest.Times(t, 1)) // the log, and what more rounds fill for good
	path := filepath.Join(disk, "events.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	enough := make(chan struct{})
	var hurting sync.WaitGroup
	hurting.Go(func() {
		defer close(enough)
		for range storetest.Times(t, 4) {
			<-time.After(time.Duration(50+rand.IntN(100)) * time.Millisecond) //nolint:gosec // a test's dice
			free := fillDisk(t, disk)
			<-time.After(100 * time.Millisecond)
			free()
		}
		<-time.After(50 * time.Millisecond)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	settled, err := storetest.Settle(ctx, []eventstore.Store{s}, 16, enough)
	hurting.Wait()
	t.Logf("%+v", settled)
	if err != nil {
		t.Fatal(err)
	}
	if settled.Unavailable+settled.Unknown == 0 {
		t.Error("the disk was never full: the test has shown nothing")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, path)
}

// fillDisk writes a file until the disk has no room, and answers how to make room again.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Error(err)
		return func() {}
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		switch _, err := f.Write(chunk); {
		case errors.Is(err, syscall.ENOSPC):
			chunk = chunk[:len(chunk)/2]
		case err != nil:
			t.Error(err)
			return func() {}
		}
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

// A rollback by one release must find its store open.
func TestAFileOfANewerReleaseIsUsed(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	edit(t, path, "INSERT INTO events_migrations (version_id, is_applied) VALUES (99, 1); ALTER TABLE events ADD COLUMN newer TEXT")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Errorf("migrate: %v", err)
	}
	s := openAt(t, path)
	if _, err := s.Append(t.Context(), request("stream", "x")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, path)
}
