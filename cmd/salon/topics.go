package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/config"
)

type topicsCmd struct {
	Ensure topicsEnsureCmd `cmd:"" help:"Make the topics that are missing, then check them all."`
	Check  topicsCheckCmd  `cmd:"" help:"Say what is wrong with the topics, and what to do."`
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
	if err := topics.Check(ctx); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s are as they should be, with %d partitions each.\n", strings.Join(wire.Topics(), " and "), topics.Partitions)
	return nil
}
