package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/internal/telemetry"
	"github.com/dangdangsalon/salon/projections/admin"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/inbox"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/projections/reservations"
	"github.com/dangdangsalon/salon/projections/stats"
	"github.com/dangdangsalon/salon/reactors"
	"github.com/dangdangsalon/salon/reactors/notify"
	"github.com/dangdangsalon/salon/readapi"
	"github.com/dangdangsalon/salon/readapi/live"
)

// allProjections is the one line that a new projection adds.
func allProjections() []engine.Projection {
	return []engine.Projection{
		reservations.Projection(), history.Projection(), groomers.Projection(), calendar.Projection(), stats.Projection(), chatrooms.Projection(),
		inbox.Projection(), reactors.Timers(),
		calendar.View(), chatrooms.View(),
	}
}

func codec() *eventstore.Codec { return eventstore.Catalog() }

// role is one part of the system that a process can run.
type role string

const (
	roleCommands  role = "commands"
	roleReadAPI   role = "readapi"
	roleAdmin     role = "admin"
	roleRelay     role = "relay"
	roleProjector role = "projector"
	roleReactor   role = "reactor"
	roleLive      role = "live"
)

// store is an event store and its end.
type store interface {
	eventstore.Store
	eventstore.Ledger
	eventstore.Loader
	eventstore.Persons
	eventstore.Timeline
	Close() error
}

// node is one process: its settings, what it opened, and the roles that run on it.
type node struct {
	servers    config.Servers
	replicas   config.Replica
	http       config.HTTP
	tel        *telemetry.Telemetry
	watchFront []string       // what users call, for the role admin to look at
	masters    [][]byte       // the first wraps; none: personal texts stay sealed here
	erasures   audit.Erasures // no path: none are known
	verifier   *auth.Verifier
	listener   net.Listener  // of the API; nil when no role answers HTTP
	writes     bool          // it takes commands over HTTP
	drain      time.Duration // how long it goes on serving once it was told to stop
	alone      bool          // the only process of the system, by the lock of its data folder: no elections

	store      store
	reads      *reads.DB
	replica    *readapi.Replica // of the reads database; nil: there is none
	watched    []*watched       // its replicas, as the role admin looks at them
	redis      *redis.Client
	executor   *commands.Executor // of the commands and of the reactors
	relay      *relay.Relay
	relayEnded atomic.Bool                           // for good, see superviseRelay
	applied    func(engine.Applied)                  // told of every batch that a projection committed; nil: nobody asks
	relayed    func(records int, took time.Duration) // told of every batch that the relay wrote; nil: nobody asks
	runners    []*engine.Runner
	firer      *reactors.Firer
	live       *live.Gateway
	sealing    *sealing // of the history; nil: this process does not seal
	refusals   *commands.Refusals
	webhook    *notify.Endpoint // of notifications; nil: they stay in the inboxes

	leaving  atomic.Bool // told to stop: /readyz says so
	movement movement    // of the projections that run here

	partitions sync.Map // topic → int
}

// run opens what the roles need and runs them until ctx ends or one cannot go on.
//
// A server that is away does not end it. The store is waited for, since nothing works without it; Kafka, the reads
// database and Redis may come and go at any time.
func (n *node) run(ctx context.Context, roles []role) (err error) {
	has := func(r role) bool { return slices.Contains(roles, r) }
	if n.store, err = n.openStore(ctx, n.servers.Events); ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // told to stop while it waited
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	if has(roleReadAPI) || has(roleAdmin) || has(roleProjector) || has(roleReactor) || has(roleLive) {
		if n.reads, err = reads.Open(ctx, n.servers.Reads); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.reads.Close()) }()
		n.tel.Metrics.Pool("reads", n.reads.Stats)
	}
	if has(roleReadAPI) && n.replicas.ReadsReplica != "" {
		db, err := reads.OpenReplica(n.replicas.ReadsReplica)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		n.replica = &readapi.Replica{DB: db, Primary: n.reads, MaxAge: n.replicas.ReadsReplicaAge, Log: n.tel.Log}
		n.tel.Metrics.Pool("reads_replica", db.Stats)
		n.tel.Metrics.Replica(n.replica.Age, n.replica.Serves)
	}
	if has(roleAdmin) && n.replicas.ReadsReplica != "" {
		defer func() { err = errors.Join(err, n.closeWatched()) }()
		if err := n.openWatched(); err != nil {
			return err
		}
	}
	if has(roleReadAPI) || has(roleAdmin) || has(roleProjector) || has(roleLive) {
		if err := n.openRedis(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.redis.Close()) }()
	}
	if n.reads != nil && !n.alone {
		if err := n.checkReads(ctx, has(roleReadAPI) || has(roleReactor) || has(roleLive)); err != nil {
			return err
		}
	}
	if !n.alone && (has(roleRelay) || has(roleProjector)) {
		if err := n.checkTopics(ctx); err != nil {
			return err
		}
	}
	var keys *sealed.Keys
	if n.listener != nil || has(roleReactor) {
		if keys, err = n.openKeys(ctx); err != nil {
			return err
		}
	}
	if has(roleCommands) || has(roleReactor) || has(roleLive) {
		n.executor = commands.NewExecutor(commands.Config{
			Store: n.store, Keys: keys, HoldTTL: n.http.HoldTTL, PostRate: cmp.Or(n.http.PostRate, -1),
		})
	}
	n.writes = has(roleCommands)
	if n.sealing != nil {
		n.sealing.over(n.store, n.servers.Events, n.tel.Log)
	}
	if has(roleLive) {
		n.live = n.newGateway(keys)
	}
	var server *httpserver.Server
	if n.listener != nil {
		n.refusals = &commands.Refusals{Store: n.store, Log: n.tel.Log}
		server = n.newServer(keys, has)
	}
	group, ctx := errgroup.WithContext(ctx)
	// What callers are connected to outlives the rest by the grace, so that whoever shares them out hears of it first. Who
	// leads, and what a partition is projected by, is given away at once: others wait for it.
	edge, close := context.WithCancel(context.WithoutCancel(ctx))
	defer close()
	group.Go(func() error {
		n.grace(ctx)
		close()
		return nil
	})
	if n.replica != nil {
		group.Go(func() error { return n.replica.Run(edge) })
	}
	if server != nil {
		group.Go(func() error { return n.refusals.Run(edge) })
	}
	if has(roleRelay) {
		n.relay = &relay.Relay{
			Store: n.store, Brokers: n.servers.Brokers(), Partitions: n.servers.Topics.Partitions,
			TopicPrefix: n.servers.Topics.TopicPrefix, Alone: n.alone, Log: n.tel.Log, Relayed: n.relayed,
		}
		group.Go(func() error { return n.superviseRelay(ctx) })
	}
	if has(roleProjector) {
		shared := &engine.Shared{}
		for _, p := range engine.AllVersions(allProjections()) {
			r := &engine.Runner{
				Projection: p, Shared: shared, Brokers: n.servers.Brokers(), DB: n.reads, Redis: n.redis, Codec: codec(), Store: n.store, Log: n.tel.Log,
				Alone: n.alone, TopicPrefix: n.servers.Topics.TopicPrefix, Applied: n.committed, Tracer: n.tel.Tracer,
			}
			n.runners = append(n.runners, r)
			group.Go(func() error { return r.Run(ctx) })
		}
		builder := &rebuild.Worker{Desk: n.versions(), Store: n.store, Scans: withoutSchema(n.servers.Events), Codec: codec(), Log: n.tel.Log, Ends: n.endsOf, Seen: n.seen}
		group.Go(func() error { return builder.Run(ctx) })
	}
	if has(roleReactor) {
		n.firer = &reactors.Firer{Reads: n.reads, Commands: n.executor, Log: n.tel.Log}
		group.Go(func() error { return n.firer.Run(ctx) })
		if n.webhook != nil {
			sender, err := n.sender()
			if err != nil {
				return err
			}
			group.Go(func() error { return sender.Run(ctx) })
		}
	}
	if n.sealing != nil {
		group.Go(func() error { return n.sealing.Run(ctx) })
	}
	if lookups, can := n.store.(eventstore.Lookups); can && has(roleAdmin) {
		indexer := &audit.Indexer{Store: n.store, Lookups: lookups, Log: n.tel.Log}
		group.Go(func() error { return indexer.Run(ctx) })
	}
	if n.live != nil {
		group.Go(func() error { return n.live.Run(edge) })
	}
	if server != nil {
		n.tel.Log.InfoContext(ctx, "serving", "address", n.listener.Addr().String(), "roles", roles)
		group.Go(func() error { return server.Run(edge, n.listener) })
	}
	if n.http.MetricsListen != "" {
		group.Go(func() error { return n.serveMetrics(edge) })
	}
	group.Go(func() error { return n.observe(ctx) })
	n.tel.Metrics.Disk(n.disk)
	if has(roleAdmin) {
		for _, w := range n.watched {
			group.Go(func() error { return w.of.Run(ctx) })
		}
		group.Go(func() error { return n.observeSystem(ctx) })
	}
	return group.Wait()
}

// grace waits until the process is to stop, says so on /readyz, and then as long as a load balancer needs to hear it.
func (n *node) grace(ctx context.Context) {
	<-ctx.Done()
	n.leaving.Store(true)
	if n.drain == 0 {
		return
	}
	n.tel.Log.InfoContext(ctx, "draining", "for", n.drain.String())
	<-time.After(n.drain)
}

// superviseRelay starts the relay again whenever a run ends: each start reads where the log stands. A store that was
// restored behind the log is the one thing that no new start can mend: then nothing is relayed until somebody acts.
func (n *node) superviseRelay(ctx context.Context) error {
	said := "" // the same reason is told once
	for failures := 0; ; failures++ {
		began := time.Now()
		err := n.relay.Run(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // asked to stop; what the end broke does not matter
		}
		var restored *relay.RestoredError
		if errors.As(err, &restored) {
			n.relayEnded.Store(true)
			n.tel.Log.ErrorContext(ctx, "relay stopped for good", "error", err)
			<-ctx.Done() // writes and reads go on meanwhile
			return nil
		}
		if time.Since(began) > time.Minute {
			failures = 0
		}
		if why := fmt.Sprint(err); why != said {
			n.tel.Log.ErrorContext(ctx, "relay stopped; starting it again", "error", err)
			said = why
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(5*time.Second, 50*time.Millisecond<<min(failures, 10))):
		}
	}
}

// newServer is the HTTP edge with the operations of the roles on it, and what tells how the process is.
func (n *node) newServer(keys *sealed.Keys, has func(role) bool) *httpserver.Server {
	s := httpserver.New(httpserver.Config{
		Version: version, Log: n.tel.Log, Verifier: n.verifier, CORSOrigins: n.http.CORSOrigins, RateLimit: n.http.RateLimit, TrustProxy: n.http.TrustProxy,
		Observe: n.tel.Metrics.Request, Tracer: n.tel.Tracer,
		Refused: func(by auth.Identity, operation string) {
			n.refusals.Add(domain.Actor{ID: by.Sub, Role: domain.Role(by.Role)}, operation)
		},
	})
	if n.writes {
		commands.Register(s.API(), n.executor)
	}
	if has(roleReadAPI) {
		readapi.Register(s.API(), n.screens(keys))
	}
	if has(roleAdmin) {
		admin.Register(s.API(), n.projections(), n.recordSignedIn)
		audit.Register(s.API(), n.past(keys), n.recordSignedIn)
		seal.Register(s.API(), n.sealing.sealer(), n.recordSignedIn)
	}
	if n.live != nil {
		n.live.Register(s)
	}
	n.healthRoutes(s)
	return s
}

func (n *node) screens(keys *sealed.Keys) readapi.Deps {
	view := func(p engine.Projection) *engine.View {
		return &engine.View{Redis: n.redis, Projection: p, Partitions: n.partitionsOf}
	}
	return readapi.Deps{
		Reads: n.reads, Replica: n.replica, Answered: func(by readapi.Copy, why string) { n.tel.Metrics.TableRead(string(by), why) },
		Texts: keys, Lives: n.lives(), Slots: view(calendar.View()), Rooms: view(chatrooms.View()),
	}
}

// lives tells the lives of an event store that can name them, nil of the others.
func (n *node) lives() func(ctx context.Context) ([]readapi.Life, error) {
	s, can := n.store.(interface {
		Lives(ctx context.Context) ([]eventstore.Life, error)
	})
	if !can {
		return nil
	}
	return func(ctx context.Context) ([]readapi.Life, error) {
		lives, err := s.Lives(ctx)
		out := make([]readapi.Life, len(lives))
		for i, l := range lives {
			out[i] = readapi.Life(l)
		}
		return out, err
	}
}

// partitionsOf tells how many partitions a topic has, as a projector noted it; 0 when none has yet. The count never
// changes, so it is asked for once.
func (n *node) partitionsOf(ctx context.Context, topic string) (count int, err error) {
	if known, ok := n.partitions.Load(topic); ok {
		return known.(int), nil
	}
	err = n.reads.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		count, err = engine.Partitions(ctx, q, topic)
		return err
	})
	if err == nil && count > 0 {
		n.partitions.Store(topic, count)
	}
	return count, err
}
