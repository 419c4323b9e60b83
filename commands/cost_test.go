package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
	"github.com/dangdangsalon/salon/eventstore/postgres"
	"github.com/dangdangsalon/salon/internal/harness"
)

// TestARoomOfManyMessagesCostsWhatOneOfTenDoes counts what each thing that a member does reads, by a process that knows
// nothing yet and by one that does, in a room of ten messages and in a long one.
func TestARoomOfManyMessagesCostsWhatOneOfTenDoes(t *testing.T) {
	t.Parallel()
	cost := func(t *testing.T, open func() eventstore.Store, n int) {
		base := newExecutor(t, open())
		for _, room := range []struct {
			id       string
			messages int
		}{{pastID(10), 10}, {longRoom, n}} {
			talk(t, base.store, room.id, room.messages)
			say(t, base, room.id, 0) // leaves the long one a snapshot, as those who filled it would have
			for i := range 300 {     // and pushes it out of the sight of whoever repeats the first
				say(t, base, room.id, i+1)
			}
			mark := func(x *Executor, seq uint64) {
				m, err := x.NewMeta(t.Context(), kim, "mark_read", eventstore.CommandID("customer", "kim", "read", room.id, fmt.Sprint(seq)), MarkRead{seq})
				if err == nil {
					_, err = x.MarkRead(t.Context(), m, room.id, MarkRead{seq})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for seq := range uint64(260) {
				mark(base, seq)
			}
			stranger := func(x *Executor) {
				m, err := x.NewMeta(t.Context(), domain.Actor{ID: "lee", Role: domain.Customer}, "leave_room", eventstore.CommandID("customer", "lee", "leave", room.id, ""), struct{}{})
				if err == nil {
					_, err = x.LeaveRoom(t.Context(), m, room.id)
				}
				if !errors.Is(err, chat.ErrRoomUnknown) {
					t.Fatal(err)
				}
			}
			// The bounds: a snapshot is up to 64 events behind; each read meets the event that it begins with again.
			for _, c := range []struct {
				name      string
				cold, hot int64 // most events read
				do        func(x *Executor, i int)
			}{
				{"post", 65, 0, func(x *Executor, i int) { say(t, x, room.id, 1000+i) }},
				{"repeat a post that was followed by many", 65 + 2, 3, func(x *Executor, _ int) { say(t, x, room.id, 0) }},
				{"mark what was read", 65 + 65, 1, func(x *Executor, i int) { mark(x, uint64(270+i)) }}, //nolint:gosec // small
				{"repeat a mark", 65 + 65 + 2, 4, func(x *Executor, _ int) { mark(x, 3) }},
				{"enter", 65, 1, func(x *Executor, _ int) {
					if _, err := x.Enter(t.Context(), room.id); err != nil {
						t.Fatal(err)
					}
				}},
				{"be refused", 65, 1, func(x *Executor, _ int) { stranger(x) }},
			} {
				store := &counted{Store: open()}
				x := newExecutor(t, store)
				x.keys = base.keys
				c.do(x, 0)
				if read := store.events.Load(); read > c.cold {
					t.Errorf("%s, cold, in a room of %d: %d events read, want at most %d", c.name, room.messages, read, c.cold)
				}
				store.forget()
				c.do(x, 1)
				if read := store.events.Load(); read > c.hot {
					t.Errorf("%s, hot, in a room of %d: %d events read, want at most %d", c.name, room.messages, read, c.hot)
				}
			}
		}
	}
	onEachStore(t, func(t *testing.T, open func() eventstore.Store) { cost(t, open, 5000) })
	t.Run("EventStoreDB", func(t *testing.T) {
		t.Parallel()
		s, err := esdb.Open(t.Context(), esdb.Config{URL: esdbtest.New(t).URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		cost(t, func() eventstore.Store { return s }, 5000)
	})
}

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
		const runs = 1024 // of two events: two snapshots of the large book, 32 of the small one
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
// leaves its snapshot one event further behind, until one of them saves the next: so it is behind by 32 on average.
func BenchmarkColdPost(b *testing.B) {
	onEachDisk(b, func(b *testing.B, store eventstore.Store) {
		base := newExecutor(b, store)
		talk(b, store, "mong.0000000000000000000000000v", 0)
		say(b, base, "mong.0000000000000000000000000v", 0)
		talk(b, store, longRoom, 100_000)
		say(b, base, longRoom, 0)
		for i := range 32 {
			say(b, base, longRoom, i+1)
		}
		i := 1000
		// In turn, so that whatever else the machine does slows both.
		b.Run("in turn", func(b *testing.B) {
			var spent [2]time.Duration
			took := func(in int, room string) {
				b.StartTimer()
				began := time.Now()
				x := newExecutor(b, store)
				x.keys = base.keys // the person's key is no part of it
				say(b, x, room, i)
				spent[in] += time.Since(began)
				b.StopTimer()
			}
			for b.Loop() {
				b.StopTimer()
				i++
				ten := pastID(i)
				talk(b, store, ten, 10)
				took(0, ten)
				took(1, longRoom)
				b.StartTimer()
			}
			b.ReportMetric(spent[0].Seconds()*1e3/float64(b.N), "ms/ten")
			b.ReportMetric(spent[1].Seconds()*1e3/float64(b.N), "ms/100000")
			b.ReportMetric(spent[1].Seconds()/spent[0].Seconds(), "ratio") // goal: at most 1.5
		})
		b.Run("hot", func(b *testing.B) {
			for b.Loop() {
				i++
				say(b, base, longRoom, i)
			}
		})
		b.Run("repeat", func(b *testing.B) { // of a post that many followed
			for b.Loop() {
				say(b, base, longRoom, 0)
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
