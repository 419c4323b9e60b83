package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/audit/doctor"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/telemetry"
)

const (
	systemEvery = 15 * time.Second
	// lookTakes bounds each look, so that a server that hangs does not keep the others from being looked at.
	lookTakes = 3 * time.Second
)

// observeSystem turns what can be seen of the system as a whole into metrics: every node of the role admin sees the same, so
// that one of them is enough.
func (n *node) observeSystem(ctx context.Context) error {
	next := time.NewTimer(time.Second) // a start has other things to do first
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		n.tel.Metrics.System(n.system(ctx))
		next.Reset(systemEvery)
	}
}

// system looks at everything, one after the other. What fails is missing from the answer; the servers themselves are told to
// be away.
func (n *node) system(ctx context.Context) telemetry.System {
	s := telemetry.System{Servers: map[string]bool{}, Replicas: map[string][]telemetry.Replica{}}
	look := func(what string, at func(ctx context.Context) error) bool {
		ctx, cancel := context.WithTimeout(ctx, lookTakes)
		defer cancel()
		err := at(ctx)
		if err != nil && ctx.Err() == nil {
			n.tel.Log.DebugContext(ctx, "could not look", "at", what, "error", err)
		}
		return err == nil
	}
	s.Servers["events"] = look("event store", func(ctx context.Context) error { return n.seeStore(ctx, &s) })
	s.Servers["reads"] = look("reads database", n.reads.Ping)
	if s.Servers["reads"] { // without it nobody follows, and nobody could say how far anybody is
		n.seeWatched(ctx, &s)
	}
	s.Servers["redis"] = look("redis", func(ctx context.Context) error { return n.seeRedis(ctx, &s) })
	s.Servers["kafka"] = look("kafka", func(ctx context.Context) error { return n.seeKafka(ctx, &s) })
	if s.Servers["events"] {
		look("look-up index", func(ctx context.Context) error { return n.seeLookups(ctx, &s) })
		look("seals", func(ctx context.Context) error { return n.seeSeals(ctx, &s) })
		look("erasures", func(ctx context.Context) error { return n.seeErasures(ctx, &s) })
	}
	look("projections", func(ctx context.Context) error { return n.seeProjections(ctx, &s) })
	for _, front := range n.watchFront {
		look("front", func(ctx context.Context) error {
			s.Fronts = append(s.Fronts, seeFront(ctx, front))
			return nil
		})
	}
	return s
}

func (n *node) seeStore(ctx context.Context, s *telemetry.System) error {
	if _, err := n.store.Head(ctx); err != nil {
		return err
	}
	if store, can := n.store.(interface {
		Replicas(ctx context.Context) (map[string]time.Duration, error)
	}); can {
		replicas, err := store.Replicas(ctx)
		if err != nil {
			return err
		}
		s.Replicas["events"] = []telemetry.Replica{}
		for name, behind := range replicas {
			s.Replicas["events"] = append(s.Replicas["events"], telemetry.Replica{Name: name, Behind: &behind})
		}
	}
	return nil
}

// seeRedis reads the replicas of a primary: each says once a second how far it is.
func (n *node) seeRedis(ctx context.Context, s *telemetry.System) error {
	if err := n.redis.Ping(ctx).Err(); err != nil || n.alone {
		return err
	}
	info, err := n.redis.InfoMap(ctx, "replication").Result()
	if err != nil {
		return err
	}
	replicas := []telemetry.Replica{}
	for name, text := range info["Replication"] {
		var r telemetry.Replica
		if number, found := strings.CutPrefix(name, "slave"); !found || strings.Trim(number, "0123456789") != "" {
			continue
		}
		for field := range strings.SplitSeq(text, ",") {
			switch key, value, _ := strings.Cut(field, "="); key {
			case "ip", "port":
				r.Name = strings.TrimPrefix(r.Name+":"+value, ":")
			case "lag":
				seconds, _ := strconv.Atoi(value) // nothing else is a lag
				behind := time.Duration(max(0, seconds)) * time.Second
				r.Behind = &behind
			}
		}
		replicas = append(replicas, r)
	}
	s.Replicas["redis"] = replicas
	return nil
}

func (n *node) seeKafka(ctx context.Context, s *telemetry.System) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(n.servers.Brokers()...))
	if err != nil {
		return fmt.Errorf("open Kafka: %w", err)
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopicsWithInternal(ctx)
	if err != nil {
		return fmt.Errorf("list the topics: %w", err)
	}
	late := 0
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if len(p.ISR) < len(p.Replicas) {
			late++
		}
	})
	s.Unmirrored = &late
	if n.alone {
		return nil // its log is in the folder
	}
	dirs, err := kafkaDisks(ctx, n.servers.Brokers())
	for _, d := range dirs {
		if d.TotalBytes > 0 {
			s.Disks = append(s.Disks, telemetry.Disk{Broker: int(d.Broker), Folder: d.Dir, Free: d.UsableBytes, Size: d.TotalBytes})
		}
	}
	return err
}

func (n *node) seeLookups(ctx context.Context, s *telemetry.System) error {
	lookups, can := n.store.(eventstore.Lookups)
	if !can {
		return nil
	}
	through, err := lookups.LookupsThrough(ctx)
	if err != nil {
		return err
	}
	_, waits, err := doctor.Behind(ctx, n.store, through, time.Now())
	if err == nil {
		s.Lookups = &waits
	}
	return err
}

func (n *node) seeSeals(ctx context.Context, s *telemetry.System) error {
	if n.sealing == nil {
		return nil
	}
	_, waits, err := n.sealing.last(ctx, time.Now())
	if err == nil {
		s.Seals = &waits
	}
	return err
}

func (n *node) seeErasures(ctx context.Context, s *telemetry.System) error {
	if n.erasures.Path == "" {
		return nil
	}
	_, owed, err := n.owed(ctx)
	if err == nil {
		count := len(owed)
		s.Erasures = &count
	}
	return err
}

func (n *node) seeProjections(ctx context.Context, s *telemetry.System) error {
	all, err := n.projections().List(ctx)
	if err != nil {
		return err
	}
	for _, p := range all.Items {
		s.Projections = append(s.Projections, telemetry.Projection{
			Version: p.Name + "_v" + strconv.Itoa(p.Version), State: p.State, Serves: p.Serves,
			Behind: time.Duration(p.LagSeconds * float64(time.Second)), Parked: p.Parked,
		})
	}
	return nil
}

// seeFront calls an address anew, as somebody who comes would. Who signed the certificate is not asked: a name inside may
// not be the one that it is for.
func seeFront(ctx context.Context, url string) telemetry.Front {
	seen := telemetry.Front{URL: url}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return seen
	}
	res, err := client.Do(r)
	seen.Took = time.Since(began)
	if err != nil {
		return seen
	}
	_ = res.Body.Close()
	seen.Up = res.StatusCode < http.StatusInternalServerError
	if res.TLS != nil {
		for _, c := range res.TLS.PeerCertificates {
			if seen.Expires.IsZero() || c.NotAfter.Before(seen.Expires) {
				seen.Expires = c.NotAfter
			}
		}
	}
	return seen
}

// disk is the file system behind this process's files: the data folder's, or that of the container, which on one host is
// that of the servers' volumes, too. It is 0 of 0 where the system does not tell.
func (n *node) disk() (free, size int64) {
	folder := "/"
	if n.alone {
		folder = filepath.Dir(strings.TrimPrefix(n.servers.Events, "sqlite:"))
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return 0, 0
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize) //nolint:gosec,unconvert // other systems have other types; disks end below 2^63
}
