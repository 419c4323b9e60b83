// Package admin is what operators and analysts see and ask of projections: how far each is, which keys are parked, and
// that a parked key be tried again.
//
// Everything is read from where it is true: offsets and parked keys from the targets, the log's ends from Kafka, the
// head from the store. So any node answers for all, whichever of them runs the projections. A request for a retry is a
// mark that the partition's owner obeys.
package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

// Projections answers about projections. All fields but Relay, RelayLag and Now must be set.
type Projections struct {
	Parking engine.Parking      // reads database and Redis
	Of      []engine.Projection // every version
	// Ends tells where each partition of the topics ends in Kafka.
	Ends func(ctx context.Context, topics []string) (map[Partition]int64, error)
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
)

// Still is how long a partition that is behind may stand before it is called stuck: longer than a rebalance takes.
const Still = 15 * time.Second

// Status is one projection. Lag is what the log has and the projection has not, and how old what it shows is.
type Status struct {
	Name       string            `json:"name"`
	Version    int               `json:"version"`
	Serves     bool              `json:"serves" doc:"Whether reads are answered from this version"`
	Target     string            `json:"target" enum:"sql,redis"`
	State      string            `json:"state" enum:"well,behind,filling,waiting,stuck,absent,building,paused"`
	LagEvents  int64             `json:"lag_events" doc:"Records of the log that are not applied"`
	LagSeconds float64           `json:"lag_seconds" doc:"Age of the last event applied, where there are more; 0 otherwise"`
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

// List reads how every projection is.
func (a *Projections) List(ctx context.Context) (Overview, error) {
	out := Overview{Items: []Status{}}
	var err error
	if out.StorePosition, err = a.Head(ctx); err != nil {
		return out, err
	}
	if a.Relay != nil {
		if at, known := a.Relay(); known {
			out.RelayPosition = &at
			if a.RelayLag != nil {
				behind, age, err := a.RelayLag(ctx)
				if err != nil {
					return out, err
				}
				seconds := age.Seconds()
				out.RelayLagEvents, out.RelayLagSeconds = &behind, &seconds
			}
		}
	}
	var topics []string
	for _, p := range a.Of {
		topics = append(topics, p.Topics...)
	}
	slices.Sort(topics)
	ends, err := a.Ends(ctx, slices.Compact(topics))
	if err != nil {
		return out, err
	}
	placed, versions, states, err := a.places(ctx)
	if err != nil {
		return out, err
	}
	rebuilt, err := a.Versions.LastRebuilds(ctx)
	if err != nil {
		return out, err
	}
	now := a.now()
	for _, p := range a.Of {
		s, err := a.status(ctx, p, states[p.Origin().ID()], ends, placed, now)
		if err != nil {
			return out, err
		}
		s.Serves = versions[p.Origin().Name] == p.Version
		if r, found := rebuilt[p.ID()]; found && s.State != Absent && s.State != Building {
			s.LastRebuild = &LastRebuild{r.ID, r.EndedAt, r.EndedAt.Sub(r.StartedAt).Seconds(), r.Events, r.Rows, r.Rate}
		}
		out.Items = append(out.Items, s)
	}
	return out, nil
}

func (a *Projections) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

type place struct {
	projection string // ID
	Partition
}

// places reads where every partition stands: all SQL projections in one snapshot, each view by itself.
func (a *Projections) places(ctx context.Context) (out map[place]engine.Place, versions map[string]int, states map[string]engine.State, err error) {
	out = map[place]engine.Place{}
	names := make([]string, len(a.Of))
	for i, p := range a.Of {
		names[i] = p.Origin().Name
	}
	err = a.Parking.DB.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		all, err := engine.Places(ctx, q)
		if err != nil {
			return err
		}
		for _, p := range all {
			out[place{p.Projection, Partition{p.Topic, p.Part}}] = p
		}
		if versions, err = engine.ActiveVersions(ctx, q, names); err != nil {
			return err
		}
		states, err = engine.States(ctx, q)
		return err
	})
	return out, versions, states, err
}

func (a *Projections) status(ctx context.Context, p engine.Projection, state engine.State, ends map[Partition]int64, placed map[place]engine.Place, now time.Time) (Status, error) {
	s := Status{Name: p.Name, Version: p.Version, Target: "sql", State: Well, Partitions: []PartitionStatus{}}
	if p.Target == engine.Redis {
		s.Target = "redis"
	}
	switch state {
	case engine.Live, engine.Paused:
	case "":
		s.State = Absent
		return s, nil
	default:
		s.State = Building
		return s, nil
	}
	parked, err := a.Parking.List(ctx, p)
	if err != nil {
		return s, err
	}
	s.Parked = len(parked)
	for at, end := range ends {
		if !slices.Contains(p.Topics, at.Topic) {
			continue
		}
		here, found := placed[place{p.ID(), at}]
		if p.Target == engine.Redis {
			if here, found, err = engine.ViewPlace(ctx, a.Parking.Redis, p, at.Topic, at.Part); err != nil {
				return s, err
			}
		}
		one := partitionStatus(at, here, found, end, now)
		s.Partitions = append(s.Partitions, one)
		s.LagEvents += one.LagEvents
		s.LagSeconds = max(s.LagSeconds, one.LagSeconds)
		s.State = worse(s.State, one.State)
	}
	if state == engine.Paused {
		s.State = Paused
	}
	slices.SortFunc(s.Partitions, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Part, b.Part))
	})
	return s, nil
}

func partitionStatus(at Partition, p engine.Place, found bool, end int64, now time.Time) PartitionStatus {
	s := PartitionStatus{Topic: at.Topic, Part: at.Part, State: Well, LogEnd: end, Position: p.LastPos, NextOffset: p.NextOffset, Epoch: p.Epoch}
	s.LagEvents = max(0, end-p.NextOffset)
	if !p.UpdatedAt.IsZero() {
		s.MovedAt = &p.UpdatedAt
		if !p.LastRecordedAt.IsZero() {
			way := float64(p.UpdatedAt.Sub(p.LastRecordedAt).Microseconds()) / 1000
			s.WayMillis = &way
		}
	}
	switch {
	case !found:
		s.State = Waiting
	case p.Filling:
		s.State = Filling
	case s.LagEvents == 0:
	case s.MovedAt != nil && now.Sub(p.UpdatedAt) > Still:
		s.State = Stuck
	default:
		s.State = Behind
	}
	if s.LagEvents > 0 && !p.LastRecordedAt.IsZero() {
		s.LagSeconds = max(0, now.Sub(p.LastRecordedAt).Seconds())
	}
	return s
}

func worse(a, b string) string {
	order := []string{Well, Behind, Filling, Waiting, Stuck}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

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
