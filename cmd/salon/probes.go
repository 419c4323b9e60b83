package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/reactors"
	"github.com/dangdangsalon/salon/readapi/live"
)

// probes are what a running process knows of itself and of its servers.
func (n *node) probes() []probe {
	probes := []probe{
		{part: "event store", look: n.probeStore},
		{part: "kafka topics", look: func(ctx context.Context) (string, error) { return probeTopics(ctx, n.servers) }},
		{part: "reads database", look: func(ctx context.Context) (string, error) { return probeReads(ctx, n.reads) }},
		{part: "redis", look: func(ctx context.Context) (string, error) { return probeRedis(ctx, n.redis) }},
	}
	if n.sealing != nil {
		probes = append(probes, probe{part: "seals", look: func(ctx context.Context) (string, error) {
			return n.sealing.probe(ctx, time.Now())
		}})
	}
	if n.relay != nil {
		probes = append(probes, probe{part: "relay", look: n.probeRelay})
	}
	for _, r := range n.runners {
		probes = append(probes, probe{part: "projection " + r.Projection.Name, look: func(ctx context.Context) (string, error) { return n.probeRunner(ctx, r) }})
	}
	if n.firer != nil {
		probes = append(probes, probe{part: "reactor", look: func(context.Context) (string, error) { return probeFirer(n.firer.Status(), time.Now()) }})
	}
	if n.live != nil {
		probes = append(probes, probe{part: "live", look: func(context.Context) (string, error) { return probeLive(n.live.Status()) }})
	}
	return probes
}

func probeLive(s live.Status) (string, error) {
	switch {
	case !s.Placed:
		return "", errors.New(notPlaced(s))
	case s.Trouble != "":
		return "", fmt.Errorf("does not follow the log at the moment: %s", s.Trouble)
	}
	return fmt.Sprintf("%d sockets; remembers %d rooms, %d KiB of messages", s.Sockets, s.Rooms, s.WindowBytes>>10), nil
}

func (n *node) probeStore(ctx context.Context) (string, error) {
	head, err := n.store.Head(ctx)
	if err != nil {
		return "", fmt.Errorf("does not answer: %w", err)
	}
	return fmt.Sprintf("head at position %d, incarnation %s", head.Position, head.Incarnation), nil
}

func (n *node) probeRelay(ctx context.Context) (string, error) {
	if !n.relay.Leading() {
		if n.alone {
			return "", errors.New("does not lead: its log says why")
		}
		return "waits: another process leads, or Kafka is away", nil
	}
	head, err := n.store.Head(ctx)
	if err != nil {
		return "", err
	}
	at := n.relay.Position()
	return fmt.Sprintf("leads; position %d of %d", at, head.Position), nil
}

func (n *node) probeRunner(ctx context.Context, r *engine.Runner) (string, error) {
	if stuck := n.movement.stuck(r.Projection.ID(), time.Now()); len(stuck) > 0 {
		return "", errors.New(strings.Join(stuck, "; "))
	}
	var lag int64
	partitions := r.Status()
	for _, s := range partitions {
		if s.Error != "" {
			return "", fmt.Errorf("%s/%d stands still since %s: %s", s.Topic, s.Part, s.Since.UTC().Format("15:04:05"), s.Error)
		}
		lag += s.Lag()
	}
	if len(partitions) == 0 {
		state, err := engine.StateOf(ctx, n.reads.Reader(), r.Projection)
		switch {
		case err != nil:
			return "", err
		case state == engine.Paused:
			paused := fmt.Sprintf("%s: paused; salon projections resume %s@%d", r.Projection.ID(), r.Projection.Name, r.Projection.Version)
			if serves, _, err := engine.ActiveVersion(ctx, n.reads.Reader(), r.Projection.Name); err != nil || serves == r.Projection.Version {
				return "", errors.Join(errors.New(paused+", which serves"), err)
			}
			return paused, nil
		case state == engine.Building:
			return r.Projection.ID() + ": is being built", nil
		case state != engine.Live:
			return r.Projection.ID() + ": waits for its rebuild", nil
		}
		return r.Projection.ID() + ": live; this process has none of its partitions, or is about to take them", nil
	}
	return fmt.Sprintf("%s: %d partitions here, %d records behind", r.Projection.ID(), len(partitions), lag), nil
}

// tooLate is how long something may be due before somebody should look: a minute is many passes of a reactor.
const tooLate = time.Minute

func probeFirer(s reactors.Status, now time.Time) (string, error) {
	switch late := s.Late(now).Round(time.Second); {
	case s.Error != "":
		return "", fmt.Errorf("does not fire: %s", s.Error)
	case late > tooLate:
		return "", fmt.Errorf("%d due, the oldest for %v: its log says why", s.Due, late)
	case s.Due > 0:
		return fmt.Sprintf("%d due, the oldest for %v", s.Due, late), nil
	}
	return "nothing due", nil
}

// probeOverdue looks at what is due from outside: somebody has to fire it.
func probeOverdue(ctx context.Context, url string) (string, error) {
	db, err := reads.Open(ctx, url)
	if err != nil {
		return "", err
	}
	now := time.Now()
	s := reactors.Status{At: now}
	err = db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		s.Due, s.Oldest, err = reactors.Overdue(ctx, q, now)
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return "", err
	}
	if late := s.Late(now).Round(time.Second); late > tooLate {
		return "", fmt.Errorf("%d due, the oldest for %v: does `salon serve reactor` run?", s.Due, late)
	}
	return probeFirer(s, now)
}

func probeTopics(ctx context.Context, s config.Servers) (string, error) {
	warnings, err := topicsOf(s).Check(ctx)
	if err != nil {
		return "", err
	}
	return strings.Join(append([]string{fmt.Sprintf("there, %d partitions each", s.Topics.Partitions)}, warnings...), "; "), nil
}

func probeReads(ctx context.Context, db *reads.DB) (string, error) {
	if err := db.Ping(ctx); err != nil {
		return "", fmt.Errorf("does not answer: %w", err)
	}
	if err := db.Check(ctx); err != nil {
		return "", err
	}
	var serverVersion string
	query := "SELECT VERSION()"
	if db.Dialect() == reads.SQLite {
		query = "SELECT 'SQLite ' || sqlite_version()"
	}
	err := db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		return q.QueryRowContext(ctx, query).Scan(&serverVersion)
	})
	if err != nil {
		return "", err
	}
	return serverVersion + ", schema up to date", nil
}

func probeRedis(ctx context.Context, c *redis.Client) (string, error) {
	if err := c.Ping(ctx).Err(); err != nil {
		return "", fmt.Errorf("does not answer: %w", err)
	}
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		return "answers", nil //nolint:nilerr // the embedded one tells no version
	}
	return "version " + info["Server"]["redis_version"], nil
}

// serverProbes look at real servers from outside, without a running process.
func serverProbes(s config.Servers) []probe {
	return []probe{
		{part: "event store", look: func(ctx context.Context) (string, error) { return probeEvents(ctx, s.Events) }},
		{part: "seals", look: func(ctx context.Context) (string, error) { return probeSealsOf(ctx, s.Events, time.Now()) }},
		{part: "kafka topics", look: func(ctx context.Context) (string, error) { return probeTopics(ctx, s) }},
		{part: "reads database", look: func(ctx context.Context) (string, error) {
			db, err := reads.Open(ctx, s.Reads)
			if err != nil {
				return "", err
			}
			detail, err := probeReads(ctx, db)
			return detail, errors.Join(err, db.Close())
		}},
		{part: "projections", look: func(ctx context.Context) (string, error) { return probePlaces(ctx, s) }},
		{part: "reactor", look: func(ctx context.Context) (string, error) { return probeOverdue(ctx, s.Reads) }},
		{part: "redis", look: func(ctx context.Context) (string, error) {
			c, err := newRedis(s.Redis)
			if err != nil {
				return "", err
			}
			detail, err := probeRedis(ctx, c)
			return detail, errors.Join(err, c.Close())
		}},
	}
}

// probePlaces reads how far each projection is, and complains about what is behind and does not move. Doctor writes
// nothing, so this is not recorded.
func probePlaces(ctx context.Context, s config.Servers) (detail string, err error) {
	err = withServers(ctx, s, needs{kafka: true, redis: true}, func(n *node) error {
		all, err := n.projections().List(ctx)
		if err != nil {
			return err
		}
		var stuck []string
		var lag int64
		waiting, parked := 0, 0
		for _, one := range all.Items {
			lag, parked = lag+one.LagEvents, parked+one.Parked
			switch one.State {
			case admin.Waiting:
				waiting++
			case admin.Stuck:
				stuck = append(stuck, fmt.Sprintf("%s is %d records and %.0f s behind and does not move", one.Name, one.LagEvents, one.LagSeconds))
			}
		}
		if waiting == len(all.Items) {
			return errors.New("no projection has begun: run `salon serve projector`")
		}
		detail = fmt.Sprintf("%d projections, %d records behind, %d keys parked", len(all.Items), lag, parked)
		if len(stuck) > 0 {
			return errors.New(strings.Join(stuck, "; "))
		}
		return nil
	})
	return detail, err
}

// probeEvents looks at an event store on a server. A SQLite file belongs to its process, which is asked instead.
func probeEvents(ctx context.Context, url string) (string, error) {
	if strings.HasPrefix(url, "sqlite:") {
		return "", errors.New("a SQLite event store belongs to its process: run doctor with --data, without --events")
	}
	s, err := openEvents(ctx, url, nil)
	if err != nil {
		return "", err
	}
	head, err := s.Head(ctx)
	if err = errors.Join(err, s.Close()); err != nil {
		return "", err
	}
	return fmt.Sprintf("head at position %d, incarnation %s", head.Position, head.Incarnation), nil
}

// probeEveryEvent reads the whole of an event store on a server.
func probeEveryEvent(ctx context.Context, url string, log io.Writer) (detail string, err error) {
	if strings.HasPrefix(url, "sqlite:") {
		return "", errors.New("a SQLite event store belongs to its process: run doctor with --data, without --events")
	}
	s, err := openEvents(ctx, url, nil)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return everyEvent(ctx, s, !withoutSchema(url), log) // EventStoreDB is the one without a schema, and without density
}

// fullProbe is what --full adds.
func fullProbe(look func(ctx context.Context) (string, error)) probe {
	return probe{part: "every event", long: true, look: look}
}

// everyEvent holds every event of a store to its hash, its place in its stream, and its position; dense says that
// positions may have no holes.
func everyEvent(ctx context.Context, s eventstore.Store, dense bool, log io.Writer) (string, error) {
	head, err := s.Head(ctx)
	if err != nil {
		return "", err
	}
	back, err := eventstore.LoadedBack(ctx, s)
	if err != nil {
		return "", err
	}
	check := eventstore.Check{Dense: dense, Back: back, Whole: true}
	said := time.Now()
	for r, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return "", err
		}
		if err := check.Next(r); err != nil {
			return "", err
		}
		if now := time.Now(); now.Sub(said) > time.Second {
			fmt.Fprintf(log, "every event: at position %d of %d\n", r.Position, head.Position)
			said = now
		}
	}
	if check.Last() < head.Position {
		return "", fmt.Errorf("%w: the last position is %d, the head says %d", eventstore.ErrDamaged, check.Last(), head.Position)
	}
	return fmt.Sprintf("%d events, each in its place and as it was stored", check.Events()), nil
}
