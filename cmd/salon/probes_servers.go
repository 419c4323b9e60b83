package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dangdangsalon/salon/audit/doctor"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// The servers themselves: versions, schemas, clocks, disks; and the ledger beside them.

// probeVersions tells what runs, and refuses schemas and versions of projections that this release has not.
func (s *patient) probeVersions(ctx context.Context) (string, error) {
	seen := []string{"salon " + versionLine()}
	var wrong []error
	schema := func(of string, has, want int64) string {
		if has > want {
			wrong = append(wrong, fmt.Errorf("the schema of the %s is at step %d, and this release ends with %d: a newer one migrated it; look with that one (`salon --version` of the nodes tells which)", of, has, want))
		}
		if has < want {
			wrong = append(wrong, fmt.Errorf("the schema of the %s is at step %d of %d: run `salon migrate up`", of, has, want))
		}
		return fmt.Sprintf("schema %d", has)
	}
	switch store, can := s.store.(eventstore.Examined); {
	case s.noStore != nil:
		seen = append(seen, "the event store's is not known")
	case can:
		server, err := store.Server(ctx)
		if err != nil {
			wrong = append(wrong, err)
			break
		}
		seen = append(seen, fmt.Sprintf("events: %s, %s", server.Version, schema("event store", server.Schema, server.Want)))
	default:
		seen = append(seen, "events: EventStoreDB, which does not tell its version")
	}
	if s.reads != nil {
		server, versions, err := s.readsVersions(ctx)
		switch {
		case errors.Is(err, reads.ErrNotMigrated):
			wrong = append(wrong, err)
		case err != nil:
			seen = append(seen, "the reads database's is not known")
		default:
			seen = append(seen, fmt.Sprintf("reads: %s, %s", server.Version, schema("reads database", server.Schema, server.Want)))
			known, unknown := told(versions)
			seen = append(seen, "projections: "+known)
			wrong = append(wrong, unknown...)
		}
	}
	if s.redis != nil {
		if info, err := s.redis.Info(ctx).Result(); err == nil {
			if v := fieldsOf(info)["redis_version"]; v != "" {
				seen = append(seen, "Redis "+v)
			}
		}
	}
	if s.alone { // its broker is of this binary
		return strings.Join(seen, "\n"), errors.Join(wrong...)
	}
	if v, err := kafkaVersion(ctx, s.servers.Brokers()); err == nil {
		seen = append(seen, "Kafka "+v)
	}
	return strings.Join(seen, "\n"), errors.Join(wrong...)
}

func (s *patient) readsVersions(ctx context.Context) (server reads.Server, versions map[string]engine.State, err error) {
	if err := s.reads.Check(ctx); err != nil {
		return server, nil, err
	}
	if server, err = s.reads.Server(ctx); err == nil {
		versions, err = engine.States(ctx, s.reads.Reader())
	}
	return server, versions, err
}

// told lists the versions of projections that the reads database has, and complains about those that this release cannot fold.
func told(states map[string]engine.State) (known string, unknown []error) {
	folds := map[string]bool{}
	for _, p := range engine.AllVersions(allProjections()) {
		folds[p.ID()] = true
	}
	var all []string
	for id, state := range states {
		if state != engine.Live {
			id = fmt.Sprintf("%s (%s)", id, state)
		}
		all = append(all, id)
	}
	slices.Sort(all)
	for id := range states {
		if !folds[id] {
			i := strings.LastIndex(id, "_v")
			unknown = append(unknown, fmt.Errorf("this release has no fold for %s: look with the one that built it, or, when it is of no more use, drop it with that one (`salon projections drop %s@%s`)", id, id[:i], id[i+2:]))
		}
	}
	return strings.Join(all, ", "), unknown
}

// kafkaVersion is the brokers', as what they can do tells.
func kafkaVersion(ctx context.Context, brokers []string) (string, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.WithContext(ctx))
	if err != nil {
		return "", err
	}
	defer client.Close()
	all, err := kadm.NewClient(client).ApiVersions(ctx)
	if err != nil {
		return "", err
	}
	var guesses []string
	for _, v := range all {
		if v.Err == nil {
			guesses = append(guesses, strings.TrimPrefix(v.VersionGuess(), "v"))
		}
	}
	slices.Sort(guesses)
	return strings.Join(slices.Compact(guesses), " and "), nil
}

// probeClocks compares the servers' clocks with ours.
func (s *patient) probeClocks(ctx context.Context) (string, error) {
	if s.alone {
		return "every part runs in this process, by one clock", nil
	}
	var clocks []doctor.Clock
	var silent []string
	if store, can := s.store.(eventstore.Examined); can {
		clocks = append(clocks, doctor.Clock{Name: "the event store", Ask: func(ctx context.Context) (time.Time, error) {
			server, err := store.Server(ctx)
			return server.Now, err
		}})
	} else {
		silent = append(silent, "the event store")
	}
	if s.reads != nil && s.reads.Dialect() == reads.MySQL {
		clocks = append(clocks, doctor.Clock{Name: "the reads database", Ask: s.reads.Now})
	}
	if s.redis != nil {
		clocks = append(clocks, doctor.Clock{Name: "Redis", Ask: func(ctx context.Context) (time.Time, error) { return s.redis.Time(ctx).Result() }})
	}
	detail, err := doctor.Clocks(ctx, time.Now, clocks)
	return detail + "; not told by " + strings.Join(append(silent, "Kafka"), " and "), err
}

// leastFree is how much has to be free on a disk: what a busy hour writes, and somebody needs to act.
const leastFree = 1 << 30

// probeDisk tells what is free where this process writes, and of servers what they tell.
func (s *patient) probeDisk(ctx context.Context) (string, error) {
	if file, embedded := strings.CutPrefix(s.servers.Events, "sqlite:"); embedded {
		var disk syscall.Statfs_t
		if err := syscall.Statfs(file, &disk); err != nil {
			return "", fmt.Errorf("the disk of %s: %w", file, err)
		}
		return judgeDisk("the data folder's disk", int64(disk.Bavail)*disk.Bsize, int64(disk.Blocks)*disk.Bsize) //nolint:gosec // no disk has 2^63 bytes
	}
	seen, wrong := []string{}, []error(nil)
	if store, can := s.store.(eventstore.Examined); can {
		if server, err := store.Server(ctx); err == nil {
			seen = append(seen, "the events take "+size(server.Bytes))
		}
	}
	if s.reads != nil {
		if server, err := s.reads.Server(ctx); err == nil {
			seen = append(seen, "the read models take "+size(server.Bytes))
		}
	}
	dirs, err := kafkaDisks(ctx, s.servers.Brokers())
	if err != nil {
		seen = append(seen, "Kafka does not tell")
	}
	for _, d := range dirs {
		if d.TotalBytes <= 0 {
			seen = append(seen, fmt.Sprintf("broker %d has %s in %s", d.Broker, size(d.Size()), d.Dir))
			continue
		}
		told, err := judgeDisk(fmt.Sprintf("%s of broker %d", d.Dir, d.Broker), d.UsableBytes, d.TotalBytes)
		if wrong = append(wrong, err); err == nil {
			seen = append(seen, told)
		}
	}
	return strings.Join(append(seen, "what is free where the databases write is not visible from here"), "; "), errors.Join(wrong...)
}

func kafkaDisks(ctx context.Context, brokers []string) ([]kadm.DescribedLogDir, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	all, err := kadm.NewClient(client).DescribeAllLogDirs(ctx, nil)
	return all.Sorted(), err
}

func judgeDisk(of string, free, whole int64) (string, error) {
	if free < leastFree && free < whole/20 { // a small disk may be meant to be small
		return "", fmt.Errorf("%s has %s of %s free: make room, or give it more; `df -h` shows all", of, size(free), size(whole))
	}
	return fmt.Sprintf("%s has %s of %s free", of, size(free), size(whole)), nil
}

// judgeRedis looks at what INFO tells.
func judgeRedis(info map[string]string) (string, error) {
	detail := "answers"
	if v := info["redis_version"]; v != "" { // the embedded one has none
		detail = "version " + v
	}
	var wrong []error
	if policy := info["maxmemory_policy"]; strings.HasPrefix(policy, "allkeys") {
		wrong = append(wrong, fmt.Errorf("evicts keys when it is full (maxmemory-policy %s), so no view can be kept in it: run `redis-cli config set maxmemory-policy noeviction`", policy))
	}
	used, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	if most, _ := strconv.ParseInt(info["maxmemory"], 10, 64); most > 0 {
		detail += fmt.Sprintf(", %s of %s used", size(used), size(most))
		if used > most/10*9 {
			wrong = append(wrong, fmt.Errorf("%s of %s are used: it is about to refuse what is written; run `redis-cli config set maxmemory %d`, if the machine has it", size(used), size(most), 2*most))
		}
	} else if used > 0 {
		detail += fmt.Sprintf(", %s used", size(used))
	}
	return detail, errors.Join(wrong...)
}

func size(bytes int64) string {
	const unit = 1024
	for _, u := range []struct {
		name string
		of   int64
	}{{"GiB", unit * unit * unit}, {"MiB", unit * unit}, {"KiB", unit}} {
		if bytes >= u.of {
			return fmt.Sprintf("%.1f %s", float64(bytes)/float64(u.of), u.name)
		}
	}
	return fmt.Sprintf("%d B", bytes)
}

// probeErasures looks whether the store has what the ledger says was erased.
func (s *patient) probeErasures(ctx context.Context) (string, error) {
	if s.erasures.Path == "" {
		return "no ledger was named, so a store that was restored behind an erasure is not noticed: give --erasures", nil
	}
	all, owed, err := s.owed(ctx)
	if err != nil {
		return "", err
	}
	var wrong []error
	for _, e := range owed {
		role, sub, _ := strings.Cut(e.Subject, ":")
		wrong = append(wrong, fmt.Errorf("%s was erased at %s, and the store has their key again: it was restored from a backup of before that; a node that starts with the ledger erases them again, or run `salon person erase %[3]s --confirm %[3]s`",
			e.Subject, e.AskedAt.Format(time.RFC3339), word(role+"/"+sub)))
	}
	return fmt.Sprintf("%d erasures in the ledger, all applied", len(all)), errors.Join(wrong...)
}
