package seal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"sync"

	"github.com/dangdangsalon/salon/eventstore"
)

// HeadFile keeps the heads of seals in a file, one JSON line each, flushed to its disk: on another machine's disk, or one
// that only takes more. It is for one sealer; each may have its own.
type HeadFile struct {
	Path string

	mu     sync.Mutex
	looked bool
	last   head
}

// head is a line of the file.
type head struct {
	Block uint64 `json:"block"`
	Note  string `json:"note"`
}

// Last implements Head.
func (f *HeadFile) Last(context.Context) (eventstore.Seal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.look()
	return eventstore.Seal{Block: f.last.Block, Note: []byte(f.last.Note)}, err
}

// look finds the last line. What a crash left of one is cut off: the seal is in the store, and comes again.
func (f *HeadFile) look() error {
	if f.looked {
		return nil
	}
	heads, whole, err := readHeads(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		f.looked = true
		return nil
	}
	if err == nil {
		err = os.Truncate(f.Path, whole)
	}
	if err != nil {
		return fmt.Errorf("file of seals: %w", err)
	}
	if len(heads) > 0 {
		f.last = heads[len(heads)-1]
	}
	f.looked = true
	return nil
}

// Keep implements Head.
func (f *HeadFile) Keep(_ context.Context, seals iter.Seq2[eventstore.Seal, error]) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.look(); err != nil {
		return err
	}
	var lines []byte
	last := f.last
	for s, err := range seals {
		if err != nil {
			return err
		}
		if s.Block <= last.Block {
			continue // another call of this process was faster
		}
		last = head{s.Block, string(s.Note)}
		line, err := json.Marshal(last)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if len(lines) == 0 {
		return nil
	}
	out, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644) //nolint:gosec // nothing in it is secret
	if err != nil {
		return fmt.Errorf("file of seals: %w", err)
	}
	_, err = out.Write(lines)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		f.looked = false // it may end in a part of a line
		return fmt.Errorf("file of seals: %w", err)
	}
	f.last = last
	return nil
}

// ReadHeads reads a file of heads: the note of each block.
func ReadHeads(path string) (map[uint64]string, error) {
	heads, _, err := readHeads(path)
	if err != nil {
		return nil, fmt.Errorf("file of seals: %w", err)
	}
	notes := map[uint64]string{}
	for _, h := range heads {
		notes[h.Block] = h.Note
	}
	return notes, nil
}

// readHeads reads the lines, and how long the file is up to the end of the last whole one.
func readHeads(path string) (heads []head, whole int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	for in := bufio.NewReaderSize(file, 64<<10); ; {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return heads, whole, nil
		}
		if err != nil {
			return nil, 0, err
		}
		var h head
		if err := json.Unmarshal(bytes.TrimSpace(line), &h); err != nil {
			return nil, 0, fmt.Errorf("%s, line %d: %w", path, len(heads)+1, err)
		}
		heads, whole = append(heads, h), whole+int64(len(line))
	}
}
