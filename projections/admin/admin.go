// Package admin is what operators and analysts see and ask of projections: how far each is, which keys are parked, and
// that a parked key be tried again.
//
// Everything is read from where it is true: offsets and parked keys from the targets, the log's ends from Kafka, the
// head from the store. So any node answers for all, whichever of them runs the projections. A request for a retry is a
// mark that the partition's owner obeys.
package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

// Projections answers about projections. All fields but Relay, RelayLag and Now must be set.
type Projections struct {
	Parking engine.Parking      // reads database and Redis
	Of      []engine.Projection // every version
	// Ends tells where each partition of the topics ends in Kafka.
	Ends func(ctx context.Context, topics []string) (map[Partition]int64, error)
	// Oldest tells when the events of these records were recorded: of each partition the first at or after an offset, which
	// there is.
	Oldest func(ctx context.Context, at map[Partition]int64) (map[Partition]time.Time, error)
	// Head tells the position of the store's last event.
	Head func(ctx context.Context) (uint64, error)
	// Relay tells how far this process's relay is; known is false where another process leads. Nil: no relay here.
	Relay func() (position uint64, known bool)
	// RelayLag tells how far Kafka is behind the store: relay.Relay.Lag. It is asked where Relay knows.
	RelayLag func(ctx context.Context) (events uint64, age time.Duration, err error)
	// Versions takes what is asked of the versions of projections.
	Versions *rebuild.Desk
	// Now defaults to time.Now.
	Now func() time.Time
}

// Partition names one partition of a topic, without the prefix.
type Partition struct {
	Topic string
	Part  int32
}

// The states of a projection and of its partitions, from good to bad.
const (
	Well    = "well"    // everything in the log is applied
	Behind  = "behind"  // there is more in the log, and it is moving
	Filling = "filling" // a view that is new, or lost something: its tables answer for it
	Waiting = "waiting" // no projector has begun with it
	Stuck   = "stuck"   // behind, and it does not move: unhealthy

	Absent   = "absent"   // a version that waits for its rebuild, or was dropped
	Building = "building" // a rebuild is at work, or a drop
	Paused   = "paused"   // somebody asked its projectors to stand still
	Away     = "away"     // a view whose Redis does not answer, so that nobody knows
)

// Still is how long a partition that is behind may stand before it is called stuck: longer than a rebalance takes.
const Still = 15 * time.Second

// Status is one projection. Lag is what the log has and the projection has not; what the log has not either is the relay's.
type Status struct {
	Name       string            `json:"name"`
	Version    int               `json:"version"`
	Serves     bool              `json:"serves" doc:"Whether reads are answered from this version"`
	Target     string            `json:"target" enum:"sql,redis"`
	State      string            `json:"state" enum:"well,behind,filling,waiting,stuck,absent,building,paused,away"`
	Detail     string            `json:"detail,omitempty" doc:"Why it is away"`
	LagEvents  int64             `json:"lag_events" doc:"Records of the log that are not applied"`
	LagSeconds float64           `json:"lag_seconds" doc:"How long the oldest of them has been waiting, since its event was recorded; 0 when there is none"`
	Parked     int               `json:"parked" doc:"Keys that wait because one of their events could not be applied"`
	Partitions []PartitionStatus `json:"partitions" nullable:"false"`
	// LastRebuild is how the version was built; nil: it began with the log.
	LastRebuild *LastRebuild `json:"last_rebuild,omitempty"`
}

// LastRebuild tells of a rebuild that was done.
type LastRebuild struct {
	RunID   string    `json:"run_id"`
	EndedAt time.Time `json:"ended_at"`
	Seconds float64   `json:"seconds"`
	Events  int64     `json:"events"`
	Rows    int64     `json:"rows"`
	Rate    int64     `json:"rate" doc:"Events a second"`
}

// PartitionStatus is one partition of one projection.
type PartitionStatus struct {
	Topic      string     `json:"topic"`
	Part       int32      `json:"part"`
	State      string     `json:"state" enum:"well,behind,filling,waiting,stuck"`
	Position   uint64     `json:"position" doc:"Of the last event applied, in the store"`
	NextOffset int64      `json:"next_offset"`
	LogEnd     int64      `json:"log_end" doc:"Where the partition ends in Kafka"`
	LagEvents  int64      `json:"lag_events"`
	LagSeconds float64    `json:"lag_seconds"`
	MovedAt    *time.Time `json:"moved_at" doc:"When the target was last written; null when it does not tell"`
	WayMillis  *float64   `json:"way_ms" doc:"From the last event's time in the store to its commit in the target"`
	Epoch      int64      `json:"epoch" doc:"Grows with every owner"`
}

// Overview is every projection, and where the events before them are.
type Overview struct {
	Items         []Status `json:"items" nullable:"false"`
	NextCursor    *string  `json:"next_cursor" doc:"Always null: there are few"`
	StorePosition uint64   `json:"store_position" doc:"Of the store's last event"`
	RelayPosition *uint64  `json:"relay_position" doc:"How far the relay has carried the store to Kafka; null when another process leads"`
	// Behind these two the log's end follows, and each projection's lag behind that.
	RelayLagEvents  *uint64  `json:"relay_lag_events" doc:"Positions of the store that are not in Kafka; null when another process leads"`
	RelayLagSeconds *float64 `json:"relay_lag_seconds" doc:"Age of the oldest of them; null when another process leads"`
}

// ErrUnknown is a projection or a parked key that there is not.
var ErrUnknown = errors.New("unknown")

// Parked lists the parked keys of a projection, the oldest first. The error is ErrUnknown for a name that nobody has.
func (a *Projections) Parked(ctx context.Context, name string) ([]engine.Parked, error) {
	p, err := a.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.Parking.List(ctx, p)
}

// Retry asks that a parked key be tried again. The error is ErrUnknown when there is no such projection or key.
func (a *Projections) Retry(ctx context.Context, name, key string) error {
	p, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	found, err := a.Parking.Retry(ctx, p, key)
	if err == nil && !found {
		err = fmt.Errorf("%w: %q is not parked in %s", ErrUnknown, key, name)
	}
	return err
}

// RetryByCause asks it for every key that is parked for a cause; "" is all of them. It answers how many there are.
func (a *Projections) RetryByCause(ctx context.Context, name, cause string) (n int, err error) {
	p, err := a.find(ctx, name)
	if err != nil {
		return 0, err
	}
	if cause != "" {
		return a.Parking.RetryByCause(ctx, p, cause)
	}
	parked, err := a.Parking.List(ctx, p)
	if err != nil {
		return 0, err
	}
	for _, k := range parked {
		found, err := a.Parking.Retry(ctx, p, k.Key)
		if err != nil {
			return n, err
		}
		if found {
			n++
		}
	}
	return n, nil
}

// find finds a version by its ID, or by the projection's name the one that serves.
func (a *Projections) find(ctx context.Context, name string) (engine.Projection, error) {
	origin := name
	for _, p := range a.Of {
		if p.Name == name {
			origin = p.Origin().Name
		}
	}
	serves, pointed, err := engine.ActiveVersion(ctx, a.Parking.DB.Reader(), origin)
	if err != nil {
		return engine.Projection{}, err
	}
	for _, p := range a.Of {
		if p.ID() == name || p.Name+"@"+strconv.Itoa(p.Version) == name || p.Name == name && (!pointed || p.Version == serves) {
			return p, nil
		}
	}
	return engine.Projection{}, fmt.Errorf("%w: no projection is called %q", ErrUnknown, name)
}
