package rebuild

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Kind is what a run does.
type Kind string

// The kinds of runs.
const (
	Rebuild  Kind = "rebuild"
	Verify   Kind = "verify"
	Switch   Kind = "switch"
	Rollback Kind = "rollback"
	Drop     Kind = "drop"
	Pause    Kind = "pause"
	Resume   Kind = "resume"
)

// State is how a run is.
type State string

// The states of a run.
const (
	Asked     State = "asked" // no worker has begun with it
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// The phases of a run that is at work.
const (
	Preparing  = "preparing"
	Loading    = "loading"     // slices of the store's history
	Indexing   = "indexing"    // what was loaded
	CatchingUp = "catching_up" // with what came into the log meanwhile
	Filling    = "filling"     // the version's views in Redis, from its tables
	Comparing  = "comparing"
	Removing   = "removing"
)

// Run is one run. Its JSON is the API's.
type Run struct {
	ID         string    `json:"run_id"`
	Projection string    `json:"projection"` // its name
	Kind       Kind      `json:"kind" enum:"rebuild,verify,switch,rollback,drop,pause,resume"`
	Version    int       `json:"version"`
	Against    int       `json:"against" doc:"The version that it is compared with, or from which reads were moved away; 0: none"`
	State      State     `json:"state" enum:"asked,running,done,failed,cancelled"`
	Phase      string    `json:"phase" doc:"What a running run is at; of an ended one, where it ended"`
	AskedBy    string    `json:"asked_by"`
	Reason     string    `json:"reason,omitempty" doc:"Why it was forced"`
	Detail     string    `json:"detail,omitempty" doc:"Why it failed, or what it waits for"`
	Done       int64     `json:"done" doc:"Of total: slices while loading, records while catching up, partitions while filling views; while comparing, rows, or held to the event store slices, or keys of a sample"`
	Total      int64     `json:"total"`
	Events     int64     `json:"events" doc:"Read from the store since the worker began"`
	Rows       int64     `json:"rows" doc:"Written, or compared"`
	Rate       int64     `json:"rate" doc:"Events a second while loading, records while catching up, rows while comparing; of a rebuild that has ended: events"`
	ETA        time.Time `json:"eta,omitzero" doc:"When the phase will have ended, if it goes on as it does"`
	AskedAt    time.Time `json:"asked_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
	Options    Options   `json:"options"`
	Report     *Report   `json:"differences,omitempty" doc:"What a verification found"`

	plan   *plan
	cancel bool
	beats  int64
}

// Ended tells whether nothing more will come of a run.
func (r Run) Ended() bool { return r.State != Asked && r.State != Running }

// VersionID names the version, "reservations_v2".
func (r Run) VersionID() string {
	return engine.Projection{Name: r.Projection, Version: r.Version}.ID()
}

// aside tells whether a run only looks at, or mends, rows of a version that is live: it may be at work beside one that builds
// or compares others.
func (r Run) aside() bool { return r.Options.Fresh || r.Options.Key != "" }

// leased names what a run has for itself until it has ended: the projection, or aside of that the version.
func (r Run) leased() string {
	if r.aside() {
		return r.VersionID()
	}
	return r.Projection
}

// plan is what a rebuild goes by, noted once: the log's ends first, then the store's head. An event after the head was
// appended after the ends were looked at, so it is in the log from there on.
type plan struct {
	Head        uint64    `json:"head"`
	RecordedAt  time.Time `json:"recorded_at"`
	Incarnation string    `json:"incarnation"`
	Ends        []end     `json:"ends"`
}

type end struct {
	Topic string `json:"topic"`
	Part  int32  `json:"part"`
	Next  int64  `json:"next"`
}

// partitions is how many each topic has.
func (p plan) partitions() map[string]int {
	out := map[string]int{}
	for _, e := range p.Ends {
		out[e.Topic]++
	}
	return out
}

const runColumns = "run_id, projection, kind, version, against, state, phase, asked_by, reason, detail, options, plan, result, cancel, beats, done, total, events, row_count, rate, eta, asked_at, started_at, ended_at"

func queryRuns(ctx context.Context, q reads.Queryer, tail string, args ...any) ([]Run, error) {
	rows, err := q.QueryContext(ctx, "SELECT "+runColumns+" FROM projection_runs "+tail, args...)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	defer rows.Close()
	var out []Run
	for rows.Next() {
		r, err := scanRun(rows)
		if err != nil {
			return nil, fmt.Errorf("read runs: %w", err)
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	return out, nil
}

func scanRun(rows *sql.Rows) (r Run, err error) {
	var options, planned, result string
	var eta, asked, started, ended int64
	err = rows.Scan(&r.ID, &r.Projection, &r.Kind, &r.Version, &r.Against, &r.State, &r.Phase, &r.AskedBy, &r.Reason, &r.Detail, &options, &planned, &result,
		&r.cancel, &r.beats, &r.Done, &r.Total, &r.Events, &r.Rows, &r.Rate, &eta, &asked, &started, &ended)
	if err == nil && options != "" {
		err = json.Unmarshal([]byte(options), &r.Options)
	}
	if err == nil && planned != "" {
		err = json.Unmarshal([]byte(planned), &r.plan)
	}
	if err == nil && result != "" {
		err = json.Unmarshal([]byte(result), &r.Report)
	}
	for at, micros := range map[*time.Time]int64{&r.ETA: eta, &r.AskedAt: asked, &r.StartedAt: started, &r.EndedAt: ended} {
		if micros != 0 {
			*at = time.UnixMicro(micros).UTC()
		}
	}
	return r, err
}

// ErrUnknown is a projection, version or run that there is not.
var ErrUnknown = errors.New("unknown")

func getRun(ctx context.Context, q reads.Queryer, id string) (Run, error) {
	all, err := queryRuns(ctx, q, "WHERE run_id = ?", id)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: no run is called %q", ErrUnknown, id)
	}
	if err != nil {
		return Run{}, err
	}
	return all[0], nil
}

func insertRun(ctx context.Context, tx *sql.Tx, r Run) error {
	options, err := json.Marshal(r.Options)
	if err != nil {
		return fmt.Errorf("note the run: %w", err)
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO projection_runs ("+runColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', 0, 0, 0, 0, 0, 0, 0, 0, ?, ?, ?)",
		r.ID, r.Projection, r.Kind, r.Version, r.Against, r.State, r.Phase, r.AskedBy, r.Reason, r.Detail, string(options),
		micros(r.AskedAt), micros(r.StartedAt), micros(r.EndedAt))
	if err != nil {
		return fmt.Errorf("note the run: %w", err)
	}
	return nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
