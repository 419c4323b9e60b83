package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/internal/embedded"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// rebuildBench measures a rebuild from an event store into the reads database: as `salon projections rebuild` does it, with its
// runs, leases and slices, beside a plain program that does the same work once; then what follows one, and what those notice
// who book and read meanwhile. All databases and topics are the benchmark's own.
type rebuildBench struct {
	report *report
	sizes  []int         // of the histories, in events
	plain  int           // up to this size the plain program is measured, too: it holds everything in memory
	past   int           // events of the history that is rebuilt while people go on booking
	rounds int           // of which the median counts, where a figure is taken more than once
	each   time.Duration // how long a load lasts that waits for nothing else
	log    io.Writer
}

func (b *rebuildBench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// workload is a history and the projection that is rebuilt from it.
type workload struct {
	name string
	of   engine.Projection
	// history yields so many events of many keys, in turns as they come in life: those of a key lie far apart.
	history func(events int) iter.Seq[eventstore.Recorded]
}

func workloads() []workload {
	return []workload{
		{"reservations, six events a row", reservations.Projection(), bookings},
		{"chat messages, a row an event", chatrooms.Projection(), messages},
	}
}

func (b *rebuildBench) run(ctx context.Context, servers config.Servers) error {
	if err := b.besidePlain(ctx, servers); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	inProcess := servers.Kafka == ""
	if inProcess || servers.Redis == "" {
		own, err := embedded.Start(dir)
		if err != nil {
			return err
		}
		defer own.Close()
		servers.Redis = cmp.Or(servers.Redis, own.RedisURL())
		if inProcess {
			servers.Kafka, servers.Topics.Partitions, servers.Topics.Replication = own.Brokers()[0], embeddedPartitions, 1
		}
	}
	if err := b.views(ctx, servers); err != nil {
		return fmt.Errorf("views: %w", err)
	}
	return b.live(ctx, dir, servers, inProcess)
}

// besidePlain measures rebuilds into the reads database, each beside a plain program.
func (b *rebuildBench) besidePlain(ctx context.Context, servers config.Servers) error {
	for _, w := range workloads() {
		var took []float64
		for _, n := range b.sizes {
			seconds, err := b.measure(ctx, servers, w, n)
			if err != nil {
				return fmt.Errorf("%s, %d events: %w", w.name, n, err)
			}
			took = append(took, seconds)
		}
		if len(b.sizes) > 1 {
			b.report.slope(fmt.Sprintf("%s: exponent of the time over the events, %d to %d", w.name, b.sizes[0], b.sizes[len(b.sizes)-1]), b.sizes, took)
		}
	}
	return nil
}

// slope reports by which power of the size the time grows: 1 is a straight line. It is the least squares of the logarithms.
func (r *report) slope(what string, sizes []int, took []float64) {
	var x, y, xx, xy float64
	for i, n := range sizes {
		lx, ly := math.Log(float64(n)), math.Log(took[i])
		x, y, xx, xy = x+lx, y+ly, xx+lx*lx, xy+lx*ly
	}
	n := float64(len(sizes))
	r.atMost(what, (n*xy-x*y)/(n*xx-x*x), "", 1.1)
}

// measure fills a store and rebuilds from it, in turns with the plain program, and answers the median of the seconds. Where
// the plain program has no part, it rebuilds once.
func (b *rebuildBench) measure(ctx context.Context, servers config.Servers, w workload, events int) (seconds float64, err error) {
	b.say("%s: making %d events …", w.name, events)
	past, err := b.fill(ctx, servers.Events, w.history(events))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, past.store.Close(), past.drop(context.WithoutCancel(ctx))) }()
	var ours, plain, ratios, took []sample
	rows, heap := 0, 0.0
	for round := range b.rounds {
		into := ""
		one := func(build func(ctx context.Context, db *reads.DB) (time.Duration, error)) (d time.Duration, err error) {
			db, drop, err := b.reads(ctx, servers.Reads)
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, drop(context.WithoutCancel(ctx))) }()
			into = database(db)
			runtime.GC()
			return build(ctx, db)
		}
		d, err := one(func(ctx context.Context, db *reads.DB) (time.Duration, error) {
			r, most, err := b.rebuild(ctx, db, past.store, w.of, 1)
			rows, heap = int(r.Rows), max(heap, most)
			return lasted(r), err
		})
		if err != nil {
			return 0, err
		}
		took = append(took, sample{Rate: d.Seconds()})
		ours = append(ours, sample{Rate: float64(events) / d.Seconds()})
		said := fmt.Sprintf("round %d: %s into %s, %.1f s", round+1, w.name, into, d.Seconds())
		if events > b.plain {
			b.say("%s", said)
			break // a history of that size takes long, and there is nothing to hold it to
		}
		d, err = one(func(ctx context.Context, db *reads.DB) (time.Duration, error) {
			began := time.Now()
			n, err := engine.PlainRebuild(ctx, db, w.of, codec(), past.scan(ctx))
			if err == nil && n != rows {
				err = fmt.Errorf("%d rows were built, and %d by the plain program", rows, n)
			}
			return time.Since(began), err
		})
		if err != nil {
			return 0, err
		}
		b.say("%s; the plain program %.1f s", said, d.Seconds())
		plain = append(plain, sample{Rate: float64(events) / d.Seconds()})
		ratios = append(ratios, sample{Rate: ours[round].Rate / plain[round].Rate})
	}
	what := fmt.Sprintf("%s: %d events rebuilt", w.name, events)
	if plain != nil {
		b.report.ratio(what+" (ceiling: a plain program)", median(ours, rate), "/s", median(plain, rate), median(ratios, rate), 0.8)
	} else {
		b.report.plain(what, median(ours, rate), "/s")
	}
	b.report.plain(what+", rows", median(ours, rate)*float64(rows)/float64(events), "/s")
	b.report.plain(what+", most of the heap", heap, "MiB")
	return median(took, rate), nil
}

// rebuild lets a worker build the version from the store, as of a log without events of so many partitions, and answers the
// heap's most.
func (b *rebuildBench) rebuild(ctx context.Context, db *reads.DB, from rebuild.Source, p engine.Projection, partitions int) (r rebuild.Run, heap float64, err error) {
	desk := &rebuild.Desk{DB: db, Of: []engine.Projection{p}}
	w := &rebuild.Worker{
		Desk: desk, Store: from, Codec: codec(), Log: warnings(b.log),
		Ends: func(context.Context, []string) (map[rebuild.Partition]int64, error) {
			ends := map[rebuild.Partition]int64{}
			for part := range partitions {
				ends[rebuild.Partition{Topic: p.Topics[0], Part: int32(part)}] = 0 //nolint:gosec // a partition count
			}
			return ends, nil
		},
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(working) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	q := rebuild.Request{Kind: rebuild.Rebuild, Projection: p.ID(), By: "bench", Options: rebuild.Options{Pace: rebuild.Full}}
	r, err = carriedOut(ctx, desk, q, func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = max(heap, float64(m.HeapAlloc)/(1<<20))
	})
	return r, heap, err
}

// carriedOut asks for a run and waits for its end; meanwhile, unless it is nil, is called now and then. An error is one, too,
// that the run came to, or that it found something wrong.
func carriedOut(ctx context.Context, desk *rebuild.Desk, q rebuild.Request, meanwhile func()) (rebuild.Run, error) {
	r, err := desk.Ask(ctx, q)
	if err != nil {
		return r, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !r.Ended() {
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-tick.C:
		}
		if meanwhile != nil {
			meanwhile()
		}
		if r, err = desk.Run(ctx, r.ID); err != nil {
			return r, err
		}
	}
	if r.State != rebuild.Done || r.Report != nil && !r.Report.Equal() {
		return r, fmt.Errorf("the %s of %s is %s: %s", r.Kind, r.VersionID(), r.State, r.Detail)
	}
	return r, nil
}

// lasted is how long a worker was at a run.
func lasted(r rebuild.Run) time.Duration { return r.EndedAt.Sub(r.StartedAt) }

// archive is an event store of the benchmark's own.
type archive struct {
	url   string
	store store
	scan  func(context.Context) iter.Seq2[eventstore.Recorded, error]
	drop  func(context.Context) error // once the store is closed
}

// fill makes a store of these events: in PostgreSQL when the URL says so, else a SQLite file.
func (b *rebuildBench) fill(ctx context.Context, url string, events iter.Seq[eventstore.Recorded]) (a archive, err error) {
	defer func() {
		if err != nil && a.drop != nil {
			err = errors.Join(err, a.drop(context.WithoutCancel(ctx)))
		}
	}()
	if strings.HasPrefix(url, "postgres") {
		if a.url, a.drop, err = postgres.Scratch(ctx, url); err != nil {
			return a, err
		}
		a.scan = func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] { return postgres.PlainScan(ctx, a.url) }
		if err = postgres.Fill(ctx, a.url, events); err != nil {
			return a, err
		}
		a.store, err = openEvents(ctx, a.url, nil)
		return a, err
	}
	if url != "" {
		return a, usage(errors.New("bench rebuild reads PostgreSQL (--events postgres://…) or, without --events, SQLite"))
	}
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return a, err
	}
	path := filepath.Join(dir, eventsName)
	a.url, a.drop = "sqlite:"+path, func(context.Context) error { return os.RemoveAll(dir) }
	a.scan = func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] { return sqlite.PlainScan(ctx, path) }
	if err = sqlite.Migrate(ctx, path); err != nil {
		return a, err
	}
	if err = sqlite.Fill(ctx, path, events); err != nil {
		return a, err
	}
	a.store, err = openEvents(ctx, a.url, nil)
	return a, err
}

// ownReads makes a reads database of the benchmark's own, and answers where it is and how to drop it.
func (b *rebuildBench) ownReads(ctx context.Context, url string) (own string, drop func(context.Context) error, err error) {
	if strings.HasPrefix(url, "mysql:") {
		return reads.Scratch(ctx, url)
	}
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return "", nil, err
	}
	return "sqlite:" + filepath.Join(dir, readsName), func(context.Context) error { return os.RemoveAll(dir) }, nil
}

// reads makes a reads database of its own for one run.
func (b *rebuildBench) reads(ctx context.Context, url string) (*reads.DB, func(context.Context) error, error) {
	own, drop, err := b.ownReads(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	db, err := reads.Open(ctx, own)
	if err == nil {
		err = db.Migrate(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, drop(context.WithoutCancel(ctx)))
	}
	return db, func(ctx context.Context) error { return errors.Join(db.Close(), drop(ctx)) }, nil
}
