package admin

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

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
	look := survey{Projections: a, now: a.now(), ends: ends, placed: placed}
	for _, p := range a.Of {
		s, err := look.status(ctx, p, states[p.Origin().ID()])
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

// places reads where every partition stands: all SQL projections in one snapshot. Where views stand, Redis is asked.
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

// survey is one look at all projections.
type survey struct {
	*Projections
	now    time.Time
	ends   map[Partition]int64
	placed map[place]engine.Place
	away   error // why Redis did not answer: what does not answer once is not waited for again
}

func (a *survey) status(ctx context.Context, p engine.Projection, state engine.State) (Status, error) {
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
	parked, err := a.parked(ctx, p)
	if err != nil {
		return s, err
	}
	if p.Target == engine.Redis && a.away != nil {
		s.State, s.Detail = Away, "Redis does not answer: "+a.away.Error()
		return s, nil //nolint:nilerr // the row says it
	}
	s.Parked = len(parked)
	behind := map[Partition]int64{}
	for at, end := range a.ends {
		if !slices.Contains(p.Topics, at.Topic) {
			continue
		}
		here, found := a.placed[place{p.ID(), at}]
		one := partitionStatus(at, here, found, end, a.now)
		s.Partitions = append(s.Partitions, one)
		s.LagEvents += one.LagEvents
		s.State = worse(s.State, one.State)
		if one.LagEvents > 0 {
			behind[at] = one.NextOffset
		}
	}
	if len(behind) > 0 {
		oldest, err := a.Oldest(ctx, behind)
		if err != nil {
			return s, err
		}
		for i := range s.Partitions {
			one := &s.Partitions[i]
			if at, found := oldest[Partition{one.Topic, one.Part}]; found {
				one.LagSeconds = max(0, a.now.Sub(at).Seconds()) // two clocks: ours, and the store's
				s.LagSeconds = max(s.LagSeconds, one.LagSeconds)
			}
		}
	}
	if state == engine.Paused {
		s.State = Paused
	}
	slices.SortFunc(s.Partitions, func(a, b PartitionStatus) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Part, b.Part))
	})
	return s, nil
}

// parked lists the keys that wait. Of a view it reads where its partitions stand, too: that Redis does not answer is no error,
// but away.
func (a *survey) parked(ctx context.Context, p engine.Projection) ([]engine.Parked, error) {
	if p.Target != engine.Redis {
		return a.Parking.List(ctx, p)
	}
	if a.away != nil {
		return nil, nil
	}
	asking, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	out, err := a.Parking.List(asking, p)
	for at := range a.ends {
		if err != nil {
			break
		}
		if !slices.Contains(p.Topics, at.Topic) {
			continue
		}
		var here engine.Place
		var found bool
		if here, found, err = engine.ViewPlace(asking, a.Parking.Redis, p, at.Topic, at.Part); found {
			a.placed[place{p.ID(), at}] = here
		}
	}
	if a.away = err; ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return out, nil
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
	return s
}

func worse(a, b string) string {
	order := []string{Well, Behind, Filling, Waiting, Stuck}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}
