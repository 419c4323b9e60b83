package seal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"github.com/dangdangsalon/salon/eventstore"
)

// Every is how often Run seals.
const Every = time.Minute

// Store is what is sealed and where the seals are kept.
type Store interface {
	eventstore.Store
	eventstore.Ledger
}

// Head is where the heads of seals go besides the store: whoever can change that one and sign should not reach this one.
// Of a seal it has the block and the note.
type Head interface {
	// Last is the last seal that it has; its block is 0 when there is none.
	Last(ctx context.Context) (eventstore.Seal, error)
	// Keep takes the seals behind the last one, in their order. When it returns nil, they are there for good.
	Keep(ctx context.Context, seals iter.Seq2[eventstore.Seal, error]) error
}

// ErrElsewhere says that the seals kept elsewhere are not those of the store: it was restored, or changed.
var ErrElsewhere = errors.New("the store was restored or changed, see salon events verify with --seal-file or --kafka")

// Sealer makes seals. Any number of them over one store does no harm: the store takes each block once.
type Sealer struct {
	Store Store
	Key   Key
	Dense bool // the store promises it: then a hole is not sealed
	Heads []Head
	Log   *slog.Logger
	Now   func() time.Time // defaults to time.Now
	// Most bounds a block. Defaults to MostEvents; tests take less.
	Most int

	one sync.Mutex // of this process's calls at a time
}

// Run seals what is new, each minute, until ctx ends. What fails is said, and tried again.
func (s *Sealer) Run(ctx context.Context) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select { // a start has other things to do first
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := s.Seal(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "not sealed", "error", err)
		}
	}
}

// Seal seals every event that is there now, and answers the seals that it made. Heads that cannot be reached do not keep a
// history from being sealed: they get what they lack by the next call, and this one says that it failed. Heads of another
// history do.
func (s *Sealer) Seal(ctx context.Context) (made []Body, err error) {
	s.one.Lock()
	defer s.one.Unlock()
	kept := s.catchUp(ctx)
	if errors.Is(kept, ErrElsewhere) {
		return nil, kept
	}
	made, err = s.seal(ctx)
	if len(made) > 0 && kept == nil {
		kept = s.catchUp(ctx)
	}
	return made, errors.Join(err, kept)
}

func (s *Sealer) seal(ctx context.Context) (made []Body, err error) {
	for {
		last, err := s.Store.LastSeal(ctx)
		if err != nil {
			return made, err
		}
		b, next, err := s.block(ctx, last)
		if err != nil || b.Events.Count == 0 {
			return made, err
		}
		err = s.Store.AddSeal(ctx, next)
		if errors.Is(err, eventstore.ErrSealed) {
			continue // another one was first: on behind it
		}
		if err != nil {
			return made, err
		}
		made = append(made, b)
	}
}

// catchUp gives the heads what they lack: the seals just made, those of other sealers, and those behind which this one died.
func (s *Sealer) catchUp(ctx context.Context) error {
	var failed []error
	for _, h := range s.Heads {
		if err := s.keep(ctx, h); err != nil {
			failed = append(failed, fmt.Errorf("keep the heads of seals elsewhere: %w", err))
		}
	}
	return errors.Join(failed...)
}

// keep holds the last seal elsewhere to the store's, and has those behind it kept there.
func (s *Sealer) keep(ctx context.Context, h Head) error {
	last, err := h.Last(ctx)
	if err != nil {
		return err
	}
	end, err := s.Store.LastSeal(ctx) // behind the look elsewhere: another sealer may be making seals
	if err != nil {
		return err
	}
	if last.Block > end.Block {
		return fmt.Errorf("the store ends at seal %d, elsewhere there is seal %d: %w", end.Block, last.Block, ErrElsewhere)
	}
	return h.Keep(ctx, func(yield func(eventstore.Seal, error) bool) {
		for seal, err := range s.Store.Seals(ctx, max(last.Block, 1)-1) {
			if err == nil && seal.Block == last.Block {
				if bytes.Equal(seal.Note, last.Note) {
					continue
				}
				err = fmt.Errorf("elsewhere there is another seal %d than in the store: %w", seal.Block, ErrElsewhere)
			}
			if !yield(seal, err) || err != nil {
				return
			}
		}
	})
}

// block makes the seal behind the last one, signed. Its count is 0 when there is nothing to seal.
func (s *Sealer) block(ctx context.Context, last eventstore.Seal) (Body, eventstore.Seal, error) {
	var b Body
	if last.Block > 0 {
		before, err := read(last.Note, note.VerifierList())
		if err != nil {
			return b, last, fmt.Errorf("seal %d: %w", last.Block, err)
		}
		b.Previous, b.Events.Before = textHash(before.text), before.Events.Before+before.Events.Count
	}
	next := eventstore.Seal{Block: last.Block + 1, Through: last.Through, SilentThrough: last.SilentThrough}
	b.Block = next.Block
	events, err := s.events(ctx, &b, &next)
	if err != nil || b.Events.Count == 0 {
		return b, next, err
	}
	commands, err := s.commands(ctx, &b, &next, events.commands)
	if err != nil {
		return b, next, err
	}
	b.Events.Root, b.Commands.Root = events.root(), commands.root()
	next.Outline = append(events.outline, commands.outline...)
	b.Outline = sha256.Sum256(next.Outline)
	head, err := s.Store.Head(ctx)
	if err != nil {
		return b, next, err
	}
	b.Incarnation = head.Incarnation
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	b.At = eventstore.Micros(now())
	text, err := b.text()
	if err == nil {
		next.Note, err = note.Sign(&note.Note{Text: text}, s.Key.signer)
	}
	if err != nil {
		return b, next, fmt.Errorf("sign seal %d: %w", b.Block, err)
	}
	return b, next, nil
}

type eventTree struct {
	tree
	commands []uuid.UUID // of the events, in their order
}

// events takes the next events into the block. What is damaged is not sealed: a seal must not vouch for it.
func (s *Sealer) events(ctx context.Context, b *Body, next *eventstore.Seal) (t eventTree, err error) {
	most := s.Most
	if most == 0 {
		most = MostEvents
	}
	back, err := eventstore.LoadedBack(ctx, s.Store)
	if err != nil {
		return t, err
	}
	check := eventstore.Check{Dense: s.Dense, Back: back, Whole: next.Block == 1}
	var runs Runs
	for r, err := range s.Store.ReadAll(ctx, next.Through, eventstore.Filter{}) {
		if err != nil {
			return t, err
		}
		if s.Dense && check.Events() == 0 && r.Position != next.Through+1 {
			return t, fmt.Errorf("%w: position %d is followed by %d", eventstore.ErrDamaged, next.Through, r.Position)
		}
		if err := check.Next(r); err != nil {
			return t, err
		}
		if t.leaves == 0 {
			b.Events.From = r.Position
		}
		t.add(r.Hash)
		if id := CommandOf(r); runs.Next(id) {
			t.commands = append(t.commands, id)
		}
		b.Events.To = r.Position
		if t.leaves == int64(most) {
			break
		}
	}
	b.Events.Count = uint64(t.leaves) //nolint:gosec // a count
	next.Through = b.Events.To
	return t, nil
}

// Runs finds where the events of one command follow those of another. A block's commands are those of its runs: one whose
// events lie in two blocks is sealed in both.
type Runs struct{ last uuid.UUID }

// Next takes the command of the next event, the zero one of an event that names none, and tells whether a run begins with it.
func (c *Runs) Next(id uuid.UUID) (begins bool) {
	begins = id != uuid.Nil && id != c.last
	c.last = id
	return begins
}

// commands takes the commands into the block: those of its events that the store remembers, then the silent ones.
func (s *Sealer) commands(ctx context.Context, b *Body, next *eventstore.Seal, ids []uuid.UUID) (t tree, err error) {
	found := map[uuid.UUID]eventstore.Command{}
	for rest := ids; len(rest) > 0; {
		some := rest[:min(len(rest), lookup)]
		rest = rest[len(some):]
		all, err := s.Store.CommandsOf(ctx, some, b.Events.To)
		if err != nil {
			return t, err
		}
		for _, c := range all {
			found[c.ID] = c.Command
		}
	}
	for _, id := range ids {
		if c, ok := found[id]; ok {
			t.add(eventstore.CommandHash(c))
		}
	}
	for c, err := range s.Store.Silent(ctx, next.SilentThrough) {
		if err != nil {
			return t, err
		}
		if c.Stream == "" {
			return t, fmt.Errorf("%w: command %s, the %d. without events, is gone", eventstore.ErrDamaged, c.ID, c.Silent)
		}
		t.add(eventstore.CommandHash(c.Command))
		next.SilentThrough = c.Silent
		if b.Commands.Silent++; b.Commands.Silent == MostEvents {
			break // the next block takes the rest
		}
	}
	b.Commands.Count = uint64(t.leaves) //nolint:gosec // a count
	return t, nil
}

// lookup is how many commands are asked for at once.
const lookup = 2048
