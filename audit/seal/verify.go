package seal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/dangdangsalon/salon/eventstore"
)

// History is what is verified: a store, or an export of one.
type History interface {
	ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error]
	CommandsOf(ctx context.Context, ids []uuid.UUID, through uint64) ([]eventstore.Accepted, error)
	Silent(ctx context.Context, after uint64) iter.Seq2[eventstore.Accepted, error]
	Seals(ctx context.Context, after uint64) iter.Seq2[eventstore.Seal, error]
	LastSeal(ctx context.Context) (eventstore.Seal, error)
}

// Options of a verification.
type Options struct {
	// Dense: the history promises positions without holes, and times that never go back, or as far as it says (eventstore.LoadedBack).
	Dense bool
	// From and To bound what is looked at, in positions, both inclusive; 0 is the end. A range is widened to whole blocks,
	// as far as there are seals.
	From, To uint64
	// Known are the keys whose seals are believed. Nil: signatures are not looked at, and the report says so.
	Known note.Verifiers
	// Elsewhere are the notes of seals that were kept elsewhere, by block.
	Elsewhere map[uint64]string
	// Part says that the history is a part of one, with the seals of the blocks that lie in it as a whole: the first one
	// begins behind the position Behind, and behind the number SilentBehind.
	Part                 bool
	Behind, SilentBehind uint64
	// Masked says that events may come without their data: then that they have their hash cannot be told, and is believed. A
	// seal shows that the hash is the one that was stored at this place.
	Masked bool
	// Scattered says that events between are left out.
	Scattered bool
	// Progress, when set, is told now and then at which position the verification is.
	Progress func(position uint64)
}

// Report is what a verification saw. Of a history that is not what was sealed it tells the first thing that is wrong.
type Report struct {
	Events   uint64     `json:"events"`
	From     uint64     `json:"from"` // position of the first event looked at
	To       uint64     `json:"to"`
	Commands uint64     `json:"commands"` // held to seals
	Seals    uint64     `json:"seals"`
	Compared uint64     `json:"seals_compared"`   // with heads that were kept elsewhere
	Sealed   uint64     `json:"sealed"`           // position of the last event that a seal covers
	Unsealed uint64     `json:"unsealed"`         // events behind it: known by their own hashes alone
	Masked   uint64     `json:"masked,omitempty"` // events of which the hash alone is known, not that it is of what the export says
	SealedAt *time.Time `json:"sealed_at,omitempty"`
	SignedBy []string   `json:"signed_by,omitempty"`
	Checked  bool       `json:"signatures_checked"`
	Finding  *Finding   `json:"finding"` // null: nothing is wrong
}

// Finding is the first thing that is not what it was.
type Finding struct {
	What     string `json:"what"` // changed, missing, added, moved, seal_changed, seal_missing, seal_foreign, command_…
	Position uint64 `json:"position,omitempty"`
	Stream   string `json:"stream,omitempty"`
	Revision *int64 `json:"revision,omitempty"`
	EventID  string `json:"event_id,omitempty"`
	Command  string `json:"command_id,omitempty"`
	Block    uint64 `json:"block,omitempty"` // of the seal that shows it, or that is meant
	Why      string `json:"why"`
}

// Whats of a finding.
const (
	Changed        = "changed"
	Missing        = "missing"
	Added          = "added"
	Moved          = "moved"
	CommandChanged = "command_changed"
	CommandMissing = "command_missing"
	CommandAdded   = "command_added"
	SealChanged    = "seal_changed"
	SealMissing    = "seal_missing"
	SealForeign    = "seal_foreign" // signed by a key that is not known
)

func (f *Finding) Error() string {
	at := ""
	switch {
	case f.What == Missing && f.Stream != "":
		at = fmt.Sprintf("the event %s@%d, at position %d, is missing: ", f.Stream, *f.Revision, f.Position)
	case f.Stream != "":
		at = fmt.Sprintf("the event at position %d (%s@%d, %s) is %s: ", f.Position, f.Stream, *f.Revision, f.EventID, f.What)
	case f.Position > 0:
		at = fmt.Sprintf("position %d is %s: ", f.Position, f.What)
	case f.Command != "":
		at = fmt.Sprintf("command %s: ", f.Command)
	}
	return at + f.Why
}

// of names an event in a finding.
func (f *Finding) of(r place) *Finding {
	revision := int64(r.revision)
	f.Position, f.Stream, f.Revision, f.EventID = r.position, r.stream, &revision, r.id.String()
	return f
}

// Verify holds a history to what it says of itself, and to its seals. The error is of the reading: what is wrong with the
// history is in the report. It takes about a hundred bytes of memory a stream, and two blocks.
func Verify(ctx context.Context, h History, o Options) (Report, error) {
	chain := newChain(ctx, h, o)
	defer chain.stop()
	v := &verifier{o: o, chain: chain, ends: map[string]eventstore.Revision{}}
	v.report.Checked = o.Known != nil
	err := v.run(ctx, h)
	var found *Finding
	if errors.As(err, &found) {
		v.report.Finding, err = found, nil
	}
	chain.tell(&v.report)
	return v.report, err
}

func (v *verifier) run(ctx context.Context, h History) error {
	last, err := h.LastSeal(ctx)
	if err == nil {
		v.back, err = eventstore.LoadedBack(ctx, h)
	}
	if err != nil {
		return err
	}
	if _, grows := h.(eventstore.Ledger); grows {
		v.chain.most = last.Block
	}
	if err := v.widen(ctx, h); err != nil {
		return err
	}
	after, err := v.chain.seek(v.o.From)
	if err != nil {
		return err
	}
	var stop func()
	v.silent, stop = iter.Pull2(h.Silent(ctx, v.chain.silentBefore))
	defer stop()
	v.behind, v.last = after, after
	if v.begun = !v.o.Part; v.o.Part {
		v.behind = v.o.Behind
	}
	v.whole = after == 0 && !v.o.Part
	walk := Walk{After: after, To: v.o.To, Commands: last.Through, Take: v.take, Prepare: func(b *Batch) {
		b.Sound, b.leaves = make([]bool, len(b.Events)), make([]tlog.Hash, len(b.Events))
		for i, r := range b.Events {
			b.Sound[i] = v.o.Masked && r.Data == nil || eventstore.ContentHash(r) == r.Hash
			if last.Block > 0 {
				b.leaves[i] = leaf(r.Hash)
			}
		}
	}}
	if err := walk.Run(ctx, h); err != nil {
		return err
	}
	if err := v.end(ctx); err != nil {
		return err
	}
	return v.strays(ctx, h)
}

// strays looks for a command in a whole store that nobody gave. Before, whatever is missing or changed was named.
func (v *verifier) strays(ctx context.Context, h History) error {
	s, can := h.(eventstore.Strays)
	if !can || v.o.From > 1 || v.o.To > 0 {
		return nil
	}
	c, found, err := s.StrayCommand(ctx)
	if err != nil || !found {
		return err
	}
	return &Finding{What: CommandAdded, Command: c.ID.String(), Why: fmt.Sprintf("the event at position %d, where its row says that it ended, is not of it, "+
		"and it is not among the commands without events: it would answer an Idempotency-Key that nobody has used", c.Position)}
}

// widen moves the end to that of the block that it lies in.
func (v *verifier) widen(ctx context.Context, h History) error {
	if v.o.To == 0 || v.o.Part {
		return nil
	}
	for seal, err := range h.Seals(ctx, 0) {
		if err != nil {
			return err
		}
		if seal.Through >= v.o.To {
			v.o.To = seal.Through
			break
		}
	}
	return nil
}
