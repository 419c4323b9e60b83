package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// probes are what a running process knows of itself and of its servers.
func (n *node) probes() []probe {
	probes := []probe{
		{"event store", n.probeStore},
		{"kafka topics", func(ctx context.Context) (string, error) { return probeTopics(ctx, n.servers) }},
		{"reads database", func(ctx context.Context) (string, error) { return probeReads(ctx, n.reads) }},
		{"redis", func(ctx context.Context) (string, error) { return probeRedis(ctx, n.redis) }},
	}
	if n.relay != nil {
		probes = append(probes, probe{"relay", n.probeRelay})
	}
	for _, r := range n.runners {
		probes = append(probes, probe{"projection " + r.Projection.Name, func(context.Context) (string, error) { return probeRunner(r) }})
	}
	return probes
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

func probeRunner(r *engine.Runner) (string, error) {
	var lag int64
	partitions := r.Status()
	for _, s := range partitions {
		if s.Error != "" {
			return "", fmt.Errorf("%s/%d stands still since %s: %s", s.Topic, s.Part, s.Since.UTC().Format("15:04:05"), s.Error)
		}
		lag += s.Lag()
	}
	return fmt.Sprintf("%s: %d partitions here, %d records behind", r.Projection.ID(), len(partitions), lag), nil
}

func probeTopics(ctx context.Context, s config.Servers) (string, error) {
	if err := topicsOf(s).Check(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("there, %d partitions each", s.Topics.Partitions), nil
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
		{"event store", func(ctx context.Context) (string, error) { return probeEvents(ctx, s.Events) }},
		{"kafka topics", func(ctx context.Context) (string, error) { return probeTopics(ctx, s) }},
		{"reads database", func(ctx context.Context) (string, error) {
			db, err := reads.Open(ctx, s.Reads)
			if err != nil {
				return "", err
			}
			detail, err := probeReads(ctx, db)
			return detail, errors.Join(err, db.Close())
		}},
		{"projections", func(ctx context.Context) (string, error) { return probePlaces(ctx, s.Reads) }},
		{"redis", func(ctx context.Context) (string, error) {
			options, err := redis.ParseURL(s.Redis)
			if err != nil {
				return "", errors.New("--redis is not a valid redis:// URL")
			}
			c := redis.NewClient(options)
			detail, err := probeRedis(ctx, c)
			return detail, errors.Join(err, c.Close())
		}},
	}
}

// probePlaces reads how far each projection is.
func probePlaces(ctx context.Context, url string) (string, error) {
	db, err := reads.Open(ctx, url)
	if err != nil {
		return "", err
	}
	var places []engine.Place
	err = db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		places, err = engine.Places(ctx, q)
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return "", err
	}
	if len(places) == 0 {
		return "", errors.New("no projection has begun: run `salon serve projector`")
	}
	var last uint64
	for _, p := range places {
		last = max(last, p.LastPos)
	}
	return fmt.Sprintf("%d partitions of projections claimed, the furthest at position %d", len(places), last), nil
}

// probeEvents looks at an event store on a server. A SQLite file belongs to its process, which is asked instead.
func probeEvents(ctx context.Context, url string) (string, error) {
	if strings.HasPrefix(url, "sqlite:") {
		return "", errors.New("a SQLite event store belongs to its process: run doctor with --data, without --events")
	}
	s, err := postgres.Open(ctx, postgres.Config{URL: url})
	if err != nil {
		return "", err
	}
	head, err := s.Head(ctx)
	if err = errors.Join(err, s.Close()); err != nil {
		return "", err
	}
	return fmt.Sprintf("head at position %d, incarnation %s", head.Position, head.Incarnation), nil
}
