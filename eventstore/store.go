// Package eventstore is the contract of the only truth: append-only streams with one global order.
//
// What a store promises, and eventstore/storetest checks for each of them:
//
//   - An acknowledged append is on disk, whole, once (G1). The same command ID never has a second effect.
//   - Positions ascend in commit order: a reader that follows with ReadAll misses nothing (G2). PostgreSQL and SQLite
//     number densely from 1; nothing above this package may assume that.
//   - A stream's revisions are 0, 1, 2… and an append verifies the revision its decision was made on.
//   - Stored bytes come back as they were.
//   - A read holds nothing of the store while its caller works, however early the caller leaves.
//
// What it refuses to do: interpret events (the codec does), remember refusals, delete, or change anything stored.
package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
)

// Limits of one append. They keep a record below Kafka's and the databases' own limits.
const (
	MaxEventBytes   = 256 << 10 // data and metadata of one event
	MaxAppendEvents = 100
	MaxAppendBytes  = 900 << 10
	// MaxNameBytes bounds each name: stream, ordering key, event type, actor. A PostgreSQL index takes no more than
	// 2,704 bytes an entry, and refuses longer ones by failing the whole group.
	MaxNameBytes = 512
	maxHashBytes = 64 // of Command.RequestHash
	// MaxSnapshotBytes bounds what a cold load may have to carry instead of events.
	MaxSnapshotBytes = 8 << 20
	// MaxDecisionAge is how old a decision may be when it reaches the store: a process that froze cannot act on
	// what was true before. Compared with the store's clock, hence it also bounds the clock error of a node.
	MaxDecisionAge = 5 * time.Second
)

// Revision of a stream from 0. The negative values are expectations only.
type Revision int64

// Expectations that are not an exact revision.
const (
	NoStream    Revision = -1 // the stream has no events yet
	AnyRevision Revision = -2
)

// LastRevision is past the end of every stream, for reads.
const LastRevision = Revision(math.MaxInt64)

// Recorded is one stored event. Metadata and Data are the exact bytes that were appended.
type Recorded struct {
	Position   uint64 // in the store, from 1
	Stream     string
	Revision   Revision
	ID         uuid.UUID
	Type       string
	Key        string // ordering key: chooses Kafka partition and rebuild slice
	RecordedAt time.Time
	Metadata   []byte
	Data       []byte
	Hash       [32]byte // ContentHash of the above
	// Origin is the position in the store that the event was loaded from, where it had another one and the store keeps it; else 0.
	Origin uint64
}

// Metadata is what every event of one command carries.
type Metadata struct {
	CommandID     uuid.UUID    `json:"command_id"`
	Command       string       `json:"command"` // "hold_slot"
	Actor         domain.Actor `json:"actor"`
	CorrelationID string       `json:"correlation_id"`
	CausationID   string       `json:"causation_id"`
	Traceparent   string       `json:"traceparent,omitempty"`
}

// NewEvent is an event to append.
type NewEvent struct {
	ID   uuid.UUID // EventID of the command, the stream and the event's number in the append: unique since the command is
	Type string
	Data []byte
}

// Append is one command's effect on one stream. Events may be empty: the command is remembered all the same.
type Append struct {
	Stream   string
	Key      string
	Expected Revision
	// ExpectedID, when set, is the ID of the event at Expected. After a fail-over that lost the stream's end another one
	// may stand there: that is a conflict, too. A store that acknowledges nothing it can lose that way (SQLite has one
	// owner, EventStoreDB asks a majority first) need not look.
	ExpectedID uuid.UUID
	Events     []NewEvent
	Metadata   []byte // JSON of Metadata, the same for each event
	Command    Command
	DecidedAt  time.Time
}

// Command is what the store remembers of an accepted command, for ever.
type Command struct {
	ID          uuid.UUID
	RequestHash []byte // 32 bytes; compared, never interpreted
	Actor       string // Actor.Subject
	// Set by the store:
	Stream       string
	LastRevision Revision // of the stream after the command; its answer is the state folded to here
	Position     uint64   // of its last event; of the stream's last event when it had none, 0 when the stream is empty
}

// Appended tells what an append did.
type Appended struct {
	LastRevision Revision
	Position     uint64    // of the last event, see Command.Position
	RecordedAt   time.Time // of the events appended, one instant for all
	Incarnation  string    // of the store that took it, see [Head]; "" of a store that keeps it while it is open
}

// Filter narrows ReadAll. The zero value takes every event; of several conditions all must hold.
type Filter struct {
	StreamPrefix string
	Types        []string   // one of them
	Without      []string   // types that are left out
	Key          string     // ordering key
	Slices       SliceRange // of the ordering key, see [Slice]
	// First takes each stream's first event alone: with StreamPrefix "groomer-", the list of a category's streams in the
	// order in which they began.
	First bool
}

// Matches reports whether the filter takes the event.
func (f Filter) Matches(r Recorded) bool {
	return strings.HasPrefix(r.Stream, f.StreamPrefix) && (len(f.Types) == 0 || slices.Contains(f.Types, r.Type)) &&
		!slices.Contains(f.Without, r.Type) && (f.Key == "" || f.Key == r.Key) && (f.Slices.Len() == 0 || f.Slices.Has(Slice(r.Key))) &&
		(!f.First || r.Revision == 0)
}

// Snapshot is a folded state, kept to shorten a cold load. It is a cache: whoever reads it checks Hash against Sum,
// and folds from the beginning when in doubt.
type Snapshot struct {
	Stream      string
	FoldVersion int
	Revision    Revision // of the last event in State
	State       []byte
	Hash        [32]byte
}

// Head is the end of the store.
type Head struct {
	Position    uint64
	RecordedAt  time.Time
	Incarnation string // of the store: system and timeline; another one means that it was restored
}

// Life is one life of a store: a promotion, a restore and a copy each begin another. A store that can tell how its lives
// follow one another does so beside the contract (postgres.Store.Lives); of the others, each life is a stranger to the
// one before.
type Life struct {
	Incarnation string
	// Inherited is the position of the last event that the life took over from the one before it: up to there, both have
	// the same events.
	Inherited uint64
}

// Migration is one step of a store's schema.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero while pending
}

// NewerSchemaError says that a database was changed by a later release in a way that this one cannot run on.
//
// A step of a schema that only adds leaves older releases running, and does not bring this about. One that takes something away
// makes the table events_floor (of the reads database reads_floor; one column, least BIGINT, in one row) where it is not there,
// and writes there the first step that a release must know to do without what is gone: at least the step before. It belongs to a
// release after the one whose processes stopped using it.
type NewerSchemaError struct {
	Database string // "event store" or "reads database"
	Floor    int64
	Knows    int64 // the last step of this release
}

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("the %s was changed by a later release: it takes one that knows the step %d of its schema, and this one (%d) does not: run a later release", e.Database, e.Floor, e.Knows)
}

// CheckFloor is for whoever knows how to ask: floor is what the database demands, 0 when it says nothing.
func CheckFloor(database string, floor, knows int64) error {
	if floor > knows {
		return &NewerSchemaError{database, floor, knows}
	}
	return nil
}

// The errors of a store. Everything else it returns is wrapped context or a bug.
var (
	// ErrUnavailable: the store cannot be reached or refused to start the work; nothing was done.
	ErrUnavailable = errors.New("event store unavailable")
	// ErrOutcomeUnknown: the append may or may not have happened. A retry with the same command ID settles it.
	ErrOutcomeUnknown = errors.New("outcome of the append unknown")
	// ErrDecisionTooOld: DecidedAt is more than MaxDecisionAge away from the store's clock. Nothing was done.
	ErrDecisionTooOld = errors.New("decision too old for the store's clock")
	// ErrTooLarge: the append breaks a limit above. Nothing was done.
	ErrTooLarge = errors.New("append too large")
	// ErrInvalid: the append is not one that the contract allows (a name that is empty or not text, an event ID that is
	// not the command's). Nothing was done. It is the caller's mistake, never a person's.
	ErrInvalid = errors.New("append invalid")
)

// ConflictError says that the stream was not at the expected revision, or at another event of that revision. Nothing
// was done.
type ConflictError struct {
	Stream           string
	Expected, Actual Revision // Actual is NoStream for a stream without events
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("append to %s: expected revision %d, found %d", e.Stream, e.Expected, e.Actual)
}

// DuplicateError says that the command was accepted before. Nothing was done now.
type DuplicateError struct{ Command Command }

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("command %s was accepted before, at revision %d of %s", e.Command.ID, e.Command.LastRevision, e.Command.Stream)
}

// Store is the contract. Implementations are safe for concurrent use.
type Store interface {
	// Append writes all events of one command, or nothing. A command ID accepted before is answered with
	// DuplicateError, before any check of the revision or of the decision's age. Other errors: ConflictError, those
	// above, and ctx's own. After any but DuplicateError and ErrOutcomeUnknown nothing was done.
	Append(ctx context.Context, a Append) (Appended, error)
	// Command finds an accepted command.
	Command(ctx context.Context, id uuid.UUID) (c Command, found bool, err error)
	// ReadStream yields a stream's events ascending from revision from (inclusive) as of the call or later. A stream
	// that does not exist is empty. The loop's body may use the store, and holds nothing of it, also when it ends early.
	// An error is yielded last.
	ReadStream(ctx context.Context, stream string, from Revision) iter.Seq2[Recorded, error]
	// ReadStreamBack yields a stream's events descending from revision from (inclusive); [LastRevision] is its end.
	// Otherwise as ReadStream.
	ReadStreamBack(ctx context.Context, stream string, from Revision) iter.Seq2[Recorded, error]
	// ReadAll yields the events with position > after that the filter takes, in order, up to the head found on the
	// way. after is 0 or a position that the store gave. Otherwise as ReadStream.
	ReadAll(ctx context.Context, after uint64, f Filter) iter.Seq2[Recorded, error]
	// Head is the end of the store now.
	Head(ctx context.Context) (Head, error)
	// Wait returns nil as soon as an event with position > after exists, else ctx's error. Appends of this process
	// wake it at once; those of others are found by polling, 10 ms apart. A store that is closed answers ErrUnavailable.
	Wait(ctx context.Context, after uint64) error
	// Snapshot finds the snapshot that was saved last for a stream and fold version.
	Snapshot(ctx context.Context, stream string, foldVersion int) (s Snapshot, found bool, err error)
	// SaveSnapshot keeps a snapshot, in place of any other of its stream and fold version. Larger ones than
	// MaxSnapshotBytes are ErrTooLarge.
	SaveSnapshot(ctx context.Context, s Snapshot) error
	// PersonKey finds a person's current wrapped key; an erased or never made one is not found.
	PersonKey(ctx context.Context, subject string) (keyID string, wrapped []byte, found bool, err error)
	// PersonKeyByID finds a wrapped key by its ID.
	PersonKeyByID(ctx context.Context, subject, keyID string) (wrapped []byte, found bool, err error)
	// AddPersonKey stores a person's first key and answers the one that stands: another process may have been first.
	AddPersonKey(ctx context.Context, subject, keyID string, wrapped []byte) (standingID string, standing []byte, err error)
}
