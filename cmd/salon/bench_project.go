package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/embedded"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// projectBench measures the projector alone: events that lie in the log already, into the reads database and into
// Redis, each beside a plain client that writes the same rows in the same batches.
//
// The events were decided by the command layer, kept by a SQLite store of the benchmark's own and relayed to topics of
// its own. The reads database is one of its own too, and the Redis keys are those of versions that nobody else has.
type projectBench struct {
	report *report
	events int
	log    io.Writer

	servers  config.Servers
	embedded bool
	store    store
	reads    *reads.DB
	redis    *redis.Client
	version  int // of the next run: every run has tables of its own
}

func (b *projectBench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

func (b *projectBench) run(ctx context.Context, servers config.Servers) (err error) {
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if servers.Kafka == "" || servers.Reads == "" || servers.Redis == "" {
		own, err := embedded.Start(dir)
		if err != nil {
			return err
		}
		defer own.Close()
		servers.Kafka, servers.Redis, servers.Reads = own.Brokers()[0], own.RedisURL(), ""
		servers.Topics.Partitions, servers.Topics.Replication, b.embedded = embeddedPartitions, 1, true
	}
	name := strings.ToLower(rand.Text()[:10])
	servers.Events = "sqlite:" + filepath.Join(dir, eventsName)
	servers.Topics.TopicPrefix += "bench-" + name + "."
	if !strings.HasPrefix(servers.Reads, "mysql:") {
		servers.Reads = "sqlite:" + filepath.Join(dir, readsName)
	} else {
		scratch, drop, err := reads.Scratch(ctx, servers.Reads)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, drop(context.WithoutCancel(ctx))) }()
		servers.Reads = scratch
	}
	b.servers, b.version = servers, 1_000_000+int(time.Now().Unix()%1_000_000)*100
	if err := migrate(ctx, servers); err != nil {
		return err
	}
	if b.store, err = openEvents(ctx, servers.Events, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	if b.reads, err = reads.Open(ctx, servers.Reads); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.reads.Close()) }()
	if b.redis, err = newRedis(servers.Redis); err != nil {
		return usage(err)
	}
	defer func() { err = errors.Join(err, b.redis.Close()) }()
	if err := topicsOf(servers).Ensure(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dropTopics(context.WithoutCancel(ctx), b.servers)) }()
	return b.measure(ctx)
}

// dropTopics removes the topics with the prefix, and the groups that read them.
func dropTopics(ctx context.Context, servers config.Servers) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(servers.Brokers()...))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	var names []string // the relay's own topic too
	for _, t := range topics.Names() {
		if strings.HasPrefix(t, servers.Topics.TopicPrefix) {
			names = append(names, t)
		}
	}
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return err
	}
	var own []string
	for _, g := range groups.Groups() {
		if strings.HasPrefix(g, servers.Topics.TopicPrefix) {
			own = append(own, g)
		}
	}
	_, err = admin.DeleteGroups(ctx, own...)
	_, failed := admin.DeleteTopics(ctx, names...)
	return errors.Join(err, failed)
}

func (b *projectBench) measure(ctx context.Context) error {
	if err := b.fill(ctx); err != nil {
		return err
	}
	for _, t := range []struct {
		name string
		of   engine.Projection
		goal float64
	}{{database(b.reads), reservations.Projection(), 0.6}, {"Redis", calendar.View(), 0.5}} {
		var live, plain, ratios, loose, looseRatios []sample
		var rows, batches int
		var ours, theirs []sample // processor time
		for round := range rounds {
			b.say("round %d: %s into %s", round+1, t.of.Name, t.name)
			p := b.own(t.of)
			run, err := b.project(ctx, p)
			if err != nil {
				return err
			}
			ceiling, n, err := b.plain(ctx, t.of, run.batches, true)
			if err != nil {
				return err
			}
			ours = append(ours, sample{Rate: float64(run.cost.Microseconds()) / float64(run.records)})
			theirs = append(theirs, sample{Rate: float64(ceiling.cost.Microseconds()) / float64(run.records)})
			if t.of.Target == engine.Redis {
				alone, _, err := b.plain(ctx, t.of, run.batches, false)
				if err != nil {
					return err
				}
				loose = append(loose, sample{Rate: float64(run.records) / alone.took.Seconds()})
				looseRatios = append(looseRatios, sample{Rate: alone.took.Seconds() / run.took.Seconds()})
			}
			if err := b.forget(ctx, p); err != nil {
				return err
			}
			rows, batches = n, len(run.batches)
			live = append(live, sample{Rate: float64(run.records) / run.took.Seconds()})
			plain = append(plain, sample{Rate: float64(run.records) / ceiling.took.Seconds()})
			ratios = append(ratios, sample{Rate: live[round].Rate / plain[round].Rate})
		}
		b.report.ratio(fmt.Sprintf("events into %s, live (ceiling: a plain client, the same rows)", t.name),
			median(live, rate), "/s", median(plain, rate), median(ratios, rate), t.goal)
		if loose != nil {
			b.report.ratio(fmt.Sprintf("events into %s, live (ceiling: the rows of each event by themselves)", t.name),
				median(live, rate), "/s", median(loose, rate), median(looseRatios, rate), t.goal)
		}
		b.report.plain(fmt.Sprintf("processor time of an event into %s, without the database's", t.name), median(ours, rate), "µs")
		b.report.plain(fmt.Sprintf("processor time of an event into %s, by the plain client", t.name), median(theirs, rate), "µs")
		b.report.plain(fmt.Sprintf("rows of a batch into %s", t.name), float64(rows)/float64(batches), "")
	}
	return b.ten(ctx)
}

// own is the projection under a version that nobody has had.
func (b *projectBench) own(p engine.Projection) engine.Projection {
	b.version++
	p.Version, p.Behind = b.version, "" // a view that begins with the log: there are no tables behind it
	return p
}

// fill lets customers book until there are enough events, and relays them. Every fourth thinks better of it; the other
// bookings stay, so that there is something to write.
func (b *projectBench) fill(ctx context.Context) error {
	b.say("making %d events …", b.events)
	keys, err := sealed.New(b.store, make([]byte, 32))
	if err != nil {
		return err
	}
	n := &node{servers: b.servers, store: b.store}
	n.executor = commands.NewExecutor(commands.Config{Store: b.store, Keys: keys, HoldTTL: 5 * time.Minute})
	people, err := newPeople(ctx, n, "", nil, &visibility{})
	if err != nil {
		return err
	}
	const perFour = 13 // held, requested and confirmed four times; cancelled once
	each := min(max(1, 4*b.events/perFour/callers), len(people.starts))
	group, groupCtx := errgroup.WithContext(ctx)
	for caller := range callers {
		group.Go(func() error {
			for round := range each {
				var hold, reservation string
				story := script(people.customer(caller), people.groomer(caller), people.starts[round], round, &hold, &reservation)
				steps := []func() action{story[0], story[1]}
				if round%4 == 3 {
					steps = append(steps, story[9])
				}
				for _, step := range steps {
					if _, err := people.direct.do(groupCtx, step()); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return b.relay(ctx)
}

func (b *projectBench) relay(ctx context.Context) error {
	head, err := b.store.Head(ctx)
	if err != nil {
		return err
	}
	r := &relay.Relay{
		Store: b.store, Brokers: b.servers.Brokers(), Partitions: b.servers.Topics.Partitions, TopicPrefix: b.servers.Topics.TopicPrefix, Alone: true,
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for r.Position() < head.Position {
		select {
		case err := <-ended:
			return errors.Join(errors.New("the relay ended before the events did"), err, ctx.Err())
		case <-tick.C:
		}
	}
	stop()
	return <-ended
}

// projected is one run over all events.
type projected struct {
	batches []engine.Applied
	records int
	took    time.Duration // from the beginning of the first batch to the end of the last
	cost    time.Duration // of this process's processors, from start to stop
}

// project runs projections until each has all events.
func (b *projectBench) project(ctx context.Context, of ...engine.Projection) (projected, error) {
	ends, err := b.ends(ctx)
	if err != nil {
		return projected{}, err
	}
	var out projected
	var mu sync.Mutex
	var first time.Time
	there := map[string]bool{} // projection and partition
	all := make(chan struct{})
	applied := func(a engine.Applied) {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		if began := now.Add(-a.Took); first.IsZero() || began.Before(first) {
			first = began
		}
		out.batches = append(out.batches, a)
		out.records += a.Records
		// Past the last event is there too: a marker may say that nothing more came.
		at := a.Projection + "/" + strconv.Itoa(int(a.Part))
		if end, written := ends[a.Part]; a.Topic == wire.BookingTopic && written && a.Position >= end && !there[at] {
			there[at] = true
			if len(there) == len(of)*len(ends) {
				out.took = now.Sub(first)
				close(all)
			}
		}
	}
	if err := engine.EnsureTables(ctx, b.reads, of...); err != nil {
		return out, err
	}
	before := processor()
	shared := &engine.Shared{}
	running, stop := context.WithCancel(ctx)
	defer stop()
	group, groupCtx := errgroup.WithContext(running)
	for _, p := range of {
		r := b.runner(p)
		r.Shared, r.Applied = shared, applied
		group.Go(func() error { return r.Run(groupCtx) })
	}
	select {
	case <-all:
	case <-groupCtx.Done():
	case <-time.After(5 * time.Minute):
		stop()
		return out, errors.Join(errors.New("the projections have not caught up after five minutes"), group.Wait())
	}
	stop()
	err = errors.Join(group.Wait(), ctx.Err())
	out.cost = processor() - before
	return out, err
}

func (b *projectBench) runner(p engine.Projection) *engine.Runner {
	return &engine.Runner{
		Projection: p, Brokers: b.servers.Brokers(), DB: b.reads, Redis: b.redis, Codec: codec(), Store: b.store, Alone: b.embedded,
		TopicPrefix: b.servers.Topics.TopicPrefix,
	}
}

// ends is the last position of each partition that has one.
func (b *projectBench) ends(ctx context.Context) (map[int32]uint64, error) {
	ends := map[int32]uint64{}
	for r, err := range b.store.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return nil, err
		}
		if wire.TopicOf(r.Stream) == wire.BookingTopic {
			ends[engine.PartitionOf(r.Key, b.servers.Topics.Partitions)] = r.Position
		}
	}
	return ends, nil
}

// plain writes the rows of a run by a client that does nothing else, into tables of its own.
func (b *projectBench) plain(ctx context.Context, of engine.Projection, batches []engine.Applied, folded bool) (run projected, rows int, err error) {
	p := b.own(of)
	r := b.runner(p)
	plain, err := engine.NewPlain(ctx, r, p, wire.BookingTopic, b.servers.Topics.Partitions, batches, folded)
	if err != nil {
		return run, 0, err
	}
	if err := engine.EnsureTables(ctx, b.reads, p); err != nil {
		return run, 0, err
	}
	began, before := time.Now(), processor()
	err = plain.Write(ctx, r)
	run.took, run.cost = time.Since(began), processor()-before
	return run, plain.Rows, errors.Join(err, b.forget(ctx, p))
}

func (b *projectBench) forget(ctx context.Context, p engine.Projection) error {
	ctx = context.WithoutCancel(ctx)
	if p.Target == engine.Redis {
		return engine.Views{DB: b.reads, Redis: b.redis}.Remove(ctx, p, nil)
	}
	return engine.DropTables(ctx, b.reads.Writer(), p)
}

// ten asks whether ten projections over one topic cost less than ten times one: the same fold ten times, into tables of
// their own, in one process, which decodes each event once.
func (b *projectBench) ten(ctx context.Context) error {
	const many = 10
	var one, ten projected
	for _, t := range []struct {
		n    int
		into *projected
	}{{1, &one}, {many, &ten}} {
		b.say("%d projections at once", t.n)
		var of []engine.Projection
		for range t.n {
			of = append(of, b.own(reservations.Projection()))
		}
		var err error
		if *t.into, err = b.project(ctx, of...); err != nil {
			return err
		}
		for _, p := range of {
			if err := b.forget(ctx, p); err != nil {
				return err
			}
		}
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / (float64(one.records)) }
	b.report.below("processor time of an event in ten projections (ceiling: ten times one's)", each(ten.cost), "µs", many*each(one.cost), 1)
	b.report.below("time of an event in ten projections, the database's included (ceiling: ten times one's)", each(ten.took), "µs", many*each(one.took), 1)
	return nil
}
