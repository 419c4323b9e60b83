// Package engine runs projections: it reads Kafka in batches, folds each batch in memory and writes rows and offset
// together, so that every row equals the fold of exactly the events up to the stored offset (G4).
//
// A projection is a pure fold (see [Projection]); the engine does all I/O. What it promises the fold: events of one
// ordering key come in the store's order, each once; the rows named by Keys are there; nothing that an unfinished
// batch put is ever seen. What it promises the database: the first statement of every transaction is the fence, so a
// stale owner changes nothing (G5).
//
// An event that fails by itself parks its key and nothing else (see [Parked], G6): what comes before it is applied, what
// comes after it waits in the store, in order, until somebody asks for a retry. What fails for many keys, or what no key
// is to blame for, stops the partition instead, and its status says why.
package engine

import (
	"cmp"
	"errors"
	"strconv"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// Event is what a fold sees of a stored event.
type Event struct {
	domain.Fact                     // the decoded event, its revision, time and actor
	ID          uuid.UUID           // what a reactor names as the cause
	Position    uint64              // in the store
	Stream      string              //
	Key         string              // ordering key
	Meta        eventstore.Metadata // command, causes
}

// Target is the kind of database a projection writes.
type Target int

// The targets.
const (
	SQL   Target = iota // the reads database: MySQL, MariaDB or SQLite
	Redis               // one hash per table and ordering key, one script per batch
)

// Projection is a read model: tables and the pure fold that fills them.
//
// Fold may read and write rows through the unit of work and nothing else: no clock, no SQL, no I/O. Live projecting,
// rebuild, "as of" and verification all run this same function. An event type that is not in Types is skipped by
// name; one that the catalogue lacks stops the reader.
type Projection struct {
	Name    string // "reservations"; with Version the identity of offsets and tables
	Version int    // a change of the fold or of the tables is a new version
	// Earlier are the versions before this one that still run: the one that serves while this one is built and proved, and
	// to which a rollback goes. Each is a projection of its own, with tables and offsets of its own.
	Earlier []Projection
	older   bool // than another of the same Versions: it does not begin by itself
	Topics  []string
	// Differs are the columns in which this version is meant to differ from those before it: a verification passes over them
	// and shows why. A column that came with a version need not be listed.
	Differs []Differs
	Target  Target
	Behind  string // of a Redis projection: the SQL projection whose view it is. It is filled from that one's tables, and lives and serves with it.
	// Latest is how many rows of each ordering key a Redis projection keeps of a table, where those behind are all kept:
	// the ones with the highest primary keys. Its Fold deletes the others.
	Latest map[*Def]int
	Types  []domain.Event
	Tables []AnyTable
	// Keys names every row that Fold may Get for this event; it depends on the event alone.
	Keys func(e Event) []Ref
	Fold func(u *Unit, e Event) error
}

// Differs is a column whose meaning a version changed.
type Differs struct {
	Table  *Def
	Column string
	Why    string // for those who verify: "a moved visit keeps its price"
}

// InRedis is a view of an SQL projection and of all its versions: the same folds, one hash for each table and ordering key.
// Versions of the view live side by side as those behind them do, and one pointer moves both.
func (p Projection) InRedis(name string) Projection {
	p.Name, p.Target, p.Behind = name, Redis, p.Name
	earlier := make([]Projection, len(p.Earlier))
	for i, e := range p.Earlier {
		earlier[i] = e.InRedis(name)
	}
	p.Earlier = earlier
	return p
}

// Origin is the version whose state and pointer a version shares: of a view that of the tables behind it, else its own.
func (p Projection) Origin() Projection {
	return Projection{Name: cmp.Or(p.Behind, p.Name), Version: p.Version}
}

// ID is the projection's name with its version, "reservations_v1": what offsets are stored under.
func (p Projection) ID() string { return p.Name + "_v" + strconv.Itoa(p.Version) }

// Ref names one row of one table.
type Ref struct {
	table *Def
	key   string
	parts []any
}

// ErrUnnamedRow is a fold that reads a row which its Keys did not name: a fault of the projection, not of the event.
var ErrUnnamedRow = errors.New("fold reads a row that Keys did not name")
