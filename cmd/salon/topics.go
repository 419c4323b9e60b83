package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

type topicsCmd struct {
	Ensure topicsEnsureCmd `cmd:"" help:"Make the topics that are missing, then check them all."`
	Check  topicsCheckCmd  `cmd:"" help:"Say what is wrong with the topics, and what to do."`
	Accept topicsAcceptCmd `cmd:"" help:"Let projections go on with topics that were deleted and made again. Their events are in the event store, and the relay writes them anew."`
}

type topicsFlags struct {
	Kafka         string `help:"Kafka brokers, host:port, comma-separated." placeholder:"HOST:PORT,…"`
	config.Topics `embed:""`
}

func (f topicsFlags) topics() (relay.Topics, error) {
	s := config.Servers{Kafka: f.Kafka, Topics: f.Topics}
	if err := s.Need(false, true, false, false); err != nil {
		return relay.Topics{}, usage(err)
	}
	return topicsOf(s), nil
}

func topicsOf(s config.Servers) relay.Topics {
	return relay.Topics{Brokers: s.Brokers(), Prefix: s.Topics.TopicPrefix, Partitions: s.Topics.Partitions, Replication: s.Topics.Replication}
}

type topicsEnsureCmd struct {
	topicsFlags `embed:""`
}

func (c *topicsEnsureCmd) Run(ctx context.Context, t *terminal) error {
	topics, err := c.topics()
	if err != nil {
		return err
	}
	if err := topics.Ensure(ctx); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s are there with %d partitions each.\n", strings.Join(wire.Topics(), " and "), topics.Partitions)
	return nil
}

type topicsCheckCmd struct {
	topicsFlags `embed:""`
}

func (c *topicsCheckCmd) Run(ctx context.Context, t *terminal) error {
	topics, err := c.topics()
	if err != nil {
		return err
	}
	warnings, err := topics.Check(ctx)
	for _, w := range warnings {
		fmt.Fprintln(t.out, "warning:", w)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s are as they should be, with %d partitions each.\n", strings.Join(wire.Topics(), " and "), topics.Partitions)
	return nil
}

type topicsAcceptCmd struct {
	topicsFlags `embed:""`
	Reads       string `help:"Reads database, mysql://user:password@host:port/database." placeholder:"URL"`
}

func (c *topicsAcceptCmd) Run(ctx context.Context, t *terminal) error {
	s := config.Servers{Kafka: c.Kafka, Reads: c.Reads, Topics: c.Topics}
	if err := s.Need(false, true, true, false); err != nil {
		return usage(err)
	}
	if _, err := topicsOf(s).Check(ctx); err != nil {
		return err
	}
	db, err := reads.Open(ctx, s.Reads)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := engine.AcceptTopics(ctx, db, s.Brokers(), s.Topics.TopicPrefix, wire.Topics()); err != nil {
		return err
	}
	fmt.Fprintln(t.out, "The projections go on, each from the position that it has.")
	return nil
}
