package seal

import (
	"bytes"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dangdangsalon/salon/eventstore"
)

// compare holds the block to its seal: nil, or the first thing in it that is not what was sealed. Events come first, each by
// what it says of itself and by its place in the outline, whichever is earlier.
func (v *verifier) compare() *Finding {
	sealed, block := v.chain.outline, v.chain.seal.Block
	events := sealed[:outlineBytes*v.chain.now.Events.Count]
	found, stands := v.events(events)
	if s := v.suspect; s != nil && (found == nil || s.Position < stands) {
		found = s
	}
	if found != nil {
		if g := v.gap; found.What == Missing && found.Stream == "" && g != nil { // the stream tells which one it was
			found.Stream, found.Revision = g.Stream, g.Revision
		}
		found.Block = block
		return found
	}
	if v.tree.root() != v.chain.now.Events.Root {
		return &Finding{What: Changed, Block: block, Why: fmt.Sprintf("the events of seal %d, positions %d to %d, do not make its root", block, v.behind+1, v.chain.seal.Through)}
	}
	return v.commands(sealed[len(events):])
}

// events compares the block's events, and answers at which position stands what is wrong.
func (v *verifier) events(sealed []byte) (f *Finding, stands uint64) {
	at, what, from := differs(v.tree.outline, sealed)
	next := v.chain.first()
	if what == Changed && at == len(sealed)/outlineBytes-1 && bytes.Equal(piece(v.tree.outline, at), next) {
		what = Missing // the last one is gone, and the next block's first stands in its place
	}
	switch {
	case what == "":
		return nil, 0
	case v.o.Dense:
		stands = v.behind + 1 + uint64(at) //nolint:gosec // an index
	case at < len(v.places):
		stands = v.places[at].position
	case at > 0:
		stands = v.places[at-1].position
	}
	f = &Finding{What: what}
	switch what {
	case Missing:
		f.Position = stands
		f.Why = fmt.Sprintf("event %d of the %d of seal %d is gone", at+1, len(sealed)/outlineBytes, v.chain.seal.Block)
	case Added:
		f.of(v.places[at]).Why = fmt.Sprintf("it was not there when seal %d was made", v.chain.seal.Block)
	case Moved:
		f.of(v.places[at]).Why = fmt.Sprintf("it stood %d places further on when seal %d was made", from-at, v.chain.seal.Block)
	case Changed:
		f.of(v.places[at]).Why = fmt.Sprintf("it is not the event that seal %d covers here, though its own hash is right", v.chain.seal.Block)
	}
	return f, stands
}

// commands compares the block's commands.
func (v *verifier) commands(sealed []byte) *Finding {
	var t tree
	var there []int // of v.of, by leaf
	leaves := leavesOf(v.of)
	for i, c := range v.of {
		if c.there {
			t.addLeaf(leaves[i])
			there = append(there, i)
		}
	}
	block := v.chain.seal.Block
	at, what, _ := differs(t.outline, sealed)
	f := &Finding{Block: block}
	switch what {
	case "":
		if t.root() != v.chain.now.Commands.Root {
			return &Finding{What: CommandChanged, Block: block, Why: fmt.Sprintf("the commands of seal %d do not make its root", block)}
		}
		return nil
	case Missing:
		f.What, f.Why = CommandMissing, fmt.Sprintf("its row is gone since seal %d", block)
		behind := 0
		if at > 0 {
			behind = there[at-1] + 1
		}
		for ; behind < len(v.of) && v.of[behind].there; behind++ {
		}
		if behind == len(v.of) { // of a command without events, even the number is gone
			f.Why = fmt.Sprintf("command %d of the %d of seal %d is gone", at+1, len(sealed)/outlineBytes, block)
			return f
		}
		f.Command = v.of[behind].ID.String()
	case Added:
		f.What, f.Command, f.Why = CommandAdded, v.of[there[at]].ID.String(), fmt.Sprintf("it was not there when seal %d was made", block)
	case Moved, Changed:
		f.What, f.Command, f.Why = CommandChanged, v.of[there[at]].ID.String(), fmt.Sprintf("its row is not what seal %d covers", block)
	}
	return f
}

// leavesOf hashes the commands that are there, on as many cores as a walk uses.
func leavesOf(of []command) []tlog.Hash {
	leaves := make([]tlog.Hash, len(of))
	var all sync.WaitGroup
	for part := range workers {
		all.Go(func() {
			for i := part * len(of) / workers; i < (part+1)*len(of)/workers; i++ {
				if of[i].there {
					leaves[i] = leaf(eventstore.CommandHash(of[i].Command))
				}
			}
		})
	}
	all.Wait()
	return leaves
}

// differs finds where two outlines part, and how: "" when they do not. from is where a moved one stood.
func differs(found, sealed []byte) (at int, what string, from int) {
	for at < len(found)/outlineBytes && at < len(sealed)/outlineBytes && bytes.Equal(piece(found, at), piece(sealed, at)) {
		at++
	}
	x, y := piece(found, at), piece(sealed, at)
	switch from = index(sealed, x, at); {
	case x == nil && y == nil:
		return at, "", 0
	case x == nil:
		return at, Missing, 0
	case y == nil:
		return at, Added, 0
	case from >= 0 && index(found, y, at) >= 0:
		return at, Moved, from
	case from >= 0:
		return at, Missing, 0
	case index(found, y, at) >= 0:
		return at, Added, 0
	}
	return at, Changed, 0
}

// piece is the n-th of an outline, nil behind its end.
func piece(outline []byte, n int) []byte {
	if len(outline) < (n+1)*outlineBytes {
		return nil
	}
	return outline[n*outlineBytes:][:outlineBytes]
}

func index(outline, of []byte, from int) int {
	if of == nil {
		return -1
	}
	for n := from; n < len(outline)/outlineBytes; n++ {
		if bytes.Equal(piece(outline, n), of) {
			return n
		}
	}
	return -1
}
