package seal

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/dangdangsalon/salon/eventstore"
)

// chain goes through the seals, each held to the one before.
type chain struct {
	o    Options
	most uint64 // the block behind which no seal is taken: it was made meanwhile, and its commands are not looked up; 0: none is
	next func() (eventstore.Seal, error, bool)
	stop func()

	ahead        *eventstore.Seal
	seal         eventstore.Seal // the one whose block is being looked at; its block is 0 behind the last
	now          signed
	outline      []byte
	begun        bool
	silentBefore uint64 // of the block
	seals        uint64
	compared     uint64 // with their heads elsewhere
	sealed       uint64
	signers      map[string]bool
	at           signed // the last one
}

func newChain(ctx context.Context, h History, o Options) *chain {
	c := &chain{o: o, signers: map[string]bool{}}
	c.next, c.stop = iter.Pull2(h.Seals(ctx, 0))
	return c
}

// seek goes to the seal whose block has the position, and answers behind which position to read.
func (c *chain) seek(from uint64) (after uint64, err error) {
	for {
		after = c.seal.Through
		if err := c.advance(); err != nil {
			return 0, err
		}
		switch {
		case c.seal.Block == 0: // no seal has it
			return max(after, max(from, 1)-1), nil
		case c.seal.Through >= from:
			return after, nil
		}
	}
}

// peek is the seal behind the present one; more is false when there is none.
func (c *chain) peek() (seal eventstore.Seal, more bool, err error) {
	if c.ahead == nil {
		seal, err, more := c.next()
		if err != nil || !more || c.most > 0 && seal.Block > c.most {
			return seal, false, err
		}
		c.ahead = &seal
	}
	return *c.ahead, true, nil
}

// first is the first piece of the next seal's outline.
func (c *chain) first() []byte {
	next, _, err := c.peek()
	if err != nil {
		return nil // advance will say so
	}
	return piece(next.Outline, 0)
}

// advance takes the next seal and holds it to the last one.
func (c *chain) advance() error {
	last, before := c.seal, c.now
	seal, more, err := c.peek()
	if err != nil {
		return err
	}
	c.ahead = nil
	if !more {
		c.seal, c.outline = eventstore.Seal{}, nil
		return c.ended(last.Block)
	}
	wrong := func(what, why string, args ...any) error {
		return &Finding{What: what, Block: seal.Block, Why: fmt.Sprintf("seal %d %s", seal.Block, fmt.Sprintf(why, args...))}
	}
	if (c.begun || !c.o.Part) && seal.Block != last.Block+1 {
		seal.Block = last.Block + 1
		return wrong(SealMissing, "is missing")
	}
	now, err := read(seal.Note, c.o.known())
	switch {
	case err != nil:
		return wrong(SealChanged, "cannot be read: %v", err)
	case c.o.Known != nil && !now.ok:
		return wrong(SealForeign, "is signed by %s, which is no known key", now.by)
	case now.Block != seal.Block:
		return wrong(SealChanged, "says that it is seal %d", now.Block)
	case sha256.Sum256(seal.Outline) != now.Outline || uint64(len(seal.Outline)) != outlineBytes*(now.Events.Count+now.Commands.Count):
		return wrong(SealChanged, "has another outline than was signed")
	case c.o.Elsewhere != nil && c.o.Elsewhere[seal.Block] != "" && c.o.Elsewhere[seal.Block] != string(seal.Note):
		return wrong(SealChanged, "is another one than was kept elsewhere")
	}
	if c.begun || !c.o.Part {
		switch {
		case c.begun && now.Previous != textHash(before.text):
			return wrong(SealChanged, "does not follow seal %d: it was made behind another one", last.Block)
		case now.Events.Before != before.Events.Before+before.Events.Count || c.begun && seal.Through <= last.Through || seal.SilentThrough < last.SilentThrough:
			return wrong(SealChanged, "does not begin where seal %d ends", last.Block)
		case !c.begun && now.Previous != (Hash{}):
			return wrong(SealChanged, "says that there is one before it")
		}
	}
	if c.silentBefore = last.SilentThrough; !c.begun && c.o.Part {
		c.silentBefore = c.o.SilentBehind
	}
	c.seal, c.now, c.outline, c.begun = seal, now, seal.Outline, true
	c.seals++
	if c.o.Elsewhere[seal.Block] != "" {
		c.compared++
	}
	c.sealed, c.at = seal.Through, now
	if now.ok {
		c.signers[now.by] = true
	}
	return nil
}

// ended looks whether elsewhere there are more seals than here.
func (c *chain) ended(last uint64) error {
	if c.o.Part {
		return nil
	}
	for _, block := range slices.Sorted(maps.Keys(c.o.Elsewhere)) {
		if block > last {
			return &Finding{What: SealMissing, Block: block, Why: fmt.Sprintf("seal %d was kept elsewhere, and is missing", block)}
		}
	}
	return nil
}

func (c *chain) tell(r *Report) {
	r.Seals, r.Sealed, r.Compared = c.seals, c.sealed, c.compared
	r.SignedBy = slices.Sorted(maps.Keys(c.signers))
	if c.seals > 0 {
		r.SealedAt = &c.at.At
	}
}
