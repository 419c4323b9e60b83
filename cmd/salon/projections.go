package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/engine"
)

type projectionsCmd struct {
	List     projectionsListCmd     `cmd:"" help:"How far every projection is: lag in events and seconds, and what does not move. Exit 1 when one is stuck."`
	Parked   projectionsParkedCmd   `cmd:"" help:"Keys of a projection that wait because one of their events could not be applied."`
	Preview  projectionsPreviewCmd  `cmd:"" help:"Fold a range of events by a version and by the one that serves, in memory, and show what differs. Exit 1 when something does that the projection does not declare."`
	Rebuild  projectionsRebuildCmd  `cmd:"" help:"Build a version from the event store, beside the one that serves. Follows until it keeps up with the log."`
	Verify   projectionsVerifyCmd   `cmd:"" help:"Compare a version with the one that serves, row by row. Exit 1 when they differ."`
	Switch   projectionsSwitchCmd   `cmd:"" help:"Answer reads from another version, which was verified and keeps up."`
	Rollback projectionsRollbackCmd `cmd:"" help:"Answer reads from the version before the last switch again."`
	Drop     projectionsDropCmd     `cmd:"" help:"Remove a version that does not serve, with all its rows."`
	Pause    projectionsPauseCmd    `cmd:"" help:"Let a version's projectors stand still. Reads show what was there then."`
	Resume   projectionsResumeCmd   `cmd:"" help:"Let a paused version's projectors go on."`
	Runs     projectionsRunsCmd     `cmd:"" help:"What was asked of a projection's versions, and what became of it."`
	Cancel   projectionsCancelCmd   `cmd:"" help:"Give up a run. What it made is removed."`

	Retry projectionsRetryCmd `cmd:"" help:"Have parked keys tried again, in order, by whoever runs the projection."`
}

type projectionsListCmd struct {
	whichSystem `embed:""`

	Verbose bool `help:"Each partition by itself, and where the time goes." short:"v"`
}

type projectionsParkedCmd struct {
	Name string `arg:"" help:"The projection: reservations."`

	whichSystem `embed:""`
}

type projectionsRetryCmd struct {
	Name  string `arg:"" help:"The projection: reservations."`
	Key   string `arg:"" optional:"" help:"The ordering key. Without it, and without --cause, all that are parked."`
	Cause string `help:"Every key that is parked for this cause, as parked shows it."`

	whichSystem `embed:""`
}

func (c *projectionsListCmd) Run(ctx context.Context, t *terminal) error {
	var all admin.Overview
	err := c.ask(ctx, needs{kafka: true, redis: true}, func(ctx context.Context, o operations) (err error) { all, err = o.List(ctx); return err })
	if err != nil {
		return err
	}
	if c.Output == "json" {
		err = writeJSON(t.out, all)
	} else {
		err = printOverview(t.out, all, c.Verbose)
	}
	for _, s := range all.Items {
		if s.State == admin.Stuck {
			err = errors.Join(err, fmt.Errorf("%s does not move", s.Name))
		}
	}
	return err
}

func (c *projectionsParkedCmd) Run(ctx context.Context, t *terminal) error {
	parked := []engine.Parked{}
	err := c.ask(ctx, needs{redis: true}, func(ctx context.Context, o operations) error {
		some, err := o.Parked(ctx, c.Name)
		parked = append(parked, some...)
		return err
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, parked)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSINCE\tFROM\tEVENT\tATTEMPTS\tCAUSE")
	for _, p := range parked {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%s\n", p.Key, p.ParkedAt.Format(time.RFC3339), p.FromPos, p.EventType, p.Attempts, p.Cause)
	}
	return w.Flush()
}

func (c *projectionsRetryCmd) Run(ctx context.Context, t *terminal) error {
	if c.Key != "" && c.Cause != "" {
		return usage(errors.New("give a key or --cause, not both"))
	}
	n := 1
	err := c.ask(ctx, needs{redis: true}, func(ctx context.Context, o operations) (err error) {
		if c.Key != "" {
			return o.Retry(ctx, c.Name, c.Key)
		}
		n, err = o.RetryByCause(ctx, c.Name, c.Cause)
		return err
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, admin.Asked{Asked: n})
	}
	_, err = fmt.Fprintf(t.out, "%d keys are tried again; salon projections parked %s shows what is left.\n", n, c.Name)
	return err
}

// projections is what this process can say about projections, its own or not.
func (n *node) projections() *admin.Projections {
	a := &admin.Projections{
		Parking: engine.Parking{DB: n.reads, Redis: n.redis}, Of: engine.AllVersions(allProjections()),
		Ends: n.ends, Versions: n.versions(),
		Oldest: func(ctx context.Context, at map[admin.Partition]int64) (map[admin.Partition]time.Time, error) {
			return recordedAt(ctx, n.servers, at)
		},
		Head: func(ctx context.Context) (uint64, error) {
			head, err := n.store.Head(ctx)
			return head.Position, err
		},
	}
	a.Relay = func() (uint64, bool) {
		if n.relay == nil {
			return 0, false
		}
		return n.relay.Position(), n.relay.Leading()
	}
	a.RelayLag = func(ctx context.Context) (uint64, time.Duration, error) { return n.relay.Lag(ctx) }
	return a
}

// ends tells where the topics' partitions end in Kafka.
func (n *node) ends(ctx context.Context, topics []string) (map[admin.Partition]int64, error) {
	return logEnds(ctx, n.servers, topics)
}

func printOverview(out io.Writer, all admin.Overview, verbose bool) error {
	relayed := "another process relays"
	if all.RelayPosition != nil {
		relayed = fmt.Sprintf("relayed through %d", *all.RelayPosition)
		if all.RelayLagEvents != nil && *all.RelayLagEvents > 0 {
			relayed += fmt.Sprintf(", %d positions and %.1f s behind", *all.RelayLagEvents, *all.RelayLagSeconds)
		}
	}
	fmt.Fprintf(out, "store at position %d, %s\n", all.StorePosition, relayed)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if verbose {
		fmt.Fprintln(w, "PROJECTION\tPARTITION\tSTATE\tPOSITION\tOFFSET\tLOG END\tLAG\tWAITS\tSTORE TO TARGET\tMOVED")
	} else {
		fmt.Fprintln(w, "PROJECTION\tVERSION\tSERVES\tTARGET\tSTATE\tLAG\tWAITS\tPARKED\tLAST REBUILD")
	}
	for _, s := range all.Items {
		if !verbose {
			lag, old, parked, rebuilt := fmt.Sprint(s.LagEvents), fmt.Sprintf("%.0f s", s.LagSeconds), fmt.Sprint(s.Parked), ""
			if s.State == admin.Absent || s.State == admin.Building || s.State == admin.Away {
				lag, old, parked = "", "", ""
			}
			if r := s.LastRebuild; r != nil {
				rebuilt = fmt.Sprintf("%s, %d events/s", r.EndedAt.Format(time.RFC3339), r.Rate)
			}
			fmt.Fprintf(w, "%s\t%d\t%t\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Version, s.Serves, s.Target, s.State, lag, old, parked, rebuilt)
			continue
		}
		for _, p := range s.Partitions {
			way, moved := "", ""
			if p.WayMillis != nil {
				way = fmt.Sprintf("%.1f ms", *p.WayMillis)
			}
			if p.MovedAt != nil {
				moved = p.MovedAt.Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s_v%d\t%s/%d\t%s\t%d\t%d\t%d\t%d\t%.0f s\t%s\t%s\n", s.Name, s.Version, p.Topic, p.Part, p.State, p.Position,
				p.NextOffset, p.LogEnd, p.LagEvents, p.LagSeconds, way, moved)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range all.Items {
		if s.State == admin.Away {
			fmt.Fprintf(out, "%s_v%d is away: %s\n", s.Name, s.Version, s.Detail)
		}
	}
	return nil
}

// logEnds reads where each partition ends in Kafka.
func logEnds(ctx context.Context, s config.Servers, topics []string) (map[admin.Partition]int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...), kgo.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	defer client.Close()
	prefixed := make([]string, len(topics))
	for i, t := range topics {
		prefixed[i] = s.Topics.TopicPrefix + t
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	offsets, err := kadm.NewClient(client).ListEndOffsets(ctx, prefixed...)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("where the topics end: %w", err)
	}
	ends := map[admin.Partition]int64{}
	offsets.Each(func(o kadm.ListedOffset) {
		ends[admin.Partition{Topic: strings.TrimPrefix(o.Topic, s.Topics.TopicPrefix), Part: o.Partition}] = o.Offset
	})
	return ends, nil
}

// recordedAt reads when the events of the first records at, or after, these offsets were recorded.
func recordedAt(ctx context.Context, s config.Servers, at map[admin.Partition]int64) (map[admin.Partition]time.Time, error) {
	from := map[string]map[int32]kgo.Offset{}
	for p, offset := range at {
		topic := s.Topics.TopicPrefix + p.Topic
		if from[topic] == nil {
			from[topic] = map[int32]kgo.Offset{}
		}
		from[topic][p.Part] = kgo.NewOffset().At(offset)
	}
	// A byte at most: a broker gives a whole batch all the same. Where retention has been, the log begins later.
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...), kgo.WithContext(ctx), kgo.ConsumePartitions(from), kgo.FetchMaxPartitionBytes(1),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out := map[admin.Partition]time.Time{}
	for len(out) < len(at) {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("read the oldest records that are not applied: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := admin.Partition{Topic: strings.TrimPrefix(r.Topic, s.Topics.TopicPrefix), Part: r.Partition}
			if _, known := out[p]; !known {
				out[p] = engine.RecordedAt(r)
			}
		})
	}
	return out, nil
}
