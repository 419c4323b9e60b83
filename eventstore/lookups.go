package eventstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
)

// Lookups is where events can be found by what is in them, beside the contract: a store may have it, in its own database.
// It is an index that a follower writes after the fact, so an append pays nothing for it, and every event behind its end is
// looked for in the events themselves. Whatever is in it can be made again.
type Lookups interface {
	// LookupsThrough is the position through which events are in the index.
	LookupsThrough(ctx context.Context) (uint64, error)
	// AddLookups adds what the events behind one position, through another, are found by. moved is false, and nothing was
	// done, when the index does not end at the first: another follower was here.
	AddLookups(ctx context.Context, after, through uint64, add []Lookup) (moved bool, err error)
	// Lookup lists up to limit positions behind after at which a value was noted, ascending.
	Lookup(ctx context.Context, value int64, after uint64, limit int) ([]uint64, error)
	// EventsAt reads the events at some positions, ascending. Positions without an event are passed over.
	EventsAt(ctx context.Context, positions []uint64) ([]Recorded, error)
}

// Lookup is one value by which the event at a position is found.
type Lookup struct {
	Value    int64
	Position uint64
}

// LookupValue is what a text of a kind ("actor", "customer:kim") is noted as: a part of a hash, since a number is small and
// of one size. Others may have the same: whoever finds an event looks whether it is one that was meant.
func LookupValue(kind, text string) int64 {
	sum := sha256.Sum256([]byte(kind + "\x00" + text))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any number will do
}
