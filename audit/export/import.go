package export

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
)

// ErrNotWhole says that an export leaves events out: what is imported has to be a history from its beginning on.
var ErrNotWhole = errors.New("the export leaves events out: only one from the first event on, without a filter, can be imported")

// ErrMasked says that an export has not what was stored.
var ErrMasked = errors.New("personal fields of the export are masked: it is not the history that was stored, and cannot be imported")

// Import fills an empty store with the history of an export: the same events in the same order with their hashes and
// times, commands, so that each Idempotency-Key is answered as before, and seals. Whatever is wrong with the export, the
// store stays empty. Read models are rebuilt from it; persons' keys are another file, see [AddKeys].
func Import(ctx context.Context, f *File, into eventstore.Loader, progress func(position uint64)) error {
	if !f.Manifest.Whole {
		return ErrNotWhole
	}
	if f.Manifest.Masked != nil {
		return ErrMasked
	}
	if err := f.sums(); err != nil {
		return err
	}
	return into.Load(ctx, eventstore.Loaded{Events: f.checked(ctx, progress), Commands: lines(f.path+ofCommands, parseCommand), Seals: f.counted(ctx)})
}

// checked yields the events, each held to its hash and its place.
func (f *File) checked(ctx context.Context, progress func(position uint64)) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		check := eventstore.Check{Dense: f.Manifest.Store.Dense, Back: time.Duration(f.Manifest.Store.TimesBack) * time.Microsecond, Whole: true}
		for r, err := range f.ReadAll(ctx, 0, eventstore.Filter{}) {
			if err == nil {
				err = check.Next(r)
			}
			if !yield(r, err) || err != nil {
				return
			}
			if progress != nil && check.Events()%1024 == 0 {
				progress(r.Position)
			}
		}
		if check.Events() != f.Manifest.Events {
			yield(eventstore.Recorded{}, fmt.Errorf("%w: the manifest tells of %d events, there are %d", eventstore.ErrDamaged, f.Manifest.Events, check.Events()))
		}
	}
}

// counted yields the seals as a store takes them over: by how many events and silent commands they go.
func (f *File) counted(ctx context.Context) iter.Seq2[eventstore.Seal, error] {
	return func(yield func(eventstore.Seal, error) bool) {
		var silent uint64
		for s, err := range f.Seals(ctx, 0) {
			var b seal.Body
			if err == nil {
				b, err = seal.ReadNote(s.Note)
			}
			silent += b.Commands.Silent
			s.Through, s.SilentThrough = b.Events.Before+b.Events.Count, silent
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}
