package commands

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/internal/harness"
)

// openBook is an executor that remembers a book of so many open reservations, over a store that takes every append and
// keeps none: what is measured is the executor.
func openBook(t testing.TB, open int) *Executor {
	t.Helper()
	store := newMemory()
	history(t, store, 0)
	var events []domain.Event
	start := at(30, 10, 0).UTC()
	for i := range open {
		start := start.Add(time.Duration(i) * time.Hour)
		dog := groomer.Dog{Name: domain.Sealed{Subject: "customer:kim", KeyID: "01kaz3q5w8", Cipher: make([]byte, 40)}, Size: "small", Services: []string{"bath"}}
		v := groomer.Visit{CustomerID: "kim", Start: start, Minutes: 30, BufferMinutes: 10, Mode: "shop", Dogs: []groomer.Dog{dog}, PriceKRW: 25_000}
		id, day := pastID(i*7919%open), start.Format(time.DateOnly)
		events = append(events, groomer.Requested{ReservationID: id, Visit: v, Day: day}, groomer.Confirmed{ReservationID: id, Day: day})
	}
	record(t, store, eventstore.GroomerStream("mong"), "mong", kim, 5, events)
	x := newExecutor(t, store)
	hold(t, x, "warm")
	x.store = appendFunc{store, func(_ context.Context, a eventstore.Append) (eventstore.Appended, error) {
		last := a.Expected + eventstore.Revision(len(a.Events))
		return eventstore.Appended{LastRevision: last, Position: uint64(last), RecordedAt: eventstore.Micros(time.Now())}, nil //nolint:gosec // not negative
	}}
	return x
}

// What a command allocates does not grow with its book, its part of the snapshots saved on the way included. Not parallel:
// what others allocate would count.
func TestACommandAllocatesTheSameInALargeBook(t *testing.T) {
	cost := func(open int) (allocs, bytes float64) {
		x, n := openBook(t, open), 0
		command := func() { n++; hold(t, x, fmt.Sprint(n)) }
		const runs = 1024 // of two events: two snapshots of the large book, sixteen of the small one
		allocs = testing.AllocsPerRun(runs, command)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			command()
		}
		runtime.ReadMemStats(&after)
		return allocs, float64(after.TotalAlloc-before.TotalAlloc) / runs
	}
	few, fewBytes := cost(10)
	many, manyBytes := cost(1000)
	t.Logf("with 10 reservations %.0f allocations, %.0f bytes; with 1,000 %.0f, %.0f", few, fewBytes, many, manyBytes)
	if many > 1.3*few {
		t.Errorf("%.0f allocations with 1,000 reservations, %.0f with ten", many, few)
	}
	if manyBytes > 2.5*fewBytes { // a chunk is copied, the headers of all, and snapshots are as large as the events between
		t.Errorf("%.0f bytes with 1,000 reservations, %.0f with ten", manyBytes, fewBytes)
	}
	if few > 150 {
		t.Errorf("%.0f allocations a command", few)
	}
}

func BenchmarkHoldInACachedBook(b *testing.B) {
	for _, open := range []int{10, 1000} {
		b.Run(fmt.Sprint("open=", open), func(b *testing.B) {
			x, n := openBook(b, open), 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				hold(b, x, fmt.Sprint(n))
			}
		})
	}
}

// onEachDisk is for benchmarks: SQLite, and PostgreSQL where there is one.
func onEachDisk(b *testing.B, bench func(b *testing.B, store eventstore.Store)) {
	b.Run("SQLite", func(b *testing.B) { bench(b, openSQLite(b)) })
	if os.Getenv("SALON_TEST_POSTGRES") == "" {
		return
	}
	b.Run("PostgreSQL", func(b *testing.B) {
		url := harness.Postgres(b)
		if err := postgres.Migrate(b.Context(), url); err != nil {
			b.Fatal(err)
		}
		bench(b, openPostgres(b, url))
	})
}

// A post by a process that knows nothing yet, in rooms of ten messages and in one of 100,000. Each post in the large room
// leaves its snapshot one event further behind, until one of them saves the next: so it is behind by 64 on average.
func BenchmarkColdPost(b *testing.B) {
	onEachDisk(b, func(b *testing.B, store eventstore.Store) {
		base := newExecutor(b, store)
		talk(b, store, "mong.0000000000000000000000000v", 0)
		say(b, base, "mong.0000000000000000000000000v", 0)
		post := func(room string, i int) {
			x := newExecutor(b, store)
			x.keys = base.keys // the person's key is no part of it
			say(b, x, room, i)
		}
		rooms := 0
		b.Run("messages=10", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				rooms++
				talk(b, store, pastID(rooms), 10)
				b.StartTimer()
				post(pastID(rooms), 0)
			}
		})
		talk(b, store, longRoom, 100_000)
		post(longRoom, 0)
		for i := range 64 {
			say(b, base, longRoom, i+1)
		}
		i := 1000
		b.Run("messages=100000", func(b *testing.B) {
			for b.Loop() {
				i++
				post(longRoom, i)
			}
		})
		b.Run("hot", func(b *testing.B) {
			for b.Loop() {
				i++
				say(b, base, longRoom, i)
			}
		})
		s, err := Load(b.Context(), base, Target[chat.Room]{Kind: roomKind, Stream: eventstore.ChatStream(longRoom)})
		if err != nil {
			b.Fatal(err)
		}
		b.Run("save", func(b *testing.B) {
			for b.Loop() {
				save(b.Context(), base, roomKind, eventstore.ChatStream(longRoom), s)
			}
		})
	})
}

// A book with a history of 100,000 events: cold without a snapshot, cold with one, and what to save one costs.
func BenchmarkColdBook(b *testing.B) {
	onEachDisk(b, func(b *testing.B, store eventstore.Store) {
		history(b, store, 100_000)
		stream := eventstore.GroomerStream("mong")
		load := func(k Kind[Book]) Folded[Book] {
			t := book("mong")
			t.Kind = k
			s, err := Load(b.Context(), newExecutor(b, store), t)
			if err != nil {
				b.Fatal(err)
			}
			return s
		}
		b.Run("whole", func(b *testing.B) {
			k := bookKind
			k.FoldVersion = 0
			for b.Loop() {
				load(k)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/event")
		})
		s := load(bookKind)
		b.Run("by its snapshot", func(b *testing.B) {
			for b.Loop() {
				load(bookKind)
			}
		})
		b.Run("save", func(b *testing.B) {
			x := newExecutor(b, store)
			for b.Loop() {
				save(b.Context(), x, bookKind, stream, s)
			}
			f, err := freeze(bookKind, stream, s)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(f.State)), "bytes")
		})
		b.Run("an ID made up", func(b *testing.B) {
			x := newExecutor(b, store)
			for b.Loop() {
				m, err := x.NewMeta(b.Context(), kim, "cancel", eventstore.CommandID("customer", "kim", "POST", "x", "x"), struct{}{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := x.Cancel(b.Context(), m, pastID(99_999), Reason{}); err == nil {
					b.Fatal("cancelled")
				}
			}
		})
		b.Run("a past ID", func(b *testing.B) {
			x := newExecutor(b, store)
			for b.Loop() {
				if _, found, err := x.pastReservation(b.Context(), s.State, pastID(5000)); err != nil || !found {
					b.Fatal(found, err)
				}
			}
		})
	})
}
