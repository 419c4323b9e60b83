// Package embedded is what `salon up` runs in place of servers: a Kafka-protocol broker and a Redis-protocol server
// inside the process, on loopback ports that the operating system picks, and the lock of the data folder.
//
// They speak the real wire protocols, so the relay, the projections and the reads are the same code as against real
// servers. What they are not: durable against a power cut (the event store is the truth, and the relay rewinds to
// what the log has), nor a place for more than one process.
package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Servers are the embedded broker and cache.
type Servers struct {
	kafka *kfake.Cluster
	redis *miniredis.Miniredis
}

// Start starts both, with the broker's log under dir.
func Start(dir string) (*Servers, error) {
	logs := filepath.Join(dir, "kafka")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, fmt.Errorf("make the broker's folder: %w", err)
	}
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(logs), kfake.ClusterID("salon"))
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker in %s: %w", logs, err)
	}
	redis := miniredis.NewMiniRedis()
	if err := redis.Start(); err != nil {
		kafka.Close()
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	return &Servers{kafka, redis}, nil
}

// Brokers is the broker's address list.
func (s *Servers) Brokers() []string { return s.kafka.ListenAddrs() }

// RedisURL is the cache's address.
func (s *Servers) RedisURL() string { return "redis://" + s.redis.Addr() + "/0" }

// Run moves the cache's clock: in miniredis time stands still by itself, and no key would ever expire.
func (s *Servers) Run(ctx context.Context) error {
	const step = time.Second
	t := time.NewTicker(step)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.redis.FastForward(step)
		}
	}
}

// Close stops both. Close every client first: the broker remembers group members it did not see leave, and the next
// start would wait out their session.
func (s *Servers) Close() {
	s.kafka.Close()
	s.redis.Close()
}
