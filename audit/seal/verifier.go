package seal

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// place is what a finding says of an event.
type place struct {
	position uint64
	stream   string
	revision eventstore.Revision
	id       uuid.UUID
}

// verifier takes the events in order.
type verifier struct {
	o      Options
	chain  *chain
	silent func() (eventstore.Accepted, error, bool)
	report Report

	whole bool // it began with the store's first event
	begun bool // the first event follows a position that is known: last
	last  uint64
	at    time.Time // the latest
	back  time.Duration
	ends  map[string]eventstore.Revision

	// Of the block that is being looked at:
	behind  uint64 // position of the event before it
	places  []place
	tree    tree
	runs    Runs
	of      []command
	suspect *Finding // the first event that is wrong by what it says of itself
	gap     *Finding // the first revision that a stream lacks
	ahead   *eventstore.Accepted
}

// command is one of the block, or what is left of one.
type command struct {
	eventstore.Accepted
	there bool
}

func (v *verifier) take(b *Batch) error {
	for i, r := range b.Events {
		for v.chain.seal.Block > 0 && r.Position > v.chain.seal.Through {
			if err := v.close(); err != nil {
				return err
			}
		}
		wrong := v.look(r, b.Sound[i])
		if v.report.Events == 0 {
			v.report.From = r.Position
		}
		v.report.Events, v.report.To = v.report.Events+1, r.Position
		if v.chain.seal.Block == 0 || r.Position <= v.o.Behind {
			v.report.Unsealed++
			if wrong != nil {
				return wrong
			}
			continue
		}
		if v.suspect == nil {
			v.suspect = wrong
		}
		v.enter(r, b, i)
		if len(v.places) > 4*MostEvents {
			return v.closed() // of a block that cannot be so long, all there is to say is known
		}
	}
	if v.o.Progress != nil {
		v.o.Progress(v.report.To)
	}
	return nil
}

// look holds an event to what was before it, and goes on from it whatever it is.
func (v *verifier) look(r eventstore.Recorded, sound bool) *Finding {
	end, known := v.ends[r.Stream]
	if !known {
		end = eventstore.NoStream
	}
	last, at, begun := v.last, v.at, v.begun
	v.last, v.begun, v.ends[r.Stream] = r.Position, true, r.Revision
	if r.RecordedAt.After(at) {
		v.at = r.RecordedAt
	}
	here := place{r.Position, r.Stream, r.Revision, r.ID}
	lacks := (known || v.whole) && r.Revision > end+1 && !v.o.Scattered
	if lacks && v.gap == nil {
		revision := int64(end + 1)
		v.gap = &Finding{What: Missing, Stream: r.Stream, Revision: &revision, Position: r.Position,
			Why: fmt.Sprintf("revision %d of %s is missing: position %d is revision %d", end+1, r.Stream, r.Position, r.Revision)}
	}
	switch {
	case begun && r.Position <= last:
		return (&Finding{What: Moved, Why: fmt.Sprintf("it stands behind position %d", last)}).of(here)
	case begun && v.o.Dense && r.Position != last+1:
		return &Finding{What: Missing, Position: last + 1, Why: fmt.Sprintf("position %d is followed by %d", last, r.Position)}
	case lacks:
		return v.gap
	case known && r.Revision <= end:
		return (&Finding{What: Moved, Why: fmt.Sprintf("it stands behind revision %d of its stream", end)}).of(here)
	case !sound:
		return (&Finding{What: Changed, Why: "its content is not what its hash says"}).of(here)
	case v.o.Dense && r.RecordedAt.Before(at.Add(-v.back)):
		return (&Finding{What: Moved, Why: "it was recorded before the event that it stands behind"}).of(here)
	}
	return nil
}

// enter puts an event into the block.
func (v *verifier) enter(r eventstore.Recorded, b *Batch, i int) {
	v.places = append(v.places, place{r.Position, r.Stream, r.Revision, r.ID})
	v.tree.addLeaf(b.leaves[i])
	id := b.Of[i]
	if v.runs.Next(id) {
		c, there := b.Commands[id]
		c.ID = id
		v.of = append(v.of, command{c, there})
	}
	if n := len(v.of) - 1; n >= 0 && v.of[n].ID == id && v.of[n].there && v.of[n].LastRevision == r.Revision && v.of[n].Position != r.Position && v.suspect == nil {
		v.suspect = &Finding{What: CommandChanged, Command: id.String(), Position: r.Position, Block: v.chain.seal.Block,
			Why: fmt.Sprintf("its row says position %d, its last event stands at %d", v.of[n].Position, r.Position)}
	}
}

// close holds the block to its seal, and goes on to the next one.
func (v *verifier) close() error {
	if err := v.closed(); err != nil {
		return err
	}
	v.report.Commands += v.chain.now.Commands.Count
	v.behind = v.chain.seal.Through
	v.places, v.tree, v.runs, v.of, v.suspect, v.gap = v.places[:0], tree{outline: v.tree.outline[:0], roots: v.tree.roots[:0]}, Runs{}, v.of[:0], nil, nil
	return v.chain.advance()
}

func (v *verifier) closed() error {
	if err := v.silentOnes(); err != nil {
		return err
	}
	if f := v.compare(); f != nil {
		return f
	}
	return nil
}

// silentOnes takes the commands without events that the seal covers.
func (v *verifier) silentOnes() error {
	for {
		if v.ahead == nil {
			c, err, more := v.silent()
			if err != nil || !more {
				return err
			}
			v.ahead = &c
		}
		if v.ahead.Silent > v.chain.seal.SilentThrough {
			return nil
		}
		v.of = append(v.of, command{*v.ahead, v.ahead.Stream != ""})
		v.ahead = nil
	}
}

// end closes the blocks that are left. One that a given end has cut off is not looked at.
func (v *verifier) end(ctx context.Context) error {
	for v.chain.seal.Block > 0 {
		if v.o.To > 0 && v.behind >= v.o.To {
			break
		}
		if err := v.close(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
