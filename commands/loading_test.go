package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
)

// say posts the n-th new message of a room.
func say(t testing.TB, x *Executor, room string, n int) {
	t.Helper()
	r := PostMessage{ClientMessageID: fmt.Sprint("new-", n), Text: "안녕하세요"}
	m, err := x.NewMeta(t.Context(), kim, "post_message", PostMessageID(kim, room, r.ClientMessageID), r)
	if err == nil {
		_, err = x.PostMessage(t.Context(), m, room, r)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hold holds a slot of the book of mong's, in place of the customer's last one.
func hold(t testing.TB, x *Executor, key string) Result[Book] {
	t.Helper()
	r := HoldSlot{GroomerID: "mong", Start: at(2, 10, 0), Mode: "shop", Dogs: []DogRequest{{"콩이", "small", []string{"bath"}}}}
	m, err := x.NewMeta(t.Context(), kim, "hold_slot", eventstore.CommandID("customer", "kim", "POST", "/v1/holds", key), r)
	if err != nil {
		t.Fatal(err)
	}
	held, err := x.HoldSlot(t.Context(), m, r)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// A command on a hot stream is one append, whatever the stream is and wherever it lies.
func TestACommandOnAHotStreamIsOneAppendAndNoRead(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, open func() eventstore.Store) {
		store := &counted{Store: open()}
		x := newExecutor(t, store)
		history(t, store, 0)
		talk(t, store, longRoom, 1)
		hold(t, x, "first")
		say(t, x, longRoom, 0)
		const n = 300
		begin := time.Now()
		store.forget()
		for i := range n {
			hold(t, x, fmt.Sprint(i))
			say(t, x, longRoom, i+1)
		}
		want(t, "appends", store.appends.Load(), int64(2*n))
		want(t, "reads of streams", store.reads.Load(), int64(0))
		want(t, "look-ups of commands", store.commands.Load(), int64(0))
		want(t, "look-ups of keys", store.keys.Load(), int64(0))
		want(t, "look-ups of snapshots", store.loads.Load(), int64(0))
		// A hold in place of another is two events: revisions 6 to 606, and 2 to 302.
		want(t, "snapshots saved", store.saves.Load(), int64(9+4))
		if most := int64(time.Since(begin)/checkLifeEach) + 1; store.heads.Load() > most {
			t.Errorf("%d looks at the head in %v, want at most %d", store.heads.Load(), time.Since(begin), most)
		}
	})
}

// A cold load reads what came after the snapshot, however much came before.
func TestAColdLoadReadsOnFromTheSnapshot(t *testing.T) {
	t.Parallel()
	const n = 3000
	onEachStore(t, func(t *testing.T, open func() eventstore.Store) {
		first := open()
		talk(t, first, longRoom, n)
		history(t, first, n)
		for name, command := range map[string]func(x *Executor, i int){
			"a room": func(x *Executor, i int) { say(t, x, longRoom, i) },
			"a book": func(x *Executor, i int) { hold(t, x, fmt.Sprint(i)) },
		} {
			cold := func() (*Executor, *counted) {
				store := &counted{Store: open()}
				return newExecutor(t, store), store
			}
			x, store := cold()
			command(x, 0)
			want(t, name+" without a snapshot is read once", store.events.Load() > n-10, true)
			want(t, name+": snapshots saved", store.saves.Load(), int64(1))
			x, store = cold()
			for i := range 300 {
				command(x, i+1)
				if i == 0 && store.events.Load() > 3 {
					t.Errorf("%s: %d events read after a snapshot of the last but one", name, store.events.Load())
				}
			}
			if saves := store.saves.Load(); saves < 4 || saves > 10 {
				t.Errorf("%s: %d snapshots saved on the way", name, saves)
			}
			x, store = cold()
			command(x, 1000)
			if read := store.events.Load(); read > 64+1 {
				t.Errorf("%s: %d events read after a snapshot of some way back", name, read)
			}
			want(t, name+" needs one look for a snapshot", store.loads.Load(), int64(1))
		}
	})
}

// keptToy is the toy with snapshots.
var keptToy = Kind[toy]{Evolve: toyKind.Evolve, FoldVersion: 7}

// Whatever a snapshot says that is not what the stream folded to: what counts is the stream.
func TestASnapshotInDoubtIsPassedOver(t *testing.T) {
	t.Parallel()
	lie := toy{[]string{"a lie"}}
	var cases []func(t *testing.T, store eventstore.Store)
	for name, c := range map[string]struct {
		folded   func(f *Folded[toy])
		made     func(s *eventstore.Snapshot) // of the folded state
		hashed   func(s *eventstore.Snapshot) // its hash was made
		believed bool
	}{
		"the snapshot of this history is believed": {believed: true},
		"another hash":                        {hashed: func(s *eventstore.Snapshot) { s.Hash[31] ^= 1 }},
		"other bytes":                         {hashed: func(s *eventstore.Snapshot) { s.State = append(s.State, ' ') }},
		"another revision than was hashed":    {hashed: func(s *eventstore.Snapshot) { s.Revision-- }},
		"another stream's":                    {made: func(s *eventstore.Snapshot) { s.Stream = "chat-q" }},
		"another fold's":                      {made: func(s *eventstore.Snapshot) { s.FoldVersion = 6 }},
		"another fold's, kept as this one's":  {made: func(s *eventstore.Snapshot) { s.FoldVersion = 6 }, hashed: func(s *eventstore.Snapshot) { s.FoldVersion = 7 }},
		"ahead of the stream":                 {made: func(s *eventstore.Snapshot) { s.Revision = 5 }},
		"before any event":                    {made: func(s *eventstore.Snapshot) { s.Revision = -1 }},
		"behind, and of another event":        {made: func(s *eventstore.Snapshot) { s.Revision = 1 }},
		"of another event":                    {folded: func(f *Folded[toy]) { f.last = uuid.New() }},
		"of the same command at another time": {folded: func(f *Folded[toy]) { f.At = f.At.Add(time.Microsecond) }},
		"no JSON":                             {made: func(s *eventstore.Snapshot) { s.State = []byte("{") }},
		"nothing":                             {made: func(s *eventstore.Snapshot) { s.State = nil }},
		"null":                                {made: func(s *eventstore.Snapshot) { s.State = []byte("null") }},
		"something else":                      {made: func(s *eventstore.Snapshot) { s.State = []byte(`{"state":{"Posted":7}}`) }},
	} {
		cases = append(cases, func(t *testing.T, store eventstore.Store) {
			stream := strings.ReplaceAll(name, " ", "-")
			x, target := newExecutor(t, store), Target[toy]{Kind: keptToy, Stream: "chat-" + stream, Key: stream}
			for _, m := range []string{"a", "b", "c"} {
				if _, err := Execute(t.Context(), x, target, toyMeta(t, x, stream+m, m), post(m)); err != nil {
					t.Fatal(err)
				}
			}
			f, _ := cached[toy](x, target.Stream)
			f.State = lie
			if c.folded != nil {
				c.folded(&f)
			}
			s, err := freeze(keptToy, target.Stream, f)
			if err != nil {
				t.Fatal(err)
			}
			if c.made != nil {
				c.made(&s)
			}
			s.Hash = s.Sum()
			if c.hashed != nil {
				c.hashed(&s)
			}
			s.Stream = target.Stream
			if err := store.SaveSnapshot(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			got, err := Load(t.Context(), newExecutor(t, store), target)
			if err != nil {
				t.Fatal(err)
			}
			truth := []string{"a", "b", "c"}
			if c.believed {
				truth = lie.Posted
			}
			want(t, name+": state", got.State.Posted, truth)
			want(t, name+": revision", got.Revision, eventstore.Revision(2))
			want(t, name+": position", got.Position, f.Position)
		})
	}
	onEachStore(t, func(t *testing.T, open func() eventstore.Store) {
		store := open()
		for _, c := range cases {
			c(t, store)
		}
	})
}

// snapshotFaults is a store whose snapshots fail.
type snapshotFaults struct {
	eventstore.Store
	save func(context.Context, eventstore.Snapshot) error
}

func (f snapshotFaults) SaveSnapshot(ctx context.Context, s eventstore.Snapshot) error {
	return f.save(ctx, s)
}
func (f snapshotFaults) Snapshot(context.Context, string, int) (eventstore.Snapshot, bool, error) {
	return eventstore.Snapshot{}, false, eventstore.ErrUnavailable
}

func TestSnapshotsThatFailHideNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		saves := 0
		faulty := snapshotFaults{store, func(ctx context.Context, _ eventstore.Snapshot) error {
			if saves++; saves%2 == 1 {
				return eventstore.ErrTooLarge
			}
			<-ctx.Done() // hangs
			return ctx.Err()
		}}
		x := newExecutor(t, faulty)
		talk(t, store, longRoom, 1000)
		begin := time.Now()
		for i := range 600 {
			say(t, x, longRoom, i)
		}
		want(t, "events", len(store.streams[eventstore.ChatStream(longRoom)]), 1601)
		want(t, "saves tried", saves, 11) // cold, and at each multiple of 64 from 1,024 to 1,600
		want(t, "five of them hung for", time.Since(begin), 5*saveWithin)

		// A caller who leaves takes the save along, not the answer.
		left, leave := context.WithCancel(t.Context())
		faulty.save = func(ctx context.Context, _ eventstore.Snapshot) error { leave(); <-ctx.Done(); return ctx.Err() }
		x = newExecutor(t, faulty)
		m := toyMeta(t, x, "k", "x")
		if _, err := Execute(left, x, Target[int]{Kind: Kind[int]{Evolve: func(n int, _ domain.Fact) int { return n + 1 }, FoldVersion: 1,
			Size: func(int) int { return 1 }}, Stream: eventstore.ChatStream("q"), Key: "q"}, m, func(int, time.Time) ([]domain.Event, error) {
			events, _ := post("a")(toy{}, time.Time{})
			for range 256 {
				events = append(events, events[0])
			}
			return events, nil
		}); err != nil {
			t.Fatalf("accepted, and answered with %v", err)
		}
		want(t, "the save was tried", left.Err() != nil, true)
		want(t, "time", time.Since(begin), 5*saveWithin)
	})
}

// A state that was decided on and lost with a fail-over decides nothing, before anybody has noticed the fail-over.
func TestAnAppendNamesTheEventThatItsStateEndsWith(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	mustRun(t, x, "k1", "a")
	mustRun(t, x, "k2", "b")
	now := time.Now().Add(time.Millisecond)
	*store = *newMemory()
	store.now = func() time.Time { return now }
	other := newExecutor(t, store)
	mustRun(t, other, "o1", "other")
	mustRun(t, other, "k2", "b") // repeated after the fail-over: the same ID at the same revision, and another history
	_, err := Execute(t.Context(), x, toyTarget("r"), toyMeta(t, x, "k3", ""), func(s toy, _ time.Time) ([]domain.Event, error) {
		return nil, domain.Refuse("toy.seen", "%v", s.Posted)
	})
	want(t, "refused on", fmt.Sprint(err), "toy.seen: [other b]")
	mustRun(t, other, "o2", "c")
	cachedOf, _ := cached[toy](x, "chat-r")
	cachedOf.Revision, cachedOf.last, cachedOf.State = 2, uuid.New(), toy{[]string{"x", "y", "z"}}
	keep(x, toyKind, "chat-r", cachedOf)
	r := mustRun(t, x, "k4", "d")
	want(t, "decided on", r.State.Posted, []string{"other", "b", "c", "d"})
}

// The snapshots of a store that went back are of a history that is not any more.
func TestAStoreThatWentBackIsFoldedAnew(t *testing.T) {
	t.Parallel()
	store := newMemory()
	talk(t, store, longRoom, 600)
	say(t, newExecutor(t, store), longRoom, 0)
	snapshots := store.snapshots
	want(t, "snapshots", len(snapshots), 1)
	for _, left := range []int{599, 601, 700} { // behind the snapshot, at it, past it
		*store = *newMemory()
		store.snapshots = snapshots
		talk(t, store, longRoom, left)
		r, err := Load(t.Context(), newExecutor(t, store), Target[int]{Kind: Kind[int]{Evolve: func(n int, _ domain.Fact) int { return n + 1 }}, Stream: eventstore.ChatStream(longRoom)})
		if err != nil {
			t.Fatal(err)
		}
		want(t, "events", r.State, left+1)
		want(t, "a kind without a fold version keeps none", store.snapshots[eventstore.ChatStream(longRoom)].FoldVersion, chat.FoldVersion)
		say(t, newExecutor(t, store), longRoom, 0)
	}
}

func TestTheCacheIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	store := newMemory()
	x := newExecutor(t, store)
	x.cache.mostBytes = 10_000
	sized := Kind[int]{Evolve: func(n int, _ domain.Fact) int { return n + 1 }, Size: func(n int) int { return n * 1000 }}
	grow := func(stream string) {
		target := Target[int]{Kind: sized, Stream: stream, Key: stream}
		m := toyMeta(t, x, uuid.NewString(), "a")
		if _, err := Execute(t.Context(), x, target, m, func(int, time.Time) ([]domain.Event, error) { return post("a")(toy{}, time.Time{}) }); err != nil {
			t.Fatal(err)
		}
	}
	held := func() int {
		sum := 0
		for e := x.cache.order.Front(); e != nil; e = e.Next() {
			sum += e.Value.(*kept).bytes
		}
		want(t, "counted", x.cache.bytes, sum)
		want(t, "by name", len(x.cache.byName), x.cache.order.Len())
		return sum
	}
	for i := range 40 {
		grow(fmt.Sprint("s", i%5))
		if sum := held(); sum > 10_000 && x.cache.order.Len() > 1 {
			t.Fatalf("%d bytes kept", sum)
		}
	}
	for range 15 { // outgrows all others, and the bound
		grow("s0")
	}
	want(t, "alone, and kept", x.cache.order.Len(), 1)
	x.cache.drop("s0")
	want(t, "bytes", held(), 0)
	grow("s1")
	x.cache.clear()
	want(t, "bytes", held(), 0)
}

// Nobody makes a salon's book be read by making IDs up; who asks for what is past has it read where it stands.
func TestWhatABookNeverHadIsNotSearched(t *testing.T) {
	t.Parallel()
	const n = 6000
	onEachStore(t, func(t *testing.T, open func() eventstore.Store) {
		store := &counted{Store: open()}
		history(t, store, n)
		w := newWorldOn(t, store)
		hold(t, w.x, "warm")
		for name, c := range map[string]struct {
			token, method, path string
			status, most        int
		}{
			"a made-up reservation":  {kimToken, "POST", "/v1/reservations/" + pastID(n) + "/cancel", 404, 1},
			"a made-up hold":         {kimToken, "DELETE", "/v1/holds/" + pastID(n), 404, 1},
			"a made-up time off":     {mongToken, "DELETE", "/v1/groomers/mong/time-off/" + pastID(n), 404, 1},
			"a made-up room":         {kimToken, "POST", "/v1/chat/rooms/" + pastID(n) + "/leave", 404, 1},
			"the first reservation":  {kimToken, "POST", "/v1/reservations/" + pastID(0) + "/cancel", 409, 20},
			"one of the middle":      {kimToken, "POST", "/v1/reservations/" + pastID(n/12) + "/cancel", 409, 3*128 + 20},
			"a used hold":            {kimToken, "DELETE", "/v1/holds/" + pastID(1_000_000+n/12), 204, 3*128 + 20},
			"another's reservation":  {leeToken, "POST", "/v1/reservations/" + pastID(n/12) + "/cancel", 404, 3*128 + 20},
			"the room of a past one": {kimToken, "POST", "/v1/chat/rooms/" + pastID(n/12) + "/leave", 204, 3*128 + 20},
		} {
			store.forget()
			r := w.send(c.token, c.method, c.path, nil)
			want(t, name+": status", r.status, c.status)
			if read := store.events.Load(); read > int64(c.most) {
				t.Errorf("%s: %d events read, want at most %d", name, read, c.most)
			}
		}
	})
}

// Read where it stands or from the whole book, a thing of the past is the same.
func TestAloneFindsWhatTheWholeBookTells(t *testing.T) {
	t.Parallel()
	store := newMemory()
	const n = 1200
	history(t, store, n)
	x := newExecutor(t, store)
	b, err := Load(t.Context(), x, book("mong"))
	if err != nil {
		t.Fatal(err)
	}
	stream := eventstore.GroomerStream("mong")
	for i := range n/6 + 1 { // the last was never there
		p := part[groomer.Reservation]{groomer.About, groomer.EvolveReservation, groomer.ReservationOver}
		got, found, err := alone(t.Context(), x, stream, b.State.IDs, pastID(i), p)
		p.over = func(groomer.Reservation, time.Time) bool { return false }
		whole, there, err2 := p.fold(t.Context(), x, stream, pastID(i), 0, uint64(latest))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		want(t, "found", found, there)
		want(t, "reservation", got, whole)
		want(t, "there", there, i < n/6)
	}
}
