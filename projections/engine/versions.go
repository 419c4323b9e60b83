package engine

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/reads"
)

// State is what becomes of a projection's version in the reads database. A version that has none was never begun there, or
// was dropped.
//
//	none ──▶ building ──▶ live ──▶ dropping ──▶ none
//	   └── the first of a ──▲ ▼
//	      projection begins  paused
//	      with the log
type State string

// The states of a version.
const (
	Building State = "building" // a rebuild writes its rows; nobody projects into it, nobody reads it
	Live     State = "live"     // projectors keep its rows up to date, whether reads are pointed at it or not
	Paused   State = "paused"   // somebody asked the projectors to stand still; reads show what was there then
	Dropping State = "dropping" // its rows and tables are being removed
)

// Kept tells whether a version has all rows up to its offsets.
func (s State) Kept() bool { return s == Live || s == Paused }

// ErrNotLive says that a version has no rows to be kept up to date: it was not built yet, was dropped, or is paused.
var ErrNotLive = errors.New("this version of the projection is not live")

// Versions are the projection and its Earlier ones, newest first.
func (p Projection) Versions() []Projection {
	all := append([]Projection{p}, p.Earlier...)
	slices.SortFunc(all, func(a, b Projection) int { return b.Version - a.Version })
	for i := range all {
		all[i].older = i > 0
	}
	return all
}

// AllVersions are the versions of several projections, in their order, newest first.
func AllVersions(projections []Projection) []Projection {
	var out []Projection
	for _, p := range projections {
		out = append(out, p.Versions()...)
	}
	return out
}

// At is a version of the projection; found is false when this release does not know it.
func (p Projection) At(version int) (at Projection, found bool) {
	for _, v := range p.Versions() {
		if v.Version == version {
			return v, true
		}
	}
	return Projection{}, false
}

// States reads the state of every version that has one, by Projection.ID.
func States(ctx context.Context, q reads.Queryer) (map[string]State, error) {
	rows, err := q.QueryContext(ctx, "SELECT projection, version, state FROM projection_versions")
	if err != nil {
		return nil, fmt.Errorf("read the versions of projections: %w", err)
	}
	defer rows.Close()
	out := map[string]State{}
	for rows.Next() {
		var p Projection
		var s State
		if err := rows.Scan(&p.Name, &p.Version, &s); err != nil {
			return nil, fmt.Errorf("read the versions of projections: %w", err)
		}
		out[p.ID()] = s
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the versions of projections: %w", err)
	}
	return out, nil
}

// StateOf reads the state of one version, "" when it has none.
func StateOf(ctx context.Context, q reads.Queryer, p Projection) (s State, err error) {
	return stateOf(ctx, q, p, "")
}

func stateOf(ctx context.Context, q reads.Queryer, p Projection, lock string) (s State, err error) {
	err = q.QueryRowContext(ctx, "SELECT state FROM projection_versions WHERE projection = ? AND version = ?"+lock, p.Name, p.Version).Scan(&s)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read the state of %s: %w", p.ID(), err)
	}
	return s, nil
}

// life is the state of a version and which of its lives it is in: one that was dropped and is built anew begins another.
// Where no version has begun yet, the newest may: it is live. A view has the life of the tables behind it.
func life(ctx context.Context, q reads.Queryer, p Projection) (s State, generation string, err error) {
	older := p.older
	p = p.Origin()
	err = q.QueryRowContext(ctx, "SELECT state, generation FROM projection_versions WHERE projection = ? AND version = ?", p.Name, p.Version).Scan(&s, &generation)
	if !errors.Is(err, sql.ErrNoRows) {
		if err != nil {
			err = fmt.Errorf("read the state of %s: %w", p.ID(), err)
		}
		return s, generation, err
	}
	var others int
	if err := q.QueryRowContext(ctx, "SELECT COUNT(*) FROM projection_versions WHERE projection = ?", p.Name).Scan(&others); err != nil {
		return "", "", fmt.Errorf("read the versions of %s: %w", p.Name, err)
	}
	if others == 0 && !older {
		s = Live
	}
	return s, "", nil
}

// Serving is the version that answers reads, in which of its lives.
type Serving struct {
	Version    int
	Generation string
}

// ServingOf reads which version of a projection answers reads; found is false before its tables were made.
func ServingOf(ctx context.Context, q reads.Queryer, projection string) (s Serving, found bool, err error) {
	err = q.QueryRowContext(ctx, "SELECT p.version, v.generation FROM projection_pointers p JOIN projection_versions v ON v.projection = p.projection AND v.version = p.version "+
		"WHERE p.projection = ?", projection).Scan(&s.Version, &s.Generation)
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("read the pointer of %s: %w", projection, err)
	}
	return s, true, nil
}

// LifeOf is a version, whether it serves or not, in which of its lives it is: as a View is asked for its rows.
func LifeOf(ctx context.Context, q reads.Queryer, p Projection) (Serving, error) {
	_, generation, err := life(ctx, q, p)
	return Serving{p.Version, generation}, err
}

// SetState is the one way from one state to the next, in the transaction of whatever belongs to it. From "" is none. It
// fails when the version is in another state than from.
func SetState(ctx context.Context, tx *sql.Tx, p Projection, from, to State) error {
	var r sql.Result
	var err error
	if from == "" {
		r, err = tx.ExecContext(ctx, "INSERT INTO projection_versions (projection, version, state, verified_run, generation) VALUES (?, ?, ?, '', ?)", p.Name, p.Version, to, rand.Text())
	} else {
		r, err = tx.ExecContext(ctx, "UPDATE projection_versions SET state = ? WHERE projection = ? AND version = ? AND state = ?", to, p.Name, p.Version, from)
	}
	if err != nil {
		return fmt.Errorf("make %s %s: %w", p.ID(), to, err)
	}
	if n, err := r.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, fmt.Errorf("make %s %s: it is not %s any more", p.ID(), to, from))
	}
	return nil
}

// Establish makes what projections need that begin here: of each the newest version when none has begun yet, else those
// that are live. Another new version waits for its rebuild.
func Establish(ctx context.Context, db *reads.DB, projections ...Projection) error {
	states, err := States(ctx, db.Reader())
	if err != nil {
		return err
	}
	for _, p := range projections {
		begun := slices.ContainsFunc(p.Versions(), func(v Projection) bool { return states[v.ID()] != "" })
		for i, v := range p.Versions() {
			if states[v.ID()] == Live || i == 0 && !begun {
				if err := EnsureTables(ctx, db, v); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// begin makes the tables of a version that is live, or that is the first of its projection. ErrNotLive: it has to wait.
func begin(ctx context.Context, db *reads.DB, p Projection) error {
	state, _, err := life(ctx, db.Writer(), p)
	if err != nil {
		return err
	}
	if state != Live {
		return fmt.Errorf("%s: %w", p.ID(), ErrNotLive)
	}
	return EnsureTables(ctx, db, p)
}

// Start gives a version that was built its first offsets, and makes it live: its projectors go on from these places.
func Start(ctx context.Context, tx *sql.Tx, p Projection, at []Place) error {
	for _, a := range at {
		_, err := tx.ExecContext(ctx, "INSERT INTO projection_offsets (projection, topic, part, epoch, claim, commit_seq, next_offset, last_pos, last_recorded_at, incarnation, updated_at) "+
			"VALUES (?, ?, ?, 0, '', 0, ?, ?, ?, ?, ?)", p.ID(), a.Topic, a.Part, a.NextOffset, int64(a.LastPos), micros(a.LastRecordedAt), a.Incarnation, micros(a.UpdatedAt)) //nolint:gosec // positions stay below 2^63
		if err != nil {
			return fmt.Errorf("write the first offset of %s, %s/%d: %w", p.ID(), a.Topic, a.Part, err)
		}
	}
	return SetState(ctx, tx, p, Building, Live)
}

// Forget removes what the system tables know of a version: its owners are refused from then on. Its tables are dropped
// after that, and its state last of all.
func Forget(ctx context.Context, tx *sql.Tx, p Projection) error {
	for _, table := range []string{"projection_offsets", "projection_parked"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE projection = ?", p.ID()); err != nil {
			return fmt.Errorf("forget %s: %w", p.ID(), err)
		}
	}
	return nil
}

// At is the table as a version of its projection has it: its columns, and its indexes.
func (d *Def) At(version int) *Def { return d.at(version) }

// Ref names a row by its primary key, in the order of the columns.
func (d *Def) Ref(parts ...any) Ref { return d.ref(parts) }

// Row is a row that the unit holds, as a pointer to its row type; nil when there is none.
func (u *Unit) Row(r Ref) any {
	if s := u.rows[rowID{r.table, r.key}]; s != nil {
		return s.row
	}
	return nil
}

// Decoder decodes stored events for the folds of a projection, as the live engine does.
type Decoder struct{ d *decoder }

// NewDecoder makes one.
func NewDecoder(codec *eventstore.Codec, p Projection) Decoder {
	return Decoder{newDecoder(codec, p, nil)}
}

// Event decodes an event; wanted is false for one of a type or topic that the projection does not use.
func (d Decoder) Event(p Projection, r eventstore.Recorded) (e Event, wanted bool, err error) {
	if !slices.Contains(p.Topics, wire.TopicOf(r.Stream)) {
		return e, false, nil
	}
	if wanted, err = d.d.wanted(r.Type); err != nil || !wanted {
		return e, false, err
	}
	if e, err = d.d.event(r); err != nil {
		err = &foldError{err}
	}
	return e, true, err
}
