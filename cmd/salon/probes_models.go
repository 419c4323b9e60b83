package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/audit/doctor"
	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/reactors/notify"
)

// The read models: where they stand, what waits, and whether their rows are what the history makes of them.

// surveyed reads where everything stands, and then the ends and the head, which so are not before it.
func (s *patient) surveyed(ctx context.Context) (admin.Overview, error) {
	return s.survey.get(func() (admin.Overview, error) {
		if s.alone { // just started, it is about to note where it stands
			if _, err := s.claimed(ctx); err != nil {
				return admin.Overview{}, err
			}
		}
		all, err := s.projections().List(ctx)
		if err != nil {
			return all, err
		}
		head, err := s.store.Head(ctx)
		if err != nil {
			return all, err
		}
		var topics []string
		for _, p := range allProjections() {
			topics = append(topics, p.Topics...)
		}
		ends, err := s.ends(ctx, topics)
		all.StorePosition = head.Position
		for _, one := range all.Items {
			for i := range one.Partitions {
				at := &one.Partitions[i]
				at.LogEnd = ends[admin.Partition{Topic: at.Topic, Part: at.Part}]
			}
		}
		return all, err
	})
}

func (s *patient) probeOffsets(ctx context.Context) (string, error) {
	all, err := s.surveyed(ctx)
	if err != nil {
		return "", err
	}
	return doctor.Offsets(all)
}

// listed is how many of what waits, or differs, a finding lists of each version.
const listed = 5

// probeParked lists the keys that wait in projections, and the notifications that wait.
func (s *patient) probeParked(ctx context.Context) (string, error) {
	all, err := s.surveyed(ctx)
	if err != nil {
		return "", err
	}
	var wrong []error
	parking := engine.Parking{DB: s.reads, Redis: s.redis}
	for _, one := range all.Items {
		if one.Parked == 0 {
			continue
		}
		p, _ := projectionAt(one.Name, one.Version)
		keys, err := parking.List(ctx, p)
		if err != nil {
			return "", err
		}
		for i, k := range keys {
			if i == listed {
				wrong = append(wrong, fmt.Errorf("%s@%d: %d keys more are parked: `salon projections parked %s@%d` lists them", one.Name, one.Version, len(keys)-i, one.Name, one.Version))
				break
			}
			wrong = append(wrong, fmt.Errorf("%s@%d: key %s waits since position %d (%s): %s; with what mends that deployed, run `salon projections retry %s@%d %s`",
				one.Name, one.Version, k.Key, k.FromPos, k.EventType, k.Cause, one.Name, one.Version, word(k.Key)))
		}
	}
	notes, err := notify.Parking{DB: s.reads.Writer()}.List(ctx, listed)
	if err != nil {
		return "", err
	}
	for _, n := range notes {
		wrong = append(wrong, fmt.Errorf("a notification of %s to %s waits since %s: %s; run `salon notifications retry`", n.EventType, n.Receiver, n.ParkedAt.Format(time.RFC3339), n.Cause))
	}
	return "no keys and no notifications wait", errors.Join(wrong...)
}

func projectionAt(name string, version int) (engine.Projection, bool) {
	for _, p := range allProjections() {
		if p.Name == name {
			return p.At(version)
		}
	}
	return engine.Projection{}, false
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9._:@/+-]+$`)

// word is a text as a shell takes it.
func word(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (s *patient) holding() rebuild.Holding {
	return rebuild.Holding{DB: s.reads, Redis: s.redis, Store: s.store, Scans: !s.dense(), Codec: codec()}
}

// keptVersions are the versions of a target that have rows.
func (s *patient) keptVersions(ctx context.Context, target engine.Target) (kept []engine.Projection, err error) {
	states, err := engine.States(ctx, s.reads.Reader())
	for _, p := range engine.AllVersions(allProjections()) {
		if p.Target == target && states[p.Origin().ID()].Kept() {
			kept = append(kept, p)
		}
	}
	return kept, err
}

// compared is what a comparison with the store came to.
type compared struct {
	versions, keys int
	rows           int64
	wrong          []error
}

// add takes the report of one version.
func (c *compared) add(p engine.Projection, r *rebuild.Report) {
	c.versions++
	c.keys, c.rows = max(c.keys, r.Refolded), c.rows+r.Rows
	for i, u := range r.Listed {
		if i == listed {
			break
		}
		what := fmt.Sprintf("%s@%d: row %s of %s (key %s)", p.Name, p.Version, u.Row, u.Table, u.Key)
		if len(u.Columns) > 0 {
			what += ", " + strings.Join(u.Columns, " and ")
		}
		what += ": " + u.Why
		if u.Event != nil {
			what += fmt.Sprintf(", where %s at position %d changed it last", u.Event.Type, u.Event.Position)
		}
		origin := p.Origin()
		c.wrong = append(c.wrong, fmt.Errorf("%s; run `salon projections rebuild %s@%d --key %s`", what, origin.Name, origin.Version, word(u.Key)))
	}
	if more := r.Differ - int64(min(listed, len(r.Listed))); more > 0 {
		c.wrong = append(c.wrong, fmt.Errorf("%s@%d: %d rows more differ", p.Name, p.Version, more))
	}
}

func (c *compared) told(full bool, inTime bool) (string, error) {
	detail := fmt.Sprintf("every row of %d versions is as a fold of the store has it", c.versions)
	switch {
	case full:
	case c.versions == 0 && inTime:
		detail = "there are no rows to compare"
	case !inTime:
		detail = fmt.Sprintf("of %d versions those rows that there was time for are as a fold of the store has them; `salon doctor --full` compares all", c.versions)
	default:
		detail = fmt.Sprintf("the rows of %d ordering keys in %d versions are as a fold of the store has them", c.keys, c.versions)
	}
	return detail, errors.Join(c.wrong...)
}

// scans says that keys are not drawn from a store that reads all it has for each.
const scans = "not compared: EventStoreDB reads its whole log for one key; `salon doctor --full` compares all"

// hold runs hold for each version with the keys that it may have; with none where all are held.
func (s *patient) hold(ctx context.Context, target engine.Target, full bool, hold func(ctx context.Context, p engine.Projection, topic string, keys []string) (*rebuild.Report, error)) (string, error) {
	kept, err := s.keptVersions(ctx, target)
	if err != nil {
		return "", err
	}
	of := map[string][]string{}
	if !full {
		if !s.dense() {
			return scans, nil
		}
		keys, err := s.draw(ctx)
		if err != nil {
			return "", err
		}
		for _, k := range keys {
			of[k.Topic] = append(of[k.Topic], k.Key)
		}
		if at, limited := ctx.Deadline(); limited { // what was compared is told in time
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, at.Add(-time.Until(at)/4))
			defer cancel()
		}
	}
	out, inTime := &compared{}, true
	for _, p := range kept {
		for _, topic := range p.Topics {
			if !full && len(of[topic]) == 0 {
				continue
			}
			report, err := hold(ctx, p, topic, of[topic])
			if err != nil && (ctx.Err() == nil || full) {
				return "", errors.Join(append(out.wrong, fmt.Errorf("%s@%d: %w", p.Name, p.Version, err))...)
			}
			inTime = inTime && err == nil
			out.add(p, report)
			if full {
				break // of all topics at once
			}
		}
	}
	return out.told(full, inTime)
}

// probeRows holds rows of tables to a fold of the store.
func (s *patient) probeRows(full bool) look {
	return func(ctx context.Context) (string, error) {
		return s.hold(ctx, engine.SQL, full, func(ctx context.Context, p engine.Projection, _ string, keys []string) (*rebuild.Report, error) {
			if full {
				return s.holding().All(ctx, p)
			}
			return s.holding().Keys(ctx, p, keys)
		})
	}
}

// probeViews does it in Redis.
func (s *patient) probeViews(full bool) look {
	return func(ctx context.Context) (string, error) {
		detail, err := "", error(nil)
		hold := func(ctx context.Context, p engine.Projection, topic string, keys []string) (*rebuild.Report, error) {
			if full {
				return s.holding().ViewAll(ctx, p)
			}
			return s.holding().ViewKeys(ctx, p, topic, keys)
		}
		settles(ctx, func() bool { // one that is being filled is soon whole
			detail, err = s.hold(ctx, engine.Redis, full, hold)
			return !errors.Is(err, rebuild.ErrNotWhole)
		})
		if errors.Is(err, rebuild.ErrNotWhole) {
			err = fmt.Errorf("%w; run `salon serve projector`, which fills it", err)
		}
		return detail, err
	}
}
