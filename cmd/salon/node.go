package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/httpserver"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/internal/telemetry"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
	"github.com/dangdangsalon/salon/projections/stats"
	"github.com/dangdangsalon/salon/readapi"
)

// allProjections is the one line that a new projection adds.
func allProjections() []engine.Projection {
	return []engine.Projection{
		reservations.Projection(), history.Projection(), groomers.Projection(), calendar.Projection(), stats.Projection(), chatrooms.Projection(),
		calendar.View(), chatrooms.View(),
	}
}

func codec() *eventstore.Codec { return eventstore.Catalog() }

// role is one part of the system that a process can run.
type role string

const (
	roleCommands  role = "commands"
	roleReadAPI   role = "readapi"
	roleRelay     role = "relay"
	roleProjector role = "projector"
)

// store is an event store and its end.
type store interface {
	eventstore.Store
	Close() error
}

// node is one process: its settings, what it opened, and the roles that run on it.
type node struct {
	servers  config.Servers
	http     config.HTTP
	tel      *telemetry.Telemetry
	master   []byte
	verifier *auth.Verifier
	listener net.Listener // of the API; nil when no role answers HTTP
	alone    bool         // the only process of the system, by the lock of its data folder: no elections

	store    store
	reads    *reads.DB
	redis    *redis.Client
	executor *commands.Executor
	relay    *relay.Relay
	applied  func(engine.Applied) // told of every batch that a projection committed; nil: nobody asks
	runners  []*engine.Runner

	partitions sync.Map // topic → int
}

// run opens what the roles need and runs them until ctx ends or one cannot go on.
//
// A server that is away does not end it. The store is waited for, since nothing works without it; Kafka, the reads
// database and Redis may come and go at any time.
func (n *node) run(ctx context.Context, roles []role) (err error) {
	has := func(r role) bool { return slices.Contains(roles, r) }
	if has(roleCommands) || has(roleReadAPI) || has(roleRelay) { // a projector alone lives without
		if n.store, err = n.openStore(ctx, n.servers.Events); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.store.Close()) }()
	}
	if has(roleReadAPI) || has(roleProjector) {
		if err := n.openReads(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.redis.Close(), n.reads.Close()) }()
	}
	if has(roleReadAPI) && !n.alone {
		if err := n.checkReads(ctx); err != nil {
			return err
		}
	}
	if !n.alone && (has(roleRelay) || has(roleProjector)) {
		if err := n.checkTopics(ctx); err != nil {
			return err
		}
	}
	var server *httpserver.Server
	if n.listener != nil {
		if server, err = n.newServer(ctx, has(roleCommands), has(roleReadAPI)); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	if has(roleRelay) {
		n.relay = &relay.Relay{
			Store: n.store, Brokers: n.servers.Brokers(), Partitions: n.servers.Topics.Partitions,
			TopicPrefix: n.servers.Topics.TopicPrefix, Alone: n.alone, Log: n.tel.Log,
		}
		group.Go(func() error { return n.superviseRelay(ctx) })
	}
	if has(roleProjector) {
		shared := &engine.Shared{}
		for _, p := range allProjections() {
			r := &engine.Runner{
				Projection: p, Shared: shared, Brokers: n.servers.Brokers(), DB: n.reads, Redis: n.redis, Codec: codec(), Log: n.tel.Log,
				Alone: n.alone, TopicPrefix: n.servers.Topics.TopicPrefix, Applied: n.applied, Tracer: n.tel.Tracer,
			}
			n.runners = append(n.runners, r)
			group.Go(func() error { return r.Run(ctx) })
		}
	}
	if server != nil {
		n.tel.Log.InfoContext(ctx, "serving", "address", n.listener.Addr().String(), "roles", roles)
		group.Go(func() error { return server.Run(ctx, n.listener) })
	}
	if n.http.MetricsListen != "" {
		group.Go(func() error { return n.serveMetrics(ctx) })
	}
	group.Go(func() error { return n.observe(ctx) })
	return group.Wait()
}

// openStore opens the event store, waiting for one that is away.
func (n *node) openStore(ctx context.Context, url string) (store, error) {
	open := func() (store, error) {
		if file, ok := strings.CutPrefix(url, "sqlite:"); ok {
			return sqlite.Open(ctx, sqlite.Config{Path: file, OnCommit: n.tel.Metrics.Commit})
		}
		return postgres.Open(ctx, postgres.Config{URL: url, OnCommit: n.tel.Metrics.Commit})
	}
	for failures := 0; ; failures++ {
		s, err := open()
		if !errors.Is(err, eventstore.ErrUnavailable) {
			return s, err
		}
		if failures == 0 {
			n.tel.Log.ErrorContext(ctx, "event store is away; waiting for it", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(5*time.Second, 100*time.Millisecond<<min(failures, 10))):
		}
	}
}

// openReads opens the reads database and Redis, which may be away: nothing connects yet.
func (n *node) openReads(ctx context.Context) error {
	options, err := redis.ParseURL(n.servers.Redis)
	if err != nil {
		return usage(errors.New("--redis is not a valid redis:// URL"))
	}
	if n.reads, err = reads.Open(ctx, n.servers.Reads); err != nil {
		return err
	}
	// A view that is away must cost a read little: the tables behind it answer then.
	options.DialTimeout, options.ReadTimeout, options.MaxRetries = time.Second, 2*time.Second, 1
	options.ContextTimeoutEnabled = true // a screen gives a view less time than that
	redis.SetLogger(redisLog{n.tel.Log}) // by itself it prints to the terminal
	n.redis = redis.NewClient(options)
	n.tel.Metrics.Pool("reads", n.reads.Stats)
	n.tel.Metrics.Pool("redis", func() (open, inUse int, waited int64) {
		s := n.redis.PoolStats()
		return int(s.TotalConns), int(s.TotalConns - s.IdleConns), int64(s.WaitCount)
	})
	return nil
}

// redisLog is where go-redis says that a connection broke: a detail, since whoever used it says so too.
type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
}

// checkTopics refuses another partition count than the topics have. Topics that are missing, or a Kafka that is away, may
// come later.
func (n *node) checkTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := topicsOf(n.servers).Check(ctx); errors.Is(err, relay.ErrPartitions) {
		return err
	}
	return nil
}

// checkReads refuses a reads database that lacks the tables of this release: every read would fail. One that is away
// may come later.
func (n *node) checkReads(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := n.reads.Check(ctx); errors.Is(err, reads.ErrNotMigrated) {
		return err
	}
	return nil
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
func (n *node) newServer(ctx context.Context, writes, screens bool) (*httpserver.Server, error) {
	keys, err := sealed.New(n.store, n.master)
	if err != nil {
		return nil, err
	}
	if err := keys.Verify(ctx); errors.Is(err, sealed.ErrWrongMaster) {
		return nil, err
	}
	s := httpserver.New(httpserver.Config{
		Version: version, Log: n.tel.Log, Verifier: n.verifier, CORSOrigins: n.http.CORSOrigins, RateLimit: n.http.RateLimit,
		Observe: n.tel.Metrics.Request, Tracer: n.tel.Tracer,
	})
	if writes {
		n.executor = commands.NewExecutor(commands.Config{Store: n.store, Keys: keys, HoldTTL: n.http.HoldTTL})
		commands.Register(s.API(), n.executor)
	}
	if screens {
		readapi.Register(s.API(), n.screens(keys))
	}
	n.healthRoutes(s)
	return s, nil
}

func (n *node) screens(keys *sealed.Keys) readapi.Deps {
	view := func(p engine.Projection) *engine.View {
		return &engine.View{Redis: n.redis, Projection: p, Partitions: n.partitionsOf}
	}
	return readapi.Deps{Reads: n.reads, Texts: keys, Slots: view(calendar.View()), Rooms: view(chatrooms.View())}
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

// observe turns what the parts know of themselves into metrics, each second.
func (n *node) observe(ctx context.Context) error {
	var behindSince time.Time
	moved := map[string]time.Time{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		if n.relay != nil && (n.relay.Leading() || n.alone) { // of several relays, the leader tells
			if head, err := n.store.Head(ctx); err == nil {
				lag := head.Position - min(head.Position, n.relay.Position())
				if lag == 0 || behindSince.IsZero() {
					behindSince = now
				}
				n.tel.Metrics.Relay(lag, now.Sub(behindSince))
			}
		}
		for _, r := range n.runners {
			for _, s := range r.Status() {
				key := fmt.Sprint(s.Projection, s.Topic, s.Part)
				if s.Lag() == 0 || moved[key].IsZero() {
					moved[key] = now
				}
				n.tel.Metrics.Projection(s.Projection, s.Topic, s.Part, s.Lag(), now.Sub(moved[key]), s.Error != "")
			}
		}
	}
}
