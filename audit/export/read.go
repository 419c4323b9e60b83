package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
)

// File is an export as a history, to be gone through once, in its order.
type File struct {
	Manifest Manifest
	path     string
	masked   uint64 // events that were read

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
		Masked: m.Masked != nil,
	}
}

// Verify verifies the export, offline. What the events say is looked at first, then that the files are those of the manifest.
func (f *File) Verify(ctx context.Context, o seal.Options) (seal.Report, error) {
	f.masked = 0
	r, err := seal.Verify(ctx, f, o)
	r.Masked = f.masked
	of := f.Manifest
	switch {
	case err == nil && r.Finding != nil, err != nil && !errors.Is(err, errUnreadable):
		return r, err
	case err == nil && r.Events != of.Events:
		r.Finding = &seal.Finding{What: seal.Missing, Why: fmt.Sprintf("the manifest tells of %d events, there are %d", of.Events, r.Events)}
		return r, nil
	case err == nil && of.Masked != nil && r.Masked != of.Masked.Events:
		r.Finding = &seal.Finding{What: seal.Changed, Why: fmt.Sprintf("the manifest tells of %d masked events, there are %d", of.Masked.Events, r.Masked)}
		return r, nil
	}
	sum := f.sums()
	if errors.Is(sum, ErrNotAsManifested) { // which is why it cannot be read
		r.Finding, err, sum = &seal.Finding{What: seal.Changed, Why: sum.Error()}, nil, nil
	}
	return r, errors.Join(err, sum)
}

// files are the paths of what the manifest tells of, in its order.
func (f *File) files() (events []string, others []string) {
	events, others = []string{f.path}, []string{f.path + ofCommands, f.path + ofSeals}
	if f.Manifest.Format == Parquet {
		events = nil
		for n := range max(len(f.Manifest.Files)-len(others), 0) {
			events = append(events, filepath.Join(f.path, partName(n+1)))
		}
	}
	return events, others
}

// sums holds the files to their SHA-256.
func (f *File) sums() error {
	events, others := f.files()
	all := slices.Concat(events, others)
	if len(all) != len(f.Manifest.Files) {
		return fmt.Errorf("%s %w: it tells of %d files", f.path+ofManifest, ErrNotAsManifested, len(f.Manifest.Files))
	}
	for i, path := range all {
		sum, _, err := sumOf(path)
		if err != nil {
			return err
		}
		if sum != f.Manifest.Files[i].SHA256 {
			return fmt.Errorf("%s %w", path, ErrNotAsManifested)
		}
	}
	if f.Manifest.Format != Parquet {
		return nil
	}
	there, err := os.ReadDir(f.path) // what reads the folder reads every file in it
	if err == nil && len(there) != len(events) {
		err = fmt.Errorf("%s %w: there are %d files in it, not %d", f.path, ErrNotAsManifested, len(there), len(events))
	}
	return err
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

// ReadAll implements seal.History. An event whose data was masked comes without it: what stands there was never stored.
func (f *File) ReadAll(ctx context.Context, after uint64, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range f.events() {
			if err == nil {
				err = ctx.Err()
			}
			if e.masked && f.Manifest.Masked != nil {
				e.Data = nil
				f.masked++
			}
			if err == nil && (e.Position <= after || !filter.Matches(e.Recorded)) {
				continue
			}
			if !yield(e.Recorded, err) || err != nil {
				return
			}
		}
	}
}

func (f *File) events() iter.Seq2[event, error] {
	if f.Manifest.Format == Parquet {
		parts, _ := f.files()
		return rowsOf(parts)
	}
	return lines(f.path, parseEvent)
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
