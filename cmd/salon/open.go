package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/relay"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/sealed"
	"github.com/dangdangsalon/salon/projections/reads"
)

// openEvents opens the event store that the URL names.
func openEvents(ctx context.Context, url string, onCommit func(group int, took time.Duration)) (store, error) {
	switch scheme, rest, _ := strings.Cut(url, ":"); scheme {
	case "sqlite":
		return sqlite.Open(ctx, sqlite.Config{Path: rest, OnCommit: onCommit})
	case "esdb", "esdb+discover":
		return esdb.Open(ctx, esdb.Config{URL: url, OnCommit: onCommit})
	}
	return postgres.Open(ctx, postgres.Config{URL: url, OnCommit: onCommit})
}

// openStore opens the event store, waiting for one that is away.
func (n *node) openStore(ctx context.Context, url string) (store, error) {
	for failures := 0; ; failures++ {
		s, err := openEvents(ctx, url, n.tel.Metrics.Commit)
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

// openRedis opens Redis, which may be away: nothing connects yet.
func (n *node) openRedis() error {
	redis.SetLogger(redisLog{n.tel.Log})
	client, err := newRedis(n.servers.Redis)
	if err != nil {
		return usage(err)
	}
	n.redis = client
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
	if _, err := topicsOf(n.servers).Check(ctx); errors.Is(err, relay.ErrPartitions) {
		return err
	}
	return nil
}

// checkReads refuses a reads database that lacks the tables of this release, when reads would fail for it, and one that lacks them
// since a later release took them away. One that is away may come later.
func (n *node) checkReads(ctx context.Context, reading bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := n.reads.Check(ctx); reading && errors.Is(err, reads.ErrNotMigrated) || errors.As(err, new(*eventstore.NewerSchemaError)) {
		return err
	}
	return nil
}

// keys opens personal texts.
func (n *node) keys() (*sealed.Keys, error) {
	return sealed.New(n.store, n.masters[0], n.masters[1:]...)
}

// openKeys opens the personal keys, and refuses a master key that is not theirs.
func (n *node) openKeys(ctx context.Context) (*sealed.Keys, error) {
	keys, err := n.keys()
	if err != nil {
		return nil, err
	}
	if err := keys.Verify(ctx); errors.Is(err, sealed.ErrWrongMaster) {
		return nil, err
	}
	return keys, n.applyErasures(ctx)
}

// owed reads the ledger of erasures, and tells which of them the store has not; without a ledger, there are none.
func (n *node) owed(ctx context.Context) (all, owed []audit.Erasure, err error) {
	if n.erasures.Path == "" {
		return nil, nil, nil
	}
	if all, err = n.erasures.All(); err == nil {
		owed, err = audit.Owed(ctx, n.store, all)
	}
	return all, owed, err
}

// applyErasures deletes the keys that a restored store has again. Until then nobody is served.
func (n *node) applyErasures(ctx context.Context) error {
	_, owed, err := n.owed(ctx)
	if err == nil && len(owed) > 0 {
		n.tel.Log.WarnContext(ctx, "the event store has keys of people who were erased: it was restored from a backup of before that; they are erased again", "people", len(owed))
		err = audit.Apply(ctx, n.store, owed)
	}
	if err != nil {
		return fmt.Errorf("apply the ledger of erasures: %w", err)
	}
	return nil
}
