package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
	"github.com/dangdangsalon/salon/internal/config"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// rebuildBench measures a rebuild from an event store into the reads database: as `salon projections rebuild` does it, with its
// runs, leases and slices, beside a plain program that does the same work once. Both databases are the benchmark's own.
type rebuildBench struct {
	report *report
	sizes  []int // of the histories, in events
	plain  int   // up to this size the plain program is measured, too: it holds everything in memory
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
	store, scan, drop, err := b.fill(ctx, servers.Events, w.history(events))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close(), drop(context.WithoutCancel(ctx))) }()
	var ours, plain, ratios, took []sample
	rows, heap := 0, 0.0
	for round := range rounds {
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
			d, n, most, err := b.rebuild(ctx, db, store, w.of)
			rows, heap = n, max(heap, most)
			return d, err
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
			n, err := engine.PlainRebuild(ctx, db, w.of, codec(), scan(ctx))
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

// rebuild lets a worker build the version, and answers how long it was at it, how many rows there are and the heap's most.
func (b *rebuildBench) rebuild(ctx context.Context, db *reads.DB, store rebuild.Source, p engine.Projection) (took time.Duration, rows int, heap float64, err error) {
	desk := &rebuild.Desk{DB: db, Of: []engine.Projection{p}}
	w := &rebuild.Worker{
		Desk: desk, Store: store, Codec: codec(), Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Ends: func(context.Context, []string) (map[rebuild.Partition]int64, error) {
			return map[rebuild.Partition]int64{{Topic: p.Topics[0]}: 0}, nil
		},
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(working) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	r, err := desk.Ask(ctx, rebuild.Request{Kind: rebuild.Rebuild, Projection: p.Name, By: "bench", Options: rebuild.Options{Pace: rebuild.Full}})
	if err != nil {
		return 0, 0, 0, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !r.Ended() {
		select {
		case <-ctx.Done():
			return 0, 0, 0, ctx.Err()
		case <-tick.C:
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = max(heap, float64(m.HeapAlloc)/(1<<20))
		if r, err = desk.Run(ctx, r.ID); err != nil {
			return 0, 0, 0, err
		}
	}
	if r.State != rebuild.Done {
		return 0, 0, 0, fmt.Errorf("the rebuild is %s: %s", r.State, r.Detail)
	}
	return r.EndedAt.Sub(r.StartedAt), int(r.Rows), heap, nil
}

// fill makes a store of these events: in PostgreSQL when the URL says so, else a SQLite file.
func (b *rebuildBench) fill(ctx context.Context, url string, events iter.Seq[eventstore.Recorded]) (
	s store, scan func(context.Context) iter.Seq2[eventstore.Recorded, error], drop func(context.Context) error, err error,
) {
	if strings.HasPrefix(url, "postgres") {
		scratch, drop, err := postgres.Scratch(ctx, url)
		if err == nil {
			if err = postgres.Fill(ctx, scratch, events); err == nil {
				s, err = openEvents(ctx, scratch, nil)
			}
			if err != nil {
				err = errors.Join(err, drop(context.WithoutCancel(ctx)))
			}
		}
		return s, func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] {
			return postgres.PlainScan(ctx, scratch)
		}, drop, err
	}
	if url != "" {
		return nil, nil, nil, usage(errors.New("bench rebuild reads PostgreSQL (--events postgres://…) or, without --events, SQLite"))
	}
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return nil, nil, nil, err
	}
	path := filepath.Join(dir, eventsName)
	drop = func(context.Context) error { return os.RemoveAll(dir) }
	if err = sqlite.Migrate(ctx, path); err == nil {
		if err = sqlite.Fill(ctx, path, events); err == nil {
			s, err = openEvents(ctx, "sqlite:"+path, nil)
		}
	}
	if err != nil {
		err = errors.Join(err, drop(ctx))
	}
	return s, func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] { return sqlite.PlainScan(ctx, path) }, drop, err
}

// reads makes a reads database of its own for one run.
func (b *rebuildBench) reads(ctx context.Context, url string) (*reads.DB, func(context.Context) error, error) {
	var drop func(context.Context) error
	if strings.HasPrefix(url, "mysql:") {
		scratch, dropIt, err := reads.Scratch(ctx, url)
		if err != nil {
			return nil, nil, err
		}
		url, drop = scratch, dropIt
	} else {
		dir, err := os.MkdirTemp("", "salon-bench-")
		if err != nil {
			return nil, nil, err
		}
		url, drop = "sqlite:"+filepath.Join(dir, readsName), func(context.Context) error { return os.RemoveAll(dir) }
	}
	db, err := reads.Open(ctx, url)
	if err == nil {
		err = db.Migrate(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, drop(context.WithoutCancel(ctx)))
	}
	return db, func(ctx context.Context) error { return errors.Join(db.Close(), drop(ctx)) }, nil
}

// author writes one history. The same seed makes the same one.
type author struct {
	random *rand.Rand
	at     time.Time
}

func newAuthor() *author {
	return &author{rand.New(rand.NewPCG(1, 2)), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} //nolint:gosec // no secret
}

func (a *author) sealed(subject string, bytes int) domain.Sealed {
	c := make([]byte, bytes)
	for i := range c {
		c[i] = byte(a.random.Uint32())
	}
	return domain.Sealed{Subject: subject, KeyID: "k1", Cipher: c}
}

func (a *author) id() (id uuid.UUID) {
	for i := range id {
		id[i] = byte(a.random.Uint32())
	}
	return id
}

func (a *author) event(stream, key string, revision int, by domain.Actor, command string, e domain.Event) eventstore.Recorded {
	a.at = a.at.Add(137 * time.Microsecond)
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // our own types
	}
	id := a.id()
	metadata, err := json.Marshal(eventstore.Metadata{CommandID: id, Command: command, Actor: by, CorrelationID: id.String(), CausationID: id.String()})
	if err != nil {
		panic(err)
	}
	return eventstore.Recorded{
		Stream: stream, Revision: eventstore.Revision(revision), ID: id, Type: e.EventType(), Key: key, RecordedAt: a.at, Metadata: metadata, Data: data,
	}
}

// turns is the key whose turn it is, of so many: none comes twice before all have come once.
func turns(i, keys int) int { return i % keys * 7919 % keys }

// bookings are the books of groomers, one for every 600 events: visit after visit of six events, the last of which is a
// cancellation every fourth time.
func bookings(events int) iter.Seq[eventstore.Recorded] {
	return func(yield func(eventstore.Recorded) bool) {
		a := newAuthor()
		keys := max(1, events/600)
		done := make([]int, keys)
		for i := range events {
			g := turns(i, keys)
			n := done[g]
			done[g]++
			salon := fmt.Sprintf("salon-%06d", g)
			visit := n / 6
			id := salon + "." + eventstore.Suffix(uuid.UUID{byte(visit), byte(visit >> 8), byte(g), byte(g >> 8), byte(g >> 16)}, "visit")
			customer := domain.Actor{ID: fmt.Sprintf("customer-%06d", (g*31+visit*17)%(10*keys)), Role: domain.Customer}
			start := a.at.Add(48 * time.Hour).Truncate(15 * time.Minute)
			day := start.Format(time.DateOnly)
			of := groomer.Visit{
				CustomerID: customer.ID, Start: start, Minutes: 60, BufferMinutes: 15, Mode: "shop", PriceKRW: 45_000,
				Dogs:  []groomer.Dog{{Name: a.sealed("customer:"+customer.ID, 40), Size: "small", Services: []string{"bath", "trim"}}},
				Phone: a.sealed("customer:"+customer.ID, 44),
			}
			var e domain.Event
			switch n % 6 {
			case 0:
				e = groomer.SlotHeld{HoldID: id, Visit: of, ExpiresAt: a.at.Add(5 * time.Minute)}
			case 1:
				e = groomer.Requested{
					ReservationID: id, HoldID: id, Visit: of, Day: day, Note: a.sealed("customer:"+customer.ID, 80),
					Cancellation: []groomer.RefundTier{{HoursBefore: 24, RefundPercent: 100}}, ExpiresAt: a.at.Add(time.Hour),
				}
			case 2:
				e = groomer.Confirmed{ReservationID: id, Day: day}
			case 3:
				e = groomer.Rescheduled{ReservationID: id, Start: start.Add(24 * time.Hour), FromStart: start, BufferMinutes: 15, Day: day, FromDay: day, Status: groomer.StatusConfirmed}
			case 4:
				e = groomer.CheckedIn{ReservationID: id, Day: day}
				if visit%4 == 3 {
					e = groomer.Reminded{ReservationID: id}
				}
			case 5:
				e = groomer.Completed{ReservationID: id, Day: day}
				if visit%4 == 3 {
					e = groomer.Cancelled{ReservationID: id, Day: day, Reason: a.sealed("customer:"+customer.ID, 60), RefundPercent: 100}
				}
			}
			if !yield(a.event(eventstore.GroomerStream(salon), salon, n, customer, "bench", e)) {
				return
			}
		}
	}
}

// messages are the talk of rooms, one for every 100 events: the room is opened, then the two write in turns.
func messages(events int) iter.Seq[eventstore.Recorded] {
	return func(yield func(eventstore.Recorded) bool) {
		a := newAuthor()
		keys := max(1, events/100)
		done := make([]int, keys)
		rooms := make([]string, keys)
		for g := range rooms {
			rooms[g] = fmt.Sprintf("salon-%06d", g/20) + "." + eventstore.Suffix(uuid.UUID{byte(g), byte(g >> 8), byte(g >> 16)}, "visit")
		}
		for i := range events {
			g := turns(i, keys)
			n := done[g]
			done[g]++
			members := []domain.Actor{{ID: fmt.Sprintf("customer-%06d", g%(keys/2+1)), Role: domain.Customer}, {ID: fmt.Sprintf("salon-%06d", g/20), Role: domain.Groomer}}
			by := members[n%2]
			var e domain.Event = chat.Opened{RoomID: rooms[g], CustomerID: members[0].ID, GroomerID: members[1].ID}
			if n > 0 {
				e = chat.MessagePosted{
					RoomID: rooms[g], Seq: uint64(n), Sender: by, ClientMessageID: a.id().String(), Text: a.sealed(string(by.Role)+":"+by.ID, 60+a.random.IntN(80)), //nolint:gosec // small
				}
			}
			if !yield(a.event(eventstore.ChatStream(rooms[g]), rooms[g], n, by, "bench", e)) {
				return
			}
		}
	}
}
