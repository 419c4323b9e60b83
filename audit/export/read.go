package export

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
)

// File is an export as a history, to be gone through once, in its order.
type File struct {
	Manifest Manifest
	path     string

	nextCommand func() (eventstore.Accepted, error, bool)
	stop        func()
	ahead       *eventstore.Accepted
	last        eventstore.Accepted
}

var _ seal.History = (*File)(nil)

// ErrNotAsManifested says that a file is not the one of which the manifest tells.
var ErrNotAsManifested = errors.New("is not the file of the manifest")

// Open opens an export. Close it.
func Open(path string) (*File, error) {
	m, err := readManifest(path)
	if err != nil {
		return nil, err
	}
	f := &File{Manifest: m, path: path}
	f.nextCommand, f.stop = iter.Pull2(lines(path+ofCommands, parseCommand))
	return f, nil
}

// Close ends the reading.
func (f *File) Close() { f.stop() }

// LoadedBack answers eventstore.LoadedBack.
func (f *File) LoadedBack(context.Context) (time.Duration, error) {
	return time.Duration(f.Manifest.Store.TimesBack) * time.Microsecond, nil
}

// Options are those of a verification of the export.
func (f *File) Options() seal.Options {
	m := f.Manifest
	return seal.Options{
		Dense: m.Store.Dense && !m.Asked.scattered(), Part: !m.Whole, Scattered: m.Asked.scattered(), Behind: m.Behind, SilentBehind: m.SilentBehind,
	}
}

// Verify verifies the export, offline. What the lines say is looked at first, then that the files are those of the manifest.
func (f *File) Verify(ctx context.Context, o seal.Options) (seal.Report, error) {
	r, err := seal.Verify(ctx, f, o)
	if err != nil || r.Finding != nil {
		return r, err
	}
	if r.Events != f.Manifest.Events {
		r.Finding = &seal.Finding{What: seal.Missing, Why: fmt.Sprintf("the manifest tells of %d events, there are %d", f.Manifest.Events, r.Events)}
		return r, nil
	}
	for i, of := range []string{ofEvents, ofCommands, ofSeals} {
		if err := f.sum(i, of); errors.Is(err, ErrNotAsManifested) {
			r.Finding = &seal.Finding{What: seal.Changed, Why: err.Error()}
			break
		} else if err != nil {
			return r, err
		}
	}
	return r, nil
}

// sum holds a file to its SHA-256.
func (f *File) sum(i int, of string) error {
	file, err := os.Open(f.path + of)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return err
	}
	if i >= len(f.Manifest.Files) || hexOf(h.Sum(nil)) != f.Manifest.Files[i].SHA256 {
		return fmt.Errorf("%s %w", f.path+of, ErrNotAsManifested)
	}
	return nil
}

// lines yields what parse makes of each line of a file that ends.
func lines[T any](path string, parse func(line []byte) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		file, err := os.Open(path)
		if err != nil {
			yield(none, err)
			return
		}
		defer file.Close()
		stopped, n := false, 0
		err = eachLine(file, func(line []byte) error {
			n++
			v, err := parse(line)
			if err != nil {
				return fmt.Errorf("%s, line %d: %w", path, n, err)
			}
			if stopped = !yield(v, nil); stopped {
				return io.EOF
			}
			return nil
		})
		if err != nil && !stopped {
			yield(none, err)
		}
	}
}

// ReadAll implements seal.History.
func (f *File) ReadAll(ctx context.Context, after uint64, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range lines(f.path+ofEvents, seal.ParseEvent) {
			if err == nil {
				err = ctx.Err()
			}
			if err == nil && (r.Position <= after || !filter.Matches(r)) {
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// CommandsOf implements seal.History: the commands stand in the order in which they are asked for.
func (f *File) CommandsOf(_ context.Context, ids []uuid.UUID, through uint64) (out []eventstore.Accepted, err error) {
	asked := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	if asked[f.last.ID] {
		out = append(out, f.last) // its events lie in two batches
	}
	for {
		if f.ahead == nil {
			c, err, more := f.nextCommand()
			if err != nil || !more {
				return out, err
			}
			f.ahead = &c
		}
		if c := *f.ahead; c.Silent > 0 || !asked[c.ID] && c.Position > through {
			return out, nil
		}
		f.last, f.ahead = *f.ahead, nil
		out = append(out, f.last)
	}
}

// Silent implements seal.History.
func (f *File) Silent(_ context.Context, after uint64) iter.Seq2[eventstore.Accepted, error] {
	return func(yield func(eventstore.Accepted, error) bool) {
		for c, err := range lines(f.path+ofCommands, parseSilent) {
			if err == nil && c.Silent <= after {
				continue
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// Seals implements seal.History.
func (f *File) Seals(_ context.Context, after uint64) iter.Seq2[eventstore.Seal, error] {
	return lines(f.path+ofSeals, func(line []byte) (eventstore.Seal, error) {
		var s sealed
		if err := json.Unmarshal(line, &s); err != nil {
			return eventstore.Seal{}, fmt.Errorf("not a seal: %w", err)
		}
		return eventstore.Seal{Block: s.Block, Through: s.Through, SilentThrough: s.SilentThrough, Note: []byte(s.Note), Outline: s.Outline}, nil
	})
}

// LastSeal implements seal.History: of the last one, through where it goes.
func (f *File) LastSeal(context.Context) (eventstore.Seal, error) {
	return eventstore.Seal{Block: f.Manifest.Seals, Through: f.Manifest.Sealed}, nil
}
