package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/projections/reservations"
)

const (
	liveRate = 200 // commands a second while a version is rebuilt
	liveSome = 16  // people that give them, or whose visits are moved and read through the switches
	moveRate = 50  // commands a second through the switches
	readRate = 500 // reads a second through the switches
	readers  = 128 // at once: each waits for the write that it is to see
	switches = 20  // every other one a rollback
)

// live measures on a whole system with a history, all roles in this process: how soon the rows of those who book can be seen
// while the other version of reservations is rebuilt, the verification of the two, and switches under reads.
func (b *rebuildBench) live(ctx context.Context, dir string, servers config.Servers, alone bool) (err error) {
	b.say("live: making %d events …", b.past)
	past, err := b.fill(ctx, servers.Events, bookings(b.past))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, past.drop(context.WithoutCancel(ctx))) }()
	n := &node{servers: servers, alone: alone}
	n.servers.Events = past.url
	n.servers.Topics.TopicPrefix += "bench-" + strings.ToLower(rand.Text()[:10]) + "."
	drops, err := b.beginAfter(ctx, n, past.store)
	defer func() { err = errors.Join(err, drops(context.WithoutCancel(ctx))) }()
	if err = errors.Join(err, past.store.Close()); err != nil {
		return err
	}
	if err := n.migrate(ctx); err != nil { // the other projections begin
		return err
	}
	return (&e2e{report: b.report, each: b.each, log: b.log}).onNode(ctx, n, dir, func(ctx context.Context, n *node, p *people) error {
		for _, measure := range []func(context.Context, *node, *people) error{b.beside, b.verified, b.switched} {
			if err := measure(ctx, n, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// beginAfter makes what a system has whose history is long past: Kafka has none of it any more, and the newest version of
// reservations has its rows. The other projections will begin after it: nothing of it is about those who book now. drop removes
// what was made, also when there is an error.
func (b *rebuildBench) beginAfter(ctx context.Context, n *node, past store) (drop func(context.Context) error, err error) {
	var drops []func(context.Context) error
	drop = func(ctx context.Context) error {
		var errs []error
		for _, d := range slices.Backward(drops) {
			errs = append(errs, d(ctx))
		}
		return errors.Join(errs...)
	}
	own, dropReads, err := b.ownReads(ctx, n.servers.Reads)
	if err != nil {
		return drop, err
	}
	n.servers.Reads, drops = own, append(drops, dropReads)
	var flush func(context.Context) error
	if n.servers.Redis, flush, err = emptyRedis(ctx, n.servers.Redis); err != nil {
		return drop, err
	}
	drops = append(drops, flush, func(ctx context.Context) error { return dropTopics(ctx, n.servers) })
	if err := topicsOf(n.servers).Ensure(ctx); err != nil {
		return drop, err
	}
	if err := markPast(ctx, n.servers, past); err != nil {
		return drop, err
	}
	db, err := reads.Open(ctx, own)
	if err != nil {
		return drop, err
	}
	if err = db.Migrate(ctx); err == nil {
		_, _, err = b.rebuild(ctx, db, past, reservations.Projection(), n.servers.Topics.Partitions)
	}
	return drop, errors.Join(err, db.Close())
}

// markPast writes to each partition what a relay leaves in one whose events are all gone by retention: a marker that says how
// far it came.
func markPast(ctx context.Context, servers config.Servers, past store) error {
	head, err := past.Head(ctx)
	if err != nil {
		return err
	}
	m := wire.Marker{Incarnation: head.Incarnation}
	for last, err := range past.ReadAll(ctx, head.Position-1, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		m.At = wire.PlaceOf(last)
	}
	var headers []kgo.RecordHeader
	for _, h := range m.Headers() {
		headers = append(headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(servers.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	for _, topic := range wire.Topics() {
		for part := range servers.Topics.Partitions {
			records = append(records, &kgo.Record{Topic: servers.Topics.TopicPrefix + topic, Partition: int32(part), Headers: headers}) //nolint:gosec // a partition count
		}
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

// emptyRedis finds an empty database on the server of a URL, the one that it names if that is, and answers how to empty it
// again: views have the same keys in every system.
func emptyRedis(ctx context.Context, url string) (own string, empty func(context.Context) error, err error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return "", nil, usage(errors.New("--redis is not a valid redis:// URL"))
	}
	base, _, _ := strings.Cut(url, "?")
	if scheme := strings.Index(base, "://") + len("://"); strings.Contains(base[scheme:], "/") {
		base = base[:strings.LastIndex(base, "/")]
	}
	for _, db := range []int{options.DB, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0} {
		options.DB = db
		client := redis.NewClient(options)
		keys, err := client.DBSize(ctx).Result()
		if err := errors.Join(err, client.Close()); err != nil {
			return "", nil, fmt.Errorf("look for an empty Redis database: %w", err)
		}
		if keys > 0 {
			continue
		}
		return fmt.Sprintf("%s/%d", base, db), func(ctx context.Context) error {
			client := redis.NewClient(options)
			return errors.Join(client.FlushDB(ctx).Err(), client.Close())
		}, nil
	}
	return "", nil, errors.New("bench rebuild needs an empty Redis database, and none of 0 to 15 is")
}

// beside measures how soon rows can be seen while the first version of reservations is built at the normal pace, and before
// that without it.
func (b *rebuildBench) beside(ctx context.Context, n *node, p *people) error {
	l := &load{people: p, desk: p.direct, callers: liveSome, rate: liveRate}
	b.say("live: %d commands/s for %v …", liveRate, b.each)
	p.visible.reset()
	if _, err := l.run(ctx, b.each); err != nil {
		return err
	}
	if err := b.seen(ctx, n, p, fmt.Sprintf("at %d/s", liveRate), b.report.plain); err != nil {
		return err
	}
	b.say("live: the same while %d events are rebuilt …", b.past)
	p.visible.reset()
	enough := make(chan struct{})
	l.enough = enough
	var commands int
	loaded := make(chan error, 1)
	began := time.Now()
	go func() {
		done, err := l.run(ctx, time.Hour)
		commands = len(done.took)
		loaded <- err
	}()
	r, err := carriedOut(ctx, n.versions(), rebuild.Request{Kind: rebuild.Rebuild, Projection: "reservations@1", By: "bench"}, nil)
	close(enough)
	if err := errors.Join(err, <-loaded); err != nil {
		return err
	}
	b.report.plain(fmt.Sprintf("commands beside a rebuild, offered %d/s", liveRate), float64(commands)/time.Since(began).Seconds(), "/s")
	b.report.plain("rebuild at the normal pace beside them", lasted(r).Seconds(), "s")
	b.report.plain("of this, events", float64(r.Events)/lasted(r).Seconds(), "/s")
	return b.seen(ctx, n, p, "while a version is rebuilt", func(what string, value float64, unit string) {
		if strings.HasSuffix(what, "p99") {
			b.report.atMost(what, value, unit, 1000)
			return
		}
		b.report.plain(what, value, unit)
	})
}

// seen reports how soon the rows of what was accepted could be seen in the reads database.
func (b *rebuildBench) seen(ctx context.Context, n *node, p *people, when string, report func(what string, value float64, unit string)) error {
	if _, err := p.visible.drained(ctx, n); err != nil {
		return err
	}
	took := p.visible.took(engine.SQL)
	for _, q := range []struct {
		name string
		of   float64
	}{{"p50", .5}, {"p99", .99}, {"longest", 1}} {
		report("accepted → visible "+when+", "+q.name, milliseconds(quantile(took, q.of)), "ms")
	}
	return nil
}

// verified measures the verification of the two versions, and of the newest against the store.
func (b *rebuildBench) verified(ctx context.Context, n *node, _ *people) error {
	for _, v := range []struct {
		what   string
		ask    rebuild.Request
		report func(what string, value float64, unit string)
	}{
		{"verification of two versions of reservations, rows", rebuild.Request{Projection: "reservations@1"}, func(what string, value float64, unit string) {
			b.report.atLeast(what, value, unit, 200_000)
		}},
		{"verification of one against the store (--fresh), rows", rebuild.Request{Projection: "reservations@2", Options: rebuild.Options{Fresh: true}}, b.report.plain},
	} {
		v.ask.Kind, v.ask.By = rebuild.Verify, "bench"
		var each []sample
		for round := range b.rounds {
			r, err := carriedOut(ctx, n.versions(), v.ask, nil)
			if err != nil {
				return err
			}
			b.say("round %d: %s, %d in %v", round+1, v.what, r.Rows, lasted(r).Round(time.Millisecond))
			each = append(each, sample{Rate: float64(r.Rows) / lasted(r).Seconds()})
		}
		v.report(v.what, median(each, rate), "/s")
	}
	return nil
}

// moving is a visit that is moved, as its latest move was answered.
type moving struct {
	reservation string
	token       string
	start       time.Time // only ever later
}

// switched moves reads from one version to the other and back while visits are moved and read over HTTP, with the token of
// the latest move: an answer that shows an earlier start is stale.
func (b *rebuildBench) switched(ctx context.Context, n *node, p *people) error {
	b.say("live: %d switches, %d reads/s …", switches, readRate)
	var visits [liveSome]atomic.Pointer[moving]
	for i := range visits {
		v, err := b.book(ctx, p, i)
		if err != nil {
			return err
		}
		visits[i].Store(v)
	}
	going, stop := context.WithCancel(ctx)
	defer stop()
	group, groupCtx := errgroup.WithContext(going)
	began := time.Now()
	group.Go(func() error {
		for k := 0; k < liveSome*(len(p.starts)-1); k++ {
			if until(groupCtx, began.Add(time.Duration(k)*time.Second/moveRate)) != nil {
				return nil //nolint:nilerr // stopped
			}
			at := &visits[k%liveSome]
			v, err := b.move(ctx, p, k%liveSome, *at.Load(), p.starts[1+k/liveSome])
			if err != nil {
				return err
			}
			at.Store(v)
		}
		return nil
	})
	var r readings
	for reader := range readers {
		group.Go(func() error {
			for k := reader; until(groupCtx, began.Add(time.Duration(k)*time.Second/readRate)) == nil; k += readers {
				i := k % liveSome
				r.read(ctx, p.reader(i), *visits[i].Load())
			}
			return nil
		})
	}
	var took []time.Duration
	var err error
	for i := 0; i < switches && err == nil; i++ {
		if err = until(groupCtx, began.Add(time.Duration(i+1)*b.each/switches)); err == nil {
			var d time.Duration
			d, err = b.point(ctx, n, i%2 == 0)
			took = append(took, d)
		}
	}
	stop()
	if err := errors.Join(err, group.Wait()); err != nil {
		return err
	}
	lasts := time.Since(began)
	b.report.plain("switch or rollback, median of 20", milliseconds(quantile(took, .5)), "ms")
	b.report.atMost("switch or rollback, the longest of 20", milliseconds(quantile(took, 1)), "ms", 50)
	b.report.atLeast(fmt.Sprintf("reads with tokens meanwhile, offered %d/s", readRate), float64(len(r.took))/lasts.Seconds(), "/s", .98*readRate)
	b.report.none("of these failed", r.failed, r.why)
	b.report.none("of these stale", r.stale, "")
	b.report.plain("of these, p99 of the answer", milliseconds(quantile(r.took, .99)), "ms")
	return nil
}

// none reports a number of what there should be none of.
func (r *report) none(what string, n int, why string) {
	if n > 0 && why != "" {
		what += " (" + why + ")"
	}
	r.Results = append(r.Results, measure{What: what, Value: float64(n), Goal: "0", Met: n == 0})
}

// book makes a visit of one person at the first of the starts.
func (b *rebuildBench) book(ctx context.Context, p *people, who int) (*moving, error) {
	var hold string
	v := moving{start: p.starts[0]}
	story := script(p.customer(who), p.groomer(who), v.start, -1, &hold, &v.reservation)
	var m mark
	for _, step := range story[:2] {
		var err error
		if m, err = p.direct.do(ctx, step()); err != nil {
			return nil, err
		}
	}
	v.token = p.token(m)
	return &v, nil
}

func (b *rebuildBench) move(ctx context.Context, p *people, who int, v moving, to time.Time) (*moving, error) {
	m, err := p.direct.do(ctx, action{
		by: p.customer(who), name: "reschedule", target: v.reservation, body: commands.Reschedule{Start: to}, key: "to-" + to.Format(time.RFC3339),
	})
	if err != nil {
		return nil, err
	}
	v.token, v.start = p.token(m), to
	return &v, nil
}

// point moves reads to the version that does not serve, and answers how long that took. One that lags is not moved to: it is
// asked for again, and that is not counted.
func (b *rebuildBench) point(ctx context.Context, n *node, first bool) (time.Duration, error) {
	q := rebuild.Request{Kind: rebuild.Rollback, Projection: "reservations", By: "bench"}
	if first {
		q.Kind, q.Projection = rebuild.Switch, "reservations@1"
	}
	for patience := time.Now().Add(time.Minute); ; {
		began := time.Now()
		_, err := n.versions().Ask(ctx, q)
		took := time.Since(began)
		if err == nil || !strings.Contains(err.Error(), " lags: ") || took > time.Until(patience) {
			return took, err
		}
		b.say("%v", err)
		if err := until(ctx, time.Now().Add(50*time.Millisecond)); err != nil {
			return 0, err
		}
	}
}

// readings are what reads came to.
type readings struct {
	mu            sync.Mutex
	took          []time.Duration
	failed, stale int
	why           string // the first of those that failed
}

func (r *readings) read(ctx context.Context, c *client, v moving) {
	var got struct {
		Start time.Time `json:"start"`
	}
	c.seen = v.token
	began := time.Now()
	_, err := c.must(ctx, http.MethodGet, "/v1/reservations/"+v.reservation, "", nil, &got)
	took := time.Since(began)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = append(r.took, took)
	switch {
	case err != nil:
		if r.failed++; r.failed == 1 {
			r.why = err.Error()
		}
	case got.Start.Before(v.start):
		r.stale++
	}
}
