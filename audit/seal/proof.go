package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/dangdangsalon/salon/eventstore"
)

// Proof is a file that shows that an event stands in a sealed history: the event, its path in the block's tree (RFC 6962,
// section 2.1.1), and the seal.
type Proof struct {
	Event string `json:"event"` // a line as AppendEvent writes it: as JSON in JSON its bytes would not be safe
	Index int64  `json:"index"` // of the event in its block, from 0
	Of    int64  `json:"of"`
	Path  []Hash `json:"path"`
	Seal  string `json:"seal"`
}

// ErrNotSealed says that no seal covers the event, or that there is no such event.
var ErrNotSealed = errors.New("no seal covers an event at this position")

// Prove makes the proof of the event at a position. A block that does not make its root proves nothing.
func Prove(ctx context.Context, h History, position uint64) (p Proof, err error) {
	var behind uint64
	for s, err := range h.Seals(ctx, 0) {
		switch {
		case err != nil:
			return p, err
		case position > behind && position <= s.Through:
			return prove(ctx, h, s, behind, position)
		}
		behind = s.Through
	}
	return p, fmt.Errorf("%w (%d): the last sealed one is %d", ErrNotSealed, position, behind)
}

func prove(ctx context.Context, h History, s eventstore.Seal, behind, position uint64) (p Proof, err error) {
	seal, err := read(s.Note, note.VerifierList())
	if err != nil {
		return p, fmt.Errorf("seal %d: %w", s.Block, err)
	}
	p.Seal, p.Index = string(s.Note), -1
	var stored []tlog.Hash
	nodes := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			if i >= int64(len(stored)) {
				return nil, errors.New("the block is short")
			}
			out = append(out, stored[i])
		}
		return out, nil
	})
	for r, err := range h.ReadAll(ctx, behind, eventstore.Filter{}) {
		if err != nil {
			return p, err
		}
		if r.Position > s.Through {
			break
		}
		if r.Position == position {
			p.Event, p.Index = string(AppendEvent(nil, r)), p.Of
		}
		more, err := tlog.StoredHashes(p.Of, r.Hash[:], nodes)
		if err != nil {
			return p, err
		}
		stored = append(stored, more...)
		p.Of++
	}
	root, err := tlog.TreeHash(p.Of, nodes)
	switch {
	case err != nil:
		return p, err
	case Hash(root) != seal.Events.Root:
		return p, fmt.Errorf("%w: the events of seal %d do not make its root: see salon events verify", eventstore.ErrDamaged, s.Block)
	case p.Index < 0:
		return p, fmt.Errorf("%w: %d", ErrNotSealed, position)
	}
	path, err := tlog.ProveRecord(p.Of, p.Index, nodes)
	p.Path = []Hash{}
	for _, node := range path {
		p.Path = append(p.Path, Hash(node))
	}
	return p, err
}

// Proven is what a proof has shown.
type Proven struct {
	Event eventstore.Recorded
	Seal  Body
	By    string // the key that signed the seal
}

// ErrUnproven says that a proof shows nothing.
var ErrUnproven = errors.New("the proof is none")

// Check holds a proof to the keys that are believed, offline.
func Check(b []byte, known note.Verifiers) (out Proven, err error) {
	unproven := func(why string, args ...any) (Proven, error) {
		return Proven{}, fmt.Errorf("%w: %s", ErrUnproven, fmt.Sprintf(why, args...))
	}
	var p Proof
	if err := json.Unmarshal(b, &p); err != nil {
		return unproven("it cannot be read: %v", err)
	}
	if out.Event, err = ParseEvent([]byte(p.Event)); err != nil {
		return unproven("%v", err)
	}
	seal, err := read([]byte(p.Seal), known)
	switch {
	case err != nil:
		return unproven("its seal cannot be read: %v", err)
	case !seal.ok:
		return unproven("its seal is signed by %s, which is no known key", seal.by)
	case eventstore.ContentHash(out.Event) != out.Event.Hash:
		return unproven("the event is not what its hash says")
	case p.Index < 0 || p.Index >= p.Of || uint64(p.Of) != seal.Events.Count:
		return unproven("the seal covers %d events, not %d", seal.Events.Count, p.Of)
	}
	path := make(tlog.RecordProof, len(p.Path))
	for i, node := range p.Path {
		path[i] = tlog.Hash(node)
	}
	if err := tlog.CheckRecord(path, p.Of, tlog.Hash(seal.Events.Root), p.Index, tlog.RecordHash(out.Event.Hash[:])); err != nil {
		return unproven("its path does not lead to the root of seal %d", seal.Block)
	}
	out.Seal, out.By = seal.Body, seal.by
	return out, nil
}
