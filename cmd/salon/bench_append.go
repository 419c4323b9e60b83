package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/eventstore/sqlite"
)

// rounds is how often each figure is taken; the median counts. Every round takes all of them, ceilings included, so that
// what else the machine does meets each alike.
const rounds = 3

// appendBench measures an event store alone: durable appends of one event of 300 bytes, each caller to a stream of its own
// with the exact revision, as the command layer appends; then reads of everything.
type appendBench struct {
	report *report
	each   time.Duration // how long each load lasts
	events int           // to read
	log    io.Writer     // progress
}

func (b *appendBench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// run measures the store of the URL, in a database of its own beside it; an empty URL is a SQLite file of its own.
func (b *appendBench) run(ctx context.Context, url string) (err error) {
	if strings.HasPrefix(url, "postgres") {
		scratch, drop, err := postgres.Scratch(ctx, url)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, drop(context.WithoutCancel(ctx))) }()
		return b.postgres(ctx, scratch)
	}
	if url != "" {
		return usage(errors.New("bench append measures PostgreSQL (--events postgres://…) or, without --events, SQLite"))
	}
	dir, err := os.MkdirTemp("", "salon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return b.sqlite(ctx, filepath.Join(dir, "events.db"))
}

func (b *appendBench) postgres(ctx context.Context, url string) error {
	s, err := postgres.Open(ctx, postgres.Config{URL: url})
	if err != nil {
		return err
	}
	defer s.Close()
	runs := map[string][]sample{}
	for round := range rounds {
		for _, connections := range []int{1, 32} {
			b.say("round %d: plain INSERTs, %d connections", round+1, connections)
			rate, err := postgres.PlainInserts(ctx, url, connections, b.each)
			if err != nil {
				return err
			}
			plain := fmt.Sprintf("plain %d", connections)
			runs[plain] = append(runs[plain], sample{Rate: rate})
		}
		for _, callers := range []int{1, 32, 256} {
			b.say("round %d: appends, %d callers", round+1, callers)
			l, err := appends(ctx, s, callers, b.each, nameless)
			if err != nil {
				return err
			}
			runs[fmt.Sprint(callers)] = append(runs[fmt.Sprint(callers)], l)
		}
		for _, callers := range [][]int{{64}, {32, 32}} {
			b.say("round %d: appends, processes of %v callers", round+1, callers)
			l, err := inProcesses(ctx, url, callers, b.each)
			if err != nil {
				return err
			}
			runs[fmt.Sprint(callers)] = append(runs[fmt.Sprint(callers)], l)
		}
	}
	b.against("appends, 1 caller", runs["1"], runs["plain 1"], 0.8)
	b.against("appends, 32 callers", runs["32"], runs["plain 32"], 1)
	b.against("appends, 256 callers", runs["256"], runs["plain 32"], 2)
	b.against("appends, 2 processes of 32 callers (ceiling: one of 64)", runs["[32 32]"], runs["[64]"], 0.9)
	return b.reads(ctx, s, func() (int, error) { return count(postgres.PlainScan(ctx, url)) })
}

func (b *appendBench) sqlite(ctx context.Context, path string) error {
	if err := sqlite.Migrate(ctx, path); err != nil {
		return err
	}
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if err != nil {
		return err
	}
	defer s.Close()
	runs := map[int][]sample{}
	for round := range rounds {
		for _, callers := range []int{1, 32, 256} {
			b.say("round %d: appends, %d callers", round+1, callers)
			l, err := appends(ctx, s, callers, b.each, nameless)
			if err != nil {
				return err
			}
			runs[callers] = append(runs[callers], l)
		}
	}
	b.report.plain("appends, 1 caller: a flush each", median(runs[1], rate), "/s")
	b.against("appends, 32 callers (ceiling: a flush each)", runs[32], runs[1], 4)
	b.report.atLeast("the same, absolute", median(runs[32], rate), "/s", 15_000)
	b.against("appends, 256 callers (ceiling: a flush each)", runs[256], runs[1], 4)
	return b.reads(ctx, s, func() (int, error) { return count(sqlite.PlainScan(ctx, path)) })
}

// sample is what one run of a load came to.
type sample struct {
	Rate float64       // a second
	P99  time.Duration // of one append
}

func rate(l sample) float64 { return l.Rate }
func p99(l sample) float64  { return float64(l.P99.Microseconds()) / 1000 }

// median of what the rounds came to.
func median(runs []sample, of func(sample) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// against holds a rate to its ceiling, round by round.
func (b *appendBench) against(what string, runs, ceilings []sample, goal float64) {
	ratios := make([]sample, len(runs))
	for i := range runs {
		ratios[i].Rate = runs[i].Rate / ceilings[i].Rate
	}
	b.report.ratio(what, median(runs, rate), "/s", median(ceilings, rate), median(ratios, rate), goal)
	if runs[0].P99 > 0 {
		b.report.plain(what+", p99", median(runs, p99), "ms")
	}
}

// nameless is the metadata of an event of which nobody asks who did it.
func nameless(uuid.UUID) []byte { return []byte(`{"command":"bench"}`) }

// appends lets so many callers append for so long, with the metadata of each command.
func appends(ctx context.Context, s eventstore.Store, callers int, each time.Duration, metadata func(command uuid.UUID) []byte) (sample, error) {
	data := []byte(strings.Repeat("x", 300))
	began := time.Now()
	until := began.Add(each)
	took := make([][]time.Duration, callers)
	g, ctx := errgroup.WithContext(ctx)
	for n := range callers {
		g.Go(func() error {
			a := eventstore.Append{
				Stream: "bench-" + uuid.NewString(), Expected: eventstore.NoStream,
				Command: eventstore.Command{RequestHash: data[:32], Actor: "customer:bench"}, Events: make([]eventstore.NewEvent, 1),
			}
			a.Key = a.Stream
			for now := time.Now(); len(took[n]) == 0 || now.Before(until); {
				a.Command.ID, a.DecidedAt = uuid.New(), now
				a.Metadata = metadata(a.Command.ID)
				id := eventstore.EventID(a.Command.ID, a.Stream, 0)
				a.Events = []eventstore.NewEvent{{ID: id, Type: "bench.v1", Data: data}}
				done, err := s.Append(ctx, a)
				if err != nil {
					return err
				}
				a.Expected, a.ExpectedID = done.LastRevision, id
				answered := time.Now()
				took[n] = append(took[n], answered.Sub(now))
				now = answered
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return sample{}, err
	}
	elapsed := time.Since(began)
	all := slices.Concat(took...)
	slices.Sort(all)
	return sample{Rate: float64(len(all)) / elapsed.Seconds(), P99: all[len(all)*99/100]}, nil
}

// inProcesses is appends by several processes at once: what they come to together, and the worst p99.
func inProcesses(ctx context.Context, url string, callers []int, each time.Duration) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	loads := make([]sample, len(callers))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range callers {
		g.Go(func() error {
			c := exec.CommandContext(ctx, self, "bench", "append", "--callers", fmt.Sprint(n), "--each", each.String()) //nolint:gosec // ourselves
			c.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "SALON_") }), "SALON_EVENTS="+url)
			c.Stderr = os.Stderr
			out, err := c.Output()
			if err != nil {
				return fmt.Errorf("a process of %d callers: %w", n, err)
			}
			return json.Unmarshal(out, &loads[i])
		})
	}
	if err := g.Wait(); err != nil {
		return sample{}, err
	}
	var together sample
	for _, l := range loads {
		together.Rate += l.Rate
		together.P99 = max(together.P99, l.P99)
	}
	return together, nil
}

// child is one process of inProcesses.
func (b *appendBench) child(ctx context.Context, url string, callers int, out io.Writer) error {
	s, err := postgres.Open(ctx, postgres.Config{URL: url})
	if err != nil {
		return err
	}
	l, err := appends(ctx, s, callers, b.each, nameless)
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(l)
}

// reads measures reads of everything, by one reader and by slices.
func (b *appendBench) reads(ctx context.Context, s eventstore.Store, plainScan func() (int, error)) error {
	if err := b.fill(ctx, s); err != nil {
		return err
	}
	var plain, whole, one, many []sample
	var heap uint64
	workers := runtime.GOMAXPROCS(0)
	for round := range rounds {
		b.say("round %d: reads", round+1)
		for _, step := range []struct {
			into *[]sample
			read func() (int, error)
		}{
			{&plain, plainScan},
			{&whole, func() (int, error) {
				n, most, err := readAll(ctx, s)
				heap = max(heap, most)
				return n, err
			}},
			{&one, func() (int, error) { return readSlices(ctx, s, 1) }},
			{&many, func() (int, error) { return readSlices(ctx, s, workers) }},
		} {
			began := time.Now()
			n, err := step.read()
			if err != nil {
				return err
			}
			*step.into = append(*step.into, sample{Rate: float64(n) / time.Since(began).Seconds()})
		}
	}
	b.against("events read in order (ceiling: one SELECT)", whole, plain, 0.7)
	b.report.atMost("heap meanwhile", float64(heap)/(1<<20), "MiB", 64)
	b.against(fmt.Sprintf("events read by slices, %d readers (ceiling: one reader)", workers), many, one, 1)
	return nil
}

// fill appends until there are enough events to read, a hundred at once.
func (b *appendBench) fill(ctx context.Context, s eventstore.Store) error {
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	missing := max(0, b.events-int(head.Position)) //nolint:gosec // a benchmark's count
	b.say("appending %d events to read", missing)
	const writers = 32
	data, metadata := []byte(strings.Repeat("x", 300)), []byte(`{"command":"bench"}`)
	g, ctx := errgroup.WithContext(ctx)
	for range writers {
		g.Go(func() error {
			for range missing / writers / eventstore.MaxAppendEvents {
				command := uuid.New()
				a := eventstore.Append{
					Stream: "fill-" + command.String(), Key: command.String(), Expected: eventstore.NoStream, Metadata: metadata, DecidedAt: time.Now(),
					Command: eventstore.Command{ID: command, RequestHash: data[:32], Actor: "customer:bench"},
				}
				for n := range eventstore.MaxAppendEvents {
					a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(command, a.Stream, n), Type: "bench.v1", Data: data})
				}
				if _, err := s.Append(ctx, a); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func count(all iter.Seq2[eventstore.Recorded, error]) (events int, err error) {
	for _, err := range all {
		if err != nil {
			return events, err
		}
		events++
	}
	return events, nil
}

// readAll counts the events, and looks every so often what the heap holds.
func readAll(ctx context.Context, s eventstore.Store) (events int, heap uint64, err error) {
	runtime.GC() // what was there before is not the read's
	var m runtime.MemStats
	for _, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err != nil {
			return events, heap, err
		}
		if events++; events%50_000 == 0 {
			runtime.ReadMemStats(&m)
			heap = max(heap, m.HeapAlloc)
		}
	}
	return events, heap, nil
}

// readSlices counts the events, slice by slice, by so many readers.
func readSlices(ctx context.Context, s eventstore.Store, readers int) (events int, err error) {
	next := make(chan int, eventstore.Slices)
	for slice := range eventstore.Slices {
		next <- slice
	}
	close(next)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for range readers {
		g.Go(func() error {
			own := 0
			for slice := range next {
				for _, err := range s.ReadAll(ctx, 0, eventstore.Filter{Slices: eventstore.OneSlice(slice)}) {
					if err != nil {
						return err
					}
					own++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			events += own
			return nil
		})
	}
	return events, g.Wait()
}
