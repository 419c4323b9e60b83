package eventstore

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/google/uuid"
)

// Ledger is what a store offers to those who seal, verify and export it, beside the contract: the commands as they are
// kept, and the seals, which are append-only and mean nothing to the store.
type Ledger interface {
	// CommandsOf finds the accepted commands of these IDs, in any order. through is the position of the last event whose
	// command is asked for: who asks goes through the history in its order.
	CommandsOf(ctx context.Context, ids []uuid.UUID, through uint64) ([]Accepted, error)
	// Silent yields the accepted commands without events behind the number after, in the order in which they were accepted.
	Silent(ctx context.Context, after uint64) iter.Seq2[Accepted, error]
	// Seals yields the seals of the blocks behind after, in order.
	Seals(ctx context.Context, after uint64) iter.Seq2[Seal, error]
	// LastSeal is the last one; its block is 0 when there is none.
	LastSeal(ctx context.Context) (Seal, error)
	// AddSeal keeps the next seal: its block follows the last one's, or it is ErrSealed and nothing was done.
	AddSeal(ctx context.Context, s Seal) error
}

// Strays is offered by the stores that keep commands in a table of their own, where somebody could put one that nobody gave: it
// would answer an Idempotency-Key that was never used.
type Strays interface {
	// StrayCommand finds the first command, by the time that it bears, of which the event at its position is none and which
	// has no number among those without events. A row that was numbered, too, is not told from a true one. It reads all
	// commands, at one moment.
	StrayCommand(ctx context.Context) (stray Accepted, found bool, err error)
}

// Orderly is a ledger that has its commands in about the order in which they were accepted, beside the contract: who goes through
// all of them is spared a look-up for each.
type Orderly interface {
	// CommandsFrom yields accepted commands as they lie, from the one of that ID on, or none. Any may be yielded elsewhere, or not
	// at all: CommandsOf finds it. The loop's body holds nothing of the store.
	CommandsFrom(ctx context.Context, id uuid.UUID) iter.Seq2[Accepted, error]
}

// Ranged is a store whose positions have no holes and lead to their events at once, beside the contract: several parts of it
// can be read side by side.
type Ranged interface {
	Head(ctx context.Context) (Head, error)
	// ReadRange yields the events behind the position after, through that of through, as ReadAll does.
	ReadRange(ctx context.Context, after, through uint64) iter.Seq2[Recorded, error]
}

// ErrSealed says that another sealer has sealed the block.
var ErrSealed = errors.New("the block is sealed")

// Accepted is an accepted command as it is kept.
type Accepted struct {
	Command
	RecordedAt time.Time
	Silent     uint64 // a command without events is given a number, in the order in which they are accepted; 0 of the others
}

// Seal is one seal as a store keeps it. What it says is in the note, see audit/seal.
type Seal struct {
	Block         uint64 // 1, 2, 3…
	Through       uint64 // position, in this store, of the last event that it covers
	SilentThrough uint64 // number, in this store, of the last command without events that it covers
	Note          []byte // signed
	Outline       []byte // a few bytes of each leaf; the note has their hash
}

// Loaded is a history to be put into an empty store as it is: hashes, times, revisions and order are kept, positions are
// those that the store gives. Each of the three may be gone through again, and beside the others.
type Loaded struct {
	Events iter.Seq2[Recorded, error]
	// Commands come in the order of their events; those without events behind them, in the order in which they were accepted.
	Commands iter.Seq2[Accepted, error]
	// A seal's Through and SilentThrough count the events and the commands without events from the first.
	Seals iter.Seq2[Seal, error]
}

// Loader takes over the history of another store.
type Loader interface {
	// Load puts a history into the store, or nothing: whoever looks meanwhile sees an empty store, or is refused with ErrLoading
	// by one that cannot hide what it has taken. There, a load that was ended in the middle goes on when the same history is
	// loaded again. A store that has anything else is ErrNotEmpty.
	Load(ctx context.Context, from Loaded) error
	// Loadable is nil where Load would begin, or go on; ErrNotEmpty where it would not.
	Loadable(ctx context.Context) error
}

// ErrLoading says that a store has a part of a history that was being loaded.
var ErrLoading = errors.New("the event store has a part of an import that was not finished: import the same file again, which goes on, or throw the store away")

// ErrNotEmpty says that a store has events, commands or seals already.
var ErrNotEmpty = errors.New("the event store is not empty")
