package export

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
)

// Source is what is exported.
type Source interface {
	seal.History
	Head(ctx context.Context) (eventstore.Head, error)
	PersonKeys(ctx context.Context) iter.Seq2[eventstore.PersonKey, error]
}

// Order is one export.
type Order struct {
	Path  string
	Asked Asked
	Keys  string // file of persons' keys, which is another one; "": none
	Kind  string // of the store
	Dense bool

	Format string // JSONL, Parquet. Defaults to JSONL
	// Rules, when there are any, are a file of Rules as it stands, MaskKey the key of their hashes; Texts opens what they need.
	Rules   []byte
	MaskKey []byte
	Texts   Texts `json:"-"`
	// PartEvents bounds a Parquet file. Defaults to 262,144; tests take less.
	PartEvents int
	// Progress, when set, is told now and then at which position the export is.
	Progress func(position uint64) `json:"-"`
}

// ErrThere says that an export is not written over what is there.
var ErrThere = errors.New("is there already, and is not written over")

// Write makes an export, or goes on with one that was interrupted.
func Write(ctx context.Context, from Source, o Order) (m Manifest, err error) {
	if _, err := os.Stat(o.Path + ofManifest); !errors.Is(err, fs.ErrNotExist) {
		return m, errors.Join(fmt.Errorf("%s %w", o.Path+ofManifest, ErrThere), err)
	}
	o.Format = cmp.Or(o.Format, JSONL)
	mask, err := o.mask()
	if err != nil {
		return m, err
	}
	if err := o.rename(); err != nil {
		return m, err
	}
	if m, err = begin(ctx, from, o, mask); err != nil {
		return m, err
	}
	w := &writer{Order: o, m: &m, masking: mask}
	if err := w.open(); err != nil {
		return m, err
	}
	defer w.close()
	if err := w.run(ctx, from); err != nil {
		return m, err
	}
	if o.Keys != "" { // last, so that each that an event needs is there
		if m.PersonKeys, err = WriteKeys(o.Keys, from.PersonKeys(ctx)); err != nil {
			return m, err
		}
	}
	return m, w.finish()
}

// rename makes parts again of files that had got their names when an export was interrupted before its manifest had.
func (o Order) rename() error {
	_, err := os.Stat(o.Path + ofManifest + unfinished)
	begun := err == nil
	for _, of := range []string{ofEvents, ofCommands, ofSeals} {
		_, err := os.Stat(o.Path + of)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !begun:
			return fmt.Errorf("%s %w", o.Path+of, ErrThere)
		default:
			if err := os.Rename(o.Path+of, o.Path+of+unfinished); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin says what the export is: what it was begun as, or what is asked for now.
func begin(ctx context.Context, from Source, o Order, mask *mask) (m Manifest, err error) {
	head, err := from.Head(ctx)
	if err != nil {
		return m, err
	}
	asked := o.Asked
	asked.From = max(asked.From, 1)
	if asked.To == 0 || asked.To > head.Position {
		asked.To = head.Position
	}
	back, err := eventstore.LoadedBack(ctx, from)
	if err != nil {
		return m, err
	}
	m = Manifest{Version: 1, Format: o.Format, Masked: mask.manifest(), At: time.Now().UTC(), Store: Store{o.Kind, head.Incarnation, o.Dense, back.Microseconds()}, Asked: asked, Files: []Part{}}
	m.Whole = asked.From == 1 && !asked.scattered()
	path := o.Path + ofManifest + unfinished
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, place(path, m)
	}
	if err != nil {
		return m, err
	}
	var before Manifest
	if err := json.Unmarshal(b, &before); err != nil {
		return m, fmt.Errorf("read %s: %w", path, err)
	}
	if o.Asked.To == 0 {
		asked.To = before.Asked.To // it ends where the store did when it began
	}
	if before.Store != m.Store || before.Format != m.Format || !reflect.DeepEqual(before.Masked, m.Masked) || !reflect.DeepEqual(before.Asked, asked) {
		return m, fmt.Errorf("%s*%s are of another export that was interrupted: go on with that one, or remove them", o.Path, unfinished)
	}
	return before, nil
}

type writer struct {
	Order
	m          *Manifest
	masking    *mask // nil: nothing is masked
	events     sink
	commands   *out
	runs       seal.Runs
	lastSilent uint64 // number of the last command without events that a seal covers
}

// sink is where events go, in one of the formats.
type sink interface {
	// prepare makes of events what write takes. It is called for several batches at once.
	prepare(events []event) any
	write(prepared any) error
	done(name string) ([]Part, error)
	close() error
}

// event is one as it goes into an export, or comes from one.
type event struct {
	eventstore.Recorded

	masked bool      // its data is not what was stored
	of     uuid.UUID // of one that is written: the command that it names
}

// made is what is prepared of a batch.
type made struct {
	events   []event
	prepared any
	err      error
}

// open cuts what is there to the last whole event, and to the commands up to it.
func (w *writer) open() (err error) {
	if w.Format == Parquet {
		w.events, err = openColumns(w.Path+unfinished, w.PartEvents, w.count, func() error { return w.commands.sync() })
	} else {
		w.events, err = openLines(w.Path+unfinished, w.count)
	}
	if err != nil {
		return err
	}
	w.commands, err = grow(w.Path+ofCommands+unfinished, func(line []byte) bool {
		c, err := parseCommand(line)
		keep := err == nil && c.Silent == 0 && c.Position <= w.m.Last
		if keep {
			w.m.Commands++
		}
		return keep
	})
	return err
}

func (w *writer) count(e event) {
	if w.m.Events == 0 {
		w.m.First = e.Position
	}
	w.m.Events, w.m.Last = w.m.Events+1, e.Position
	if e.masked {
		w.m.Masked.Events++
	}
}

// close leaves what is written to the next export when this one was interrupted.
func (w *writer) close() {
	if w.events != nil {
		_ = w.events.close()
	}
	if w.commands != nil {
		_ = w.commands.file.Close()
	}
}

func (w *writer) run(ctx context.Context, from Source) error {
	a := w.m.Asked
	walk := seal.Walk{
		After: max(a.From-1, w.m.Last), To: a.To, Commands: math.MaxUint64,
		Filter:  eventstore.Filter{StreamPrefix: a.Stream, Key: a.Key, Types: a.Types},
		Prepare: func(b *seal.Batch) { b.Made = w.prepare(ctx, b) },
		Take:    w.take,
	}
	if walk.After < a.To {
		if err := walk.Run(ctx, from); err != nil {
			return err
		}
	}
	if err := w.seals(ctx, from); err != nil {
		return err
	}
	return w.silent(ctx, from)
}

func (w *writer) prepare(ctx context.Context, b *seal.Batch) (m made) {
	m.events = make([]event, 0, len(b.Events))
	for i, r := range b.Events {
		if w.m.Asked.Stream != "" && w.m.Asked.Stream != r.Stream {
			continue // the filter is by the beginning of a name
		}
		e, err := w.masking.event(ctx, r)
		if err != nil {
			m.err = err
			return m
		}
		e.of = b.Of[i]
		m.events = append(m.events, e)
	}
	m.prepared = w.events.prepare(m.events)
	return m
}

// take writes the commands before the events: what the last whole event lacks of them is never lost.
func (w *writer) take(b *seal.Batch) (err error) {
	m := b.Made.(made)
	if m.err != nil {
		return m.err
	}
	var lines []byte
	for _, e := range m.events {
		w.count(e)
		if c, there := b.Commands[e.of]; w.runs.Next(e.of) && there {
			lines = appendCommand(lines, w.masking.command(c))
			w.m.Commands++
		}
	}
	if err := w.commands.write(lines); err != nil {
		return err
	}
	if err := w.commands.flush(); err != nil {
		return err
	}
	if err := w.events.write(m.prepared); err != nil {
		return err
	}
	if w.Progress != nil && len(b.Events) > 0 {
		w.Progress(b.Events[len(b.Events)-1].Position)
	}
	return nil
}

// seals writes those whose blocks lie in the export as a whole.
func (w *writer) seals(ctx context.Context, from Source) error {
	_ = os.Remove(w.Path + ofSeals + unfinished) // of an interrupted one: it is made anew
	o, err := grow(w.Path+ofSeals+unfinished, func([]byte) bool { return false })
	if err != nil {
		return err
	}
	defer o.file.Close()
	if !w.m.Asked.scattered() {
		if err := w.eachSeal(ctx, from, o); err != nil {
			return err
		}
	}
	part, err := o.done(filepath.Base(w.Path) + ofSeals)
	w.m.Files = []Part{part}
	return err
}

func (w *writer) eachSeal(ctx context.Context, from Source, o *out) error {
	var behind, silentBehind uint64
	w.m.Sealed, w.m.Seals = 0, 0
	for s, err := range from.Seals(ctx, 0) {
		if err != nil {
			return err
		}
		if s.Through > w.m.Asked.To {
			break
		}
		if behind+1 >= w.m.Asked.From {
			if w.m.Seals == 0 {
				w.m.Behind, w.m.SilentBehind = behind, silentBehind
			}
			line, err := json.Marshal(sealed{s.Block, s.Through, s.SilentThrough, string(s.Note), s.Outline})
			if err == nil {
				err = o.write(append(line, '\n'))
			}
			if err != nil {
				return err
			}
			w.m.Seals, w.m.Sealed = w.m.Seals+1, s.Through
		}
		behind, silentBehind = s.Through, s.SilentThrough
	}
	w.lastSilent = silentBehind
	return nil
}

// silent writes the commands without events: of a whole history, all that the events lead to; of a part, those of its seals.
func (w *writer) silent(ctx context.Context, from Source) error {
	w.m.Silent = 0
	if w.m.Asked.scattered() || !w.m.Whole && w.m.Seals == 0 {
		return nil
	}
	for c, err := range from.Silent(ctx, w.m.SilentBehind) {
		if err != nil {
			return err
		}
		if c.Silent > w.lastSilent && (!w.m.Whole || c.Position > w.m.Asked.To) {
			continue
		}
		if err := w.commands.write(appendCommand(nil, w.masking.command(c))); err != nil {
			return err
		}
		w.m.Commands, w.m.Silent = w.m.Commands+1, w.m.Silent+1
	}
	return nil
}

// finish gives the files their names, the manifest last.
func (w *writer) finish() error {
	events, err := w.events.done(filepath.Base(w.Path))
	if err != nil {
		return err
	}
	commands, err := w.commands.done(filepath.Base(w.Path) + ofCommands)
	if err != nil {
		return err
	}
	w.m.Files = slices.Concat(events, []Part{commands}, w.m.Files)
	w.m.At = time.Now().UTC()
	for _, of := range []string{ofSeals, ofCommands, ofEvents} {
		if err := os.Rename(w.Path+of+unfinished, w.Path+of); err != nil {
			return err
		}
	}
	if err := place(w.Path+ofManifest, w.m); err != nil {
		return err
	}
	return errors.Join(os.Remove(w.Path+ofManifest+unfinished), syncDir(w.Path))
}
