package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/audit"
	"github.com/dangdangsalon/salon/audit/export"
	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
)

// auditBench measures what is asked of the past, among so many events of books with 1,000 events each, that take turns as they
// do in life: those of a book lie far apart. Then what appends pay for it. The databases are its own.
type auditBench struct {
	report *report
	among  int           // events
	each   time.Duration // how long each question is asked, and each load lasts
	rounds int           // of which the median counts, where a figure is taken more than once
	log    io.Writer
}

func (b *auditBench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// bookEvents is how many events a book has.
const bookEvents = 1000

// books is a history of books, each event of a command of its own.
func books(events int) eventstore.Loaded {
	all := func(yield func(eventstore.Recorded) bool) {
		var position uint64
		for r := range bookingsOf(events, bookEvents) {
			position++
			r.Position, r.Hash = position, eventstore.ContentHash(r)
			if !yield(r) {
				return
			}
		}
	}
	return eventstore.Loaded{
		Events: func(yield func(eventstore.Recorded, error) bool) {
			all(func(r eventstore.Recorded) bool { return yield(r, nil) })
		},
		Commands: func(yield func(eventstore.Accepted, error) bool) {
			all(func(r eventstore.Recorded) bool {
				return yield(eventstore.Accepted{RecordedAt: r.RecordedAt, Command: eventstore.Command{
					ID: r.ID, RequestHash: r.Hash[:], Actor: "customer:bench", Stream: r.Stream, LastRevision: r.Revision, Position: r.Position,
				}}, nil)
			})
		},
		Seals: func(func(eventstore.Seal, error) bool) {},
	}
}

// named is the metadata of a customer's command, as most are.
func named(command uuid.UUID) []byte {
	b, err := json.Marshal(eventstore.Metadata{
		CommandID: command, Command: "bench", Actor: domain.Actor{ID: "customer-" + command.String()[:3], Role: domain.Customer},
		CorrelationID: command.String(), CausationID: command.String(),
	})
	if err != nil {
		panic(err) // our own type
	}
	return b
}

// audited is the store of an audit benchmark.
type audited struct {
	archive

	size func(context.Context) (int64, error) // in bytes: of the index over events, or of all there is
	dir  string                               // scratch
}

// run measures the store of the URL, in a database of its own beside it; an empty URL is a SQLite file of its own.
func (b *auditBench) run(ctx context.Context, url string) (err error) {
	if url != "" && !strings.HasPrefix(url, "postgres") {
		return usage(errors.New("bench audit measures PostgreSQL (--events postgres://…) or, without --events, SQLite"))
	}
	if b.among < bookEvents {
		return usage(fmt.Errorf("--among: want at least %d", bookEvents))
	}
	b.among -= b.among % bookEvents
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	past, err := b.store(ctx, url)
	if err != nil {
		return err
	}
	past.dir = dir
	defer func() { err = errors.Join(err, past.store.Close(), past.drop(context.WithoutCancel(ctx))) }()
	for _, part := range []func(context.Context, audited) error{b.fill, b.index, b.oneKey, b.lookups, b.verify, b.exports} {
		if err := part(ctx, past); err != nil {
			return err
		}
	}
	return b.appends(ctx, url)
}

// store makes an empty store.
func (b *auditBench) store(ctx context.Context, url string) (a audited, err error) {
	if url != "" {
		if a.url, a.drop, err = postgres.Scratch(ctx, url); err != nil {
			return a, err
		}
		a.size = func(ctx context.Context) (int64, error) { return postgres.TableBytes(ctx, a.url, "event_lookups") }
	} else {
		dir, err := os.MkdirTemp("", "salon-bench-")
		if err != nil {
			return a, err
		}
		path := filepath.Join(dir, eventsName)
		a.url, a.drop = "sqlite:"+path, func(context.Context) error { return os.RemoveAll(dir) }
		a.size = func(ctx context.Context) (int64, error) { return sqlite.FileBytes(ctx, path) }
		if err := sqlite.Migrate(ctx, path); err != nil {
			return a, errors.Join(err, os.RemoveAll(dir))
		}
	}
	if a.store, err = openEvents(ctx, a.url, nil); err != nil {
		err = errors.Join(err, a.drop(context.WithoutCancel(ctx)))
	}
	return a, err
}

// fill loads the history, as an import would.
func (b *auditBench) fill(ctx context.Context, a audited) error {
	b.say("loading %d events …", b.among)
	began := time.Now()
	err := a.store.(eventstore.Loader).Load(ctx, books(b.among))
	b.report.plain("events and commands loaded", b.perSecond(began), "/s")
	return err
}

func (b *auditBench) perSecond(began time.Time) float64 {
	return float64(b.among) / time.Since(began).Seconds()
}

// index lets a follower make the index over all events, and tells what it takes.
func (b *auditBench) index(ctx context.Context, a audited) error {
	b.say("indexing …")
	before, err := a.size(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := (&audit.Indexer{Store: a.store, Lookups: a.store.(eventstore.Lookups), Log: warnings(b.log)}).Through(ctx); err != nil {
		return err
	}
	b.report.plain("events indexed", b.perSecond(began), "/s")
	after, err := a.size(ctx)
	b.report.plain("index on disk, for an event", float64(after-before)/float64(b.among), "B")
	return err
}

// asked asks for so long, and reports the middle and the slowest of a hundred. The goal is that one's.
func (b *auditBench) asked(what string, goal float64, ask func() error) error {
	b.say("%s …", what)
	var took []time.Duration
	for began := time.Now(); len(took) < 5 || time.Since(began) < b.each; {
		now := time.Now()
		if err := ask(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		took = append(took, time.Since(now))
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	p50, p99 := ms(took[len(took)/2]), ms(took[len(took)*99/100])
	b.say("  %d times, p50 %.1f ms, p99 %.1f ms", len(took), p50, p99)
	b.report.plain(what+", p50", p50, "ms")
	b.report.atMost(what+", p99", p99, "ms", goal)
	return nil
}

// oneKey asks for the past of a book with 1,000 events.
func (b *auditBench) oneKey(ctx context.Context, a audited) error {
	past := (&node{store: a.store}).past(nil)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same questions each time
	some := func() int { return random.IntN(b.among / bookEvents) }
	stream := func() string { return eventstore.GroomerStream(bookID(some())) }
	visit := func() string { return visitOf(some(), random.IntN(bookEvents/6)) }
	first, err := audit.ParseMoment("from", "4")
	if err != nil {
		return err
	}
	beginning, err := audit.ParseMoment("from", "position:0")
	if err != nil {
		return err
	}
	const goal = 20
	return errors.Join(
		b.asked("state of a stream of 1,000 events", goal, func() error {
			s, err := past.State(ctx, stream(), audit.Moment{})
			return wantIt(err, s.Revision == bookEvents-1)
		}),
		b.asked("difference of a stream of 1,000 events", goal, func() error {
			d, err := past.Diff(ctx, stream(), first, audit.Moment{}, 100)
			return wantIt(err, d.Total > 0)
		}),
		b.asked("row of a read model, of a key of 1,000 events", goal, func() error {
			r, err := past.Rows(ctx, "reservations", visit(), audit.Moment{}, 100)
			return wantIt(err, r.Total == 1)
		}),
		b.asked("difference of a row, of a key of 1,000 events", goal, func() error {
			d, err := past.RowsDiff(ctx, "reservations", visit(), beginning, audit.Moment{}, 100)
			return wantIt(err, d.Total > 0)
		}),
	)
}

var errNotThere = errors.New("the answer is not of the history that was loaded")

func wantIt(err error, there bool) error {
	if err == nil && !there {
		err = errNotThere
	}
	return err
}

// lookups asks for pages of 20 events.
func (b *auditBench) lookups(ctx context.Context, a audited) error {
	past := (&node{store: a.store}).past(nil)
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same questions each time
	keys := b.among / bookEvents
	// Customers come again and again: a tenth of them do in any book.
	actor := func() string { return fmt.Sprintf("customer:customer-%06d", random.IntN(10*keys)) }
	somewhere := func() string { return fmt.Sprint("position:", 1+random.IntN(b.among)) }
	for _, q := range []struct {
		what string
		ask  func() audit.Query
	}{
		{"by actor", func() audit.Query { return audit.Query{Actor: actor()} }},
		{"by actor and type", func() audit.Query { return audit.Query{Actor: actor(), Type: "reservation.confirmed.v1"} }},
		{"by type since a moment", func() audit.Query { return audit.Query{Type: "reservation.confirmed.v1", From: somewhere()} }},
		{"by ordering key", func() audit.Query { return audit.Query{Key: bookID(random.IntN(keys))} }},
		{"by ordering key since a moment", func() audit.Query { return audit.Query{Key: bookID(random.IntN(keys)), From: somewhere()} }},
		{"by stream", func() audit.Query { return audit.Query{Stream: eventstore.GroomerStream(bookID(random.IntN(keys)))} }},
		{"since a moment", func() audit.Query { return audit.Query{From: somewhere()} }},
		{"by a command that is not there", func() audit.Query { return audit.Query{Command: "6f2f8f0e-6d0b-4c55-9d4e-2d1a6f9a7c11"} }},
		{"by an actor who is not there", func() audit.Query { return audit.Query{Actor: "customer:nobody"} }},
	} {
		err := b.asked(fmt.Sprintf("events %s, among %d", q.what, b.among), 50, func() error {
			query := q.ask()
			query.Limit = 20
			_, err := past.Events(ctx, query)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// verify holds the history to its hashes alone, seals it, and holds it to its seals.
func (b *auditBench) verify(ctx context.Context, a audited) error {
	key, err := seal.LoadOrCreateKey(filepath.Join(a.dir, "seals.key"))
	if err != nil {
		return err
	}
	known, err := seal.Known(key.Public)
	if err != nil {
		return err
	}
	verified := func(o seal.Options, sealed int) func() error {
		o.Dense = true
		return func() error {
			r, err := seal.Verify(ctx, a.store, o)
			if err == nil && r.Finding != nil {
				err = r.Finding
			}
			return wantIt(err, int(r.Events) == b.among && int(r.Commands) == sealed) //nolint:gosec // counts
		}
	}
	for _, step := range []struct {
		what string
		goal float64
		once bool
		work func() error
	}{
		{"verified by their hashes alone", 300_000, false, verified(seal.Options{}, 0)},
		{"sealed", 0, true, func() error {
			_, err := (&seal.Sealer{Store: a.store, Key: key, Dense: true}).Seal(ctx)
			return err
		}},
		{"verified with seals and commands", 300_000, false, verified(seal.Options{Known: known}, b.among)},
	} {
		if err := b.through(step.what, step.goal, step.once, step.work); err != nil {
			return err
		}
	}
	return nil
}

// through reports at what rate something goes through all events, as the verbs do. Without a goal it is plain.
func (b *auditBench) through(what string, goal float64, once bool, work func() error) error {
	defer inBulk()()
	var runs []sample
	for round := range b.rounds {
		if once && round > 0 {
			break
		}
		b.say("round %d: %s …", round+1, what)
		began := time.Now()
		if err := work(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		runs = append(runs, sample{Rate: b.perSecond(began)})
	}
	if what = "events " + what; goal == 0 {
		b.report.plain(what, median(runs, rate), "/s")
	} else {
		b.report.atLeast(what, median(runs, rate), "/s", goal)
	}
	return nil
}

// exports writes everything to files, each time others, which are removed again.
func (b *auditBench) exports(ctx context.Context, a audited) error {
	kind, _, _ := strings.Cut(a.url, ":")
	for _, f := range []struct {
		format, what string
		goal         float64
	}{
		{export.JSONL, "exported as JSON Lines, with commands", 200_000},
		{export.Parquet, "exported as Parquet, with commands", 100_000},
	} {
		err := b.through(f.what, f.goal, false, func() error {
			dir, err := os.MkdirTemp(a.dir, "export-")
			if err != nil {
				return err
			}
			m, err := export.Write(ctx, a.store, export.Order{Path: filepath.Join(dir, "history"), Format: f.format, Kind: kind, Dense: true})
			return errors.Join(wantIt(err, int(m.Events) == b.among), os.RemoveAll(dir)) //nolint:gosec // a count
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// appends measures what an append pays for the index's follower beside it, and for its hash.
func (b *auditBench) appends(ctx context.Context, url string) (err error) {
	const callers = 32
	a, err := b.store(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.store.Close(), a.drop(context.WithoutCancel(ctx))) }()
	runs, behind := map[string][]sample{}, []sample{}
	load := func(what string) error {
		l, err := appends(ctx, a.store, callers, b.each, named)
		runs[what] = append(runs[what], l)
		return err
	}
	if _, err := appends(ctx, a.store, callers, b.each/2, named); err != nil { // a database that was just made is slow at first
		return err
	}
	for round := range b.rounds {
		b.say("round %d: appends, without and with the follower of the look-ups …", round+1)
		if err := load("alone"); err != nil {
			return err
		}
		x := &audit.Indexer{Store: a.store, Lookups: a.store.(eventstore.Lookups), Log: warnings(b.log)}
		if _, err := x.Through(ctx); err != nil { // what was appended meanwhile is not this load's
			return err
		}
		following, stop := context.WithCancel(ctx)
		g := errgroup.Group{}
		g.Go(func() error { return x.Run(following) })
		err := load("followed")
		stop()
		if err := errors.Join(err, g.Wait()); err != nil {
			return err
		}
		through, err := x.Lookups.LookupsThrough(ctx)
		if err != nil {
			return err
		}
		head, err := a.store.Head(ctx)
		if err != nil {
			return err
		}
		behind = append(behind, sample{Rate: float64(head.Position - through)})
		if url == "" {
			continue
		}
		b.say("round %d: appends, without hashes …", round+1)
		again, err := postgres.HashNothing(ctx, a.url)
		if err != nil {
			return err
		}
		if err := errors.Join(load("unhashed"), again(ctx)); err != nil {
			return err
		}
	}
	against := &appendBench{report: b.report}
	against.against(fmt.Sprintf("appends, %d callers, beside the follower of the look-ups (ceiling: without it)", callers), runs["followed"], runs["alone"], 0.9)
	b.report.plain("events that the follower was behind when the load ended", median(behind, rate), "")
	if url != "" {
		against.against(fmt.Sprintf("appends, %d callers (ceiling: a server that hashes nothing)", callers), runs["alone"], runs["unhashed"], 0.97)
		return nil
	}
	// SQLite's events are hashed by us, one after the other, by the one who writes: without it that one would be as much faster
	// as the hash takes, at most.
	took := b.hash()
	alone := median(runs["alone"], rate)
	ceiling := 1 / (1/alone - took.Seconds())
	b.report.plain("a content hash", float64(took.Nanoseconds())/1000, "µs")
	b.report.ratio(fmt.Sprintf("appends, %d callers (ceiling: if a hash took no time)", callers), alone, "/s", ceiling, alone/ceiling, 0.97)
	return nil
}

// hash is what the hash of an event takes that is appended here, on one core: the least of some runs, since what else the machine
// does is no part of it.
func (b *auditBench) hash() time.Duration {
	r := eventstore.Recorded{Stream: strings.Repeat("s", 42), Key: strings.Repeat("s", 42), Type: "bench.v1", Metadata: named(newAuthor().id()), Data: []byte(strings.Repeat("x", 300))}
	const n = 1000
	least := time.Hour
	for range 100 {
		began := time.Now()
		for i := range n {
			r.Revision = eventstore.Revision(i)
			r.Hash = eventstore.ContentHash(r)
		}
		least = min(least, time.Since(began)/n)
	}
	return least
}
