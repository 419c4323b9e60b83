package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Kafka: the topics, who writes them and who has them.

func (s *patient) probeTopics(ctx context.Context) (string, error) {
	topics := topicsOf(s.servers)
	warnings, err := topics.Check(ctx)
	if err != nil {
		return "", err
	}
	replicas, short, err := topics.Replicas(ctx)
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("%s are there, with %d partitions each and %d replicas of each", strings.Join(wire.Topics(), " and "), topics.Partitions, replicas)
	return strings.Join(append(append([]string{seen}, warnings...), short...), "\n"), nil
}

// unrelayed is how long an event may be on its way to the log.
const unrelayed = 10 * time.Second

// probeRelay looks who leads, and how the log stands beside the store.
func (s *patient) probeRelay(ctx context.Context) (string, error) {
	who, err := s.relayLeader(ctx)
	if err != nil && who == "" {
		return "", err
	}
	nobody := err
	t, err := s.readTail(ctx)
	if err != nil {
		return "", err
	}
	look := relay.Relay{Store: s.store, Brokers: s.servers.Brokers(), Partitions: s.servers.Topics.Partitions, TopicPrefix: s.servers.Topics.TopicPrefix}
	log, err := look.Survey(ctx, t.Events)
	if errors.As(err, new(*relay.RestoredError)) {
		return "", errors.Join(fmt.Errorf("%w: delete the topics, then run `salon topics ensure`", err), nobody)
	}
	if err != nil {
		return "", errors.Join(err, nobody)
	}
	wrong := []error{nobody}
	for _, m := range log.Missing {
		wrong = append(wrong, fmt.Errorf("%s: the broker lost it; a relay that starts writes it again: restart `salon serve relay`", m))
	}
	if log.Behind > unrelayed && nobody == nil {
		wrong = append(wrong, fmt.Errorf("position %d of %d, an event has waited for %v: the relay's log says why; restart `salon serve relay`", log.Position, log.Head, log.Behind.Round(time.Second)))
	}
	detail := fmt.Sprintf("%s; the log has position %d of %d", who, log.Position, log.Head)
	if log.Behind > 0 {
		detail += fmt.Sprintf(", the oldest event behind it is %v old", log.Behind.Round(time.Millisecond))
	}
	return detail, errors.Join(wrong...)
}

// relayLeader tells who leads. The error beside a text is that nobody does.
func (s *patient) relayLeader(ctx context.Context) (string, error) {
	if s.relay != nil && s.alone {
		if !settles(ctx, s.relay.Leading) {
			return "nobody leads", errors.New("does not lead: its log says why; restart `salon up`")
		}
		return "leads", nil
	}
	host, relays, err := topicsOf(s.servers).Leader(ctx)
	switch {
	case err != nil:
		return "", err
	case host == "":
		return "nobody leads", errors.New("no relay leads, so what is decided reaches no read model: run `salon serve relay`")
	}
	return fmt.Sprintf("one of %d leads, on %s", relays, host), nil
}

// probeClaims looks whether each partition of each version that is live has an owner that is alive: in this process, or in
// the consumer groups.
func (s *patient) probeClaims(ctx context.Context) (string, error) {
	c, err := s.claimed(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d partitions of %d versions, each with an owner that is alive", c.owned, c.versions), errors.Join(c.wrong...)
}

// claimed is what was found of claims.
type claimed struct {
	versions, owned int
	wrong           []error // of each version that has partitions without an owner
}

// claimed looks until all that are live have owners, or most of the time is over: somebody may be about to take them.
func (s *patient) claimed(ctx context.Context) (claimed, error) {
	return s.claims.get(func() (c claimed, err error) {
		settles(ctx, func() bool {
			c, err = s.lookAtClaims(ctx)
			return err != nil || len(c.wrong) == 0
		})
		return c, err
	})
}

// settles asks until something that may be on its way has come, or half of the time is over.
func settles(ctx context.Context, has func() bool) bool {
	left := time.Minute
	if at, limited := ctx.Deadline(); limited {
		left = time.Until(at) / 2
	}
	over := time.After(left)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !has() {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return false
		case <-tick.C:
		}
	}
	return true
}

func (s *patient) lookAtClaims(ctx context.Context) (c claimed, err error) {
	var live []engine.Projection
	counts := map[string]int{}
	err = s.reads.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		states, err := engine.States(ctx, q)
		if err != nil {
			return err
		}
		for _, p := range engine.AllVersions(allProjections()) {
			if states[p.Origin().ID()] == engine.Live {
				live = append(live, p)
			}
		}
		for _, topic := range wire.Topics() {
			if counts[topic], err = engine.Partitions(ctx, q, topic); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	owned, err := s.owned(ctx, live)
	if err != nil {
		return c, err
	}
	c.versions = len(live)
	for _, p := range live {
		var without []string
		for _, topic := range p.Topics {
			if counts[topic] == 0 {
				without = append(without, topic)
			}
			for part := range int32(counts[topic]) { //nolint:gosec // a partition count
				if owned[claimOf{p.ID(), topic, part}] {
					c.owned++
				} else {
					without = append(without, fmt.Sprintf("%s/%d", topic, part))
				}
			}
		}
		if len(without) > 0 {
			c.wrong = append(c.wrong, fmt.Errorf("%s@%d: nobody projects %s: run `salon serve projector`", p.Name, p.Version, strings.Join(without, ", ")))
		}
	}
	return c, nil
}

type claimOf struct {
	projection, topic string
	part              int32
}

// owned are the partitions that somebody who is alive has.
func (s *patient) owned(ctx context.Context, live []engine.Projection) (map[claimOf]bool, error) {
	owned := map[claimOf]bool{}
	if s.alone {
		for _, r := range s.runners {
			for _, at := range r.Status() {
				owned[claimOf{at.Projection, at.Topic, at.Part}] = true
			}
		}
		return owned, nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.servers.Brokers()...), kgo.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	defer client.Close()
	prefix := s.servers.Topics.TopicPrefix
	var groups []string
	of := map[string]string{}
	for _, p := range live {
		for _, topic := range p.Topics {
			group := engine.GroupOf(p, prefix, topic)
			groups, of[group] = append(groups, group), p.ID()
		}
	}
	if len(groups) == 0 {
		return owned, nil
	}
	described, err := kadm.NewClient(client).DescribeGroups(ctx, groups...)
	for _, g := range described {
		if err == nil && !errors.Is(g.Err, kerr.GroupIDNotFound) { // there never was one
			err = g.Err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask Kafka at %s who projects: %w", s.servers.Kafka, err)
	}
	for name, g := range described {
		for topic, parts := range g.AssignedPartitions() {
			for part := range parts {
				owned[claimOf{of[name], strings.TrimPrefix(topic, prefix), part}] = true
			}
		}
	}
	return owned, nil
}
