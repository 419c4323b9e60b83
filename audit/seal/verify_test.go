package seal_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/audit/seal"
	"github.com/dangdangsalon/salon/eventstore"
)

func TestWhatIsSealedVerifies(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		k := key(t)
		d.use(t, func(s store) {
			write(t, s, 0, 40)
			first := sealAll(t, sealer(s, k))
			write(t, s, 40, 60)
			second := sealAll(t, sealer(s, k))
			write(t, s, 60, 63)
			if len(first) < 3 || len(second) < 2 {
				t.Fatalf("%d and %d blocks", len(first), len(second))
			}
			events := all(t, s)
			r := verify(t, s, seal.Options{}, k.Public)
			last := second[len(second)-1]
			want := seal.Report{
				Events: uint64(len(events)), From: 1, To: uint64(len(events)), Seals: last.Block, Sealed: last.Events.To,
				Unsealed: uint64(len(events)) - last.Events.To, SealedAt: &last.At, SignedBy: r.SignedBy, Checked: true, Commands: r.Commands,
			}
			if diff := cmp.Diff(want, r); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if r.Commands < 60 || len(r.SignedBy) != 1 || !strings.HasPrefix(k.Public, r.SignedBy[0]) {
				t.Errorf("%d commands are held to seals, signed by %v", r.Commands, r.SignedBy)
			}
			// A range, widened to its blocks.
			r = verify(t, s, seal.Options{From: 20, To: 30}, k.Public)
			if r.Finding != nil || r.From != 17 || r.To != 32 {
				t.Errorf("a range: %+v", r)
			}
			if r = verify(t, s, seal.Options{From: uint64(len(events))}, k.Public); r.Finding != nil || r.Events != 1 {
				t.Errorf("the unsealed end: %+v", r)
			}
			// Nothing new: no seal.
			write(t, s, 63, 64) // the ninth of sevens: without events
			if made := sealAll(t, sealer(s, k)); len(made) != 1 {
				t.Errorf("made %d seals of the rest", len(made))
			}
			if made := sealAll(t, sealer(s, k)); len(made) != 0 {
				t.Errorf("made %d seals of nothing", len(made))
			}
		})
	})
}

// tampering is one way to change a history, and what has to be said of it.
type tampering struct {
	name string
	do   func(h hand, d database)
	want seal.Finding // of an event: What and Position
	// event is the one that has to be named, as it stood before; 0: none can be.
	event   int
	command int // likewise, a command by its number
}

// changed is UPDATE of the command whose last event stands at a position.
const ofEvent = " WHERE position = ? AND command_id NOT IN (SELECT command_id FROM silent_commands)"

func tamperings() []tampering {
	return []tampering{
		{name: "a bit of the data", do: func(h hand, _ database) { h.flip("data", 21) },
			want: seal.Finding{What: seal.Changed, Position: 21, Block: 2}, event: 21},
		{name: "a bit of the metadata", do: func(h hand, _ database) { h.flip("metadata", 5) },
			want: seal.Finding{What: seal.Changed, Position: 5, Block: 1}, event: 5},
		{name: "a bit of the hash", do: func(h hand, _ database) { h.flip("hash", 33) },
			want: seal.Finding{What: seal.Changed, Position: 33, Block: 3}, event: 33},
		{name: "a bit of recorded_at", do: func(h hand, _ database) {
			if h.driver == "sqlite" {
				h.do("UPDATE events SET recorded_at = recorded_at + 1 WHERE position = 20")
			} else {
				h.do("UPDATE events SET recorded_at = recorded_at + interval '1 microsecond' WHERE position = 20")
			}
		}, want: seal.Finding{What: seal.Changed, Position: 20, Block: 2}, event: 20},
		{name: "the data, and the hash made right", do: func(h hand, d database) { h.flip("data", 21); h.rehash(d, 21) },
			want: seal.Finding{What: seal.Changed, Position: 21, Block: 2}, event: 21},
		{name: "the type, and the hash made right", do: func(h hand, d database) {
			h.do("UPDATE events SET type = 'other.v1' WHERE position = 1")
			h.rehash(d, 1)
		}, want: seal.Finding{What: seal.Changed, Position: 1, Block: 1}, event: 1},
		{name: "the last sealed event is gone, with what was behind", do: func(h hand, _ database) { h.do("DELETE FROM events WHERE position >= 46") },
			want: seal.Finding{What: seal.Missing, Position: 46, Block: 3}},
		{name: "an event in the middle is gone", do: func(h hand, _ database) { h.do("DELETE FROM events WHERE position = 22") },
			want: seal.Finding{What: seal.Missing, Position: 22, Block: 2}, event: 22},
		{name: "an event in the middle is gone, and the hole closed", do: func(h hand, _ database) {
			h.do("DELETE FROM events WHERE position = 22")
			h.shift(22, -1)
		}, want: seal.Finding{What: seal.Missing, Position: 22, Block: 2}, event: 22},
		{name: "the last of a block is gone, and the hole closed", do: func(h hand, _ database) {
			h.do("DELETE FROM events WHERE position = 32")
			h.shift(32, -1)
		}, want: seal.Finding{What: seal.Missing, Position: 32, Block: 2}, event: 32},
		{name: "two events of two streams are swapped", do: func(h hand, _ database) { h.swap(20, 23) },
			want: seal.Finding{What: seal.Moved, Position: 20, Block: 2}, event: 23},
		{name: "two neighbours of one command are swapped", do: func(h hand, _ database) { h.swap(1, 2) },
			want: seal.Finding{What: seal.Moved, Position: 1, Block: 1}, event: 2},
		{name: "two events of two blocks are swapped", do: func(h hand, _ database) { h.swap(14, 19) },
			want: seal.Finding{What: seal.Changed, Position: 14, Block: 1}, event: 19},
		{name: "the table is empty", do: func(h hand, _ database) { h.do("DELETE FROM events") },
			want: seal.Finding{What: seal.Missing, Position: 1, Block: 1}},
		{name: "an event was put between", do: func(h hand, d database) {
			h.shift(24, 1)
			h.do("INSERT INTO events (position, stream, revision, id, type, key, slice, recorded_at, metadata, data, hash) " +
				"SELECT 25, 'groomer-new', 0, id, type, key, slice, recorded_at, metadata, data, hash FROM events WHERE position = 24")
			h.rehash(d, 25)
		}, want: seal.Finding{What: seal.Added, Position: 25, Block: 2, Stream: "groomer-new"}},
		{name: "a command's row was changed", do: func(h hand, _ database) { h.do("UPDATE commands SET request_hash = ?"+ofEvent, []byte("x"), 24) },
			want: seal.Finding{What: seal.CommandChanged, Block: 2}, command: 24},
		{name: "a command's actor was changed", do: func(h hand, _ database) { h.do("UPDATE commands SET actor = 'customer:lee'"+ofEvent, 10) },
			want: seal.Finding{What: seal.CommandChanged, Block: 1}, command: 10},
		{name: "a command's position was changed", do: func(h hand, _ database) { h.do("UPDATE commands SET position = 1"+ofEvent, 24) },
			want: seal.Finding{What: seal.CommandChanged, Block: 2, Position: 24}, command: 24},
		{name: "a command's row is gone", do: func(h hand, _ database) { h.do("DELETE FROM commands"+ofEvent, 24) },
			want: seal.Finding{What: seal.CommandMissing, Block: 2}, command: 24},
		{name: "a command without events was changed", do: func(h hand, _ database) {
			h.do("UPDATE commands SET actor = 'x' WHERE command_id = (SELECT command_id FROM silent_commands WHERE n = 2)")
		}, want: seal.Finding{What: seal.CommandChanged, Block: 1}, command: -2},
		{name: "a command without events is gone", do: func(h hand, _ database) {
			h.do("DELETE FROM commands WHERE command_id = (SELECT command_id FROM silent_commands WHERE n = 2)")
		}, want: seal.Finding{What: seal.CommandMissing, Block: 1}, command: -2},
		{name: "a command without events was put in", do: func(h hand, _ database) {
			h.do("INSERT INTO silent_commands (n, command_id) SELECT 0, command_id FROM commands" + strings.Replace(ofEvent, "?", "24", 1))
			h.do("UPDATE silent_commands SET n = n + 100")
			h.do("UPDATE silent_commands SET n = n - 99")
		}, want: seal.Finding{What: seal.CommandAdded, Block: 1}, command: 24},
		{name: "an outline was changed", do: func(h hand, _ database) {
			b := h.bytes("SELECT outline FROM seals WHERE block = 2")
			b[3] ^= 1
			h.do("UPDATE seals SET outline = ? WHERE block = 2", b)
		}, want: seal.Finding{What: seal.SealChanged, Block: 2}},
		{name: "a seal's text was changed", do: func(h hand, _ database) {
			b := h.bytes("SELECT note FROM seals WHERE block = 2")
			h.do("UPDATE seals SET note = ? WHERE block = 2", []byte(strings.Replace(string(b), `"silent":`, `"silent":1`, 1)))
		}, want: seal.Finding{What: seal.SealChanged, Block: 2}},
		{name: "a seal covers less than it says", do: func(h hand, _ database) { h.do("UPDATE seals SET through = 31 WHERE block = 2") },
			want: seal.Finding{What: seal.Missing, Position: 32, Block: 2}},
		{name: "a seal is gone", do: func(h hand, _ database) { h.do("DELETE FROM seals WHERE block = 2") },
			want: seal.Finding{What: seal.SealMissing, Block: 2}},
		{name: "the first seal is gone", do: func(h hand, _ database) { h.do("DELETE FROM seals WHERE block = 1") },
			want: seal.Finding{What: seal.SealMissing, Block: 1}},
		{name: "the last seal is gone, and was kept elsewhere", do: func(h hand, _ database) { h.do("DELETE FROM seals WHERE block = 3") },
			want: seal.Finding{What: seal.SealMissing, Block: 3}},
		{name: "two seals are swapped", do: func(h hand, _ database) {
			h.do("UPDATE seals SET block = -1 WHERE block = 1")
			h.do("UPDATE seals SET block = 1 WHERE block = 2")
			h.do("UPDATE seals SET block = 2 WHERE block = -1")
		}, want: seal.Finding{What: seal.SealChanged, Block: 1}},
		{name: "a history was changed and sealed with another key", do: func(h hand, d database) {
			h.flip("data", 21)
			h.rehash(d, 21)
			h.do("DELETE FROM seals WHERE block > 1")
			reseal(h, d, key(h.t))
		}, want: seal.Finding{What: seal.SealForeign, Block: 2}},
	}
}

// reseal seals what is there again, as somebody could who has a key.
func reseal(h hand, d database, k seal.Key) {
	h.t.Helper()
	d.seen(h.t, func(s store) { sealAll(h.t, sealer(writable{s, h}, k)) })
}

// writable lets seals into a store that was opened to look at it.
type writable struct {
	store
	h hand
}

func (w writable) AddSeal(ctx context.Context, s eventstore.Seal) error {
	w.h.do("INSERT INTO seals (block, through, silent_through, note, outline) VALUES (?, ?, ?, ?, ?)", s.Block, s.Through, s.SilentThrough, s.Note, s.Outline)
	return ctx.Err()
}

func TestTamperingIsNamed(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, template database) {
		for _, c := range tamperings() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				d := newSQLite
				if template.driver == "pgx" {
					d = newPostgres
				}
				tamper(t, d(t), c)
			})
		}
	})
}

func tamper(t *testing.T, d database, c tampering) {
	k, file := key(t), filepath.Join(t.TempDir(), "seals.jsonl")
	var events []eventstore.Recorded
	silent := map[int]string{}
	s := d.open(t)
	write(t, s, 0, 36)
	write(t, s, 36, 37)
	sealAll(t, sealer(s, k, &seal.HeadFile{Path: file}))
	write(t, s, 37, 40)
	events = all(t, s)
	for a, err := range s.Silent(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		silent[int(a.Silent)] = a.ID.String() //nolint:gosec // a test's
	}
	if r := verify(t, s, seal.Options{}, k.Public); r.Finding != nil || r.Seals != 3 || r.Sealed != 46 {
		t.Fatalf("before: %+v, %v", r, r.Finding)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.do(d.hand(t), d)
	elsewhere, err := seal.ReadHeads(file)
	if err != nil {
		t.Fatal(err)
	}
	d.seen(t, func(s store) {
		r := verify(t, s, seal.Options{Elsewhere: elsewhere}, k.Public)
		if r.Finding == nil {
			t.Fatalf("nothing was found: %+v", r)
		}
		t.Log(r.Finding)
		want := c.want
		if c.event > 0 {
			e := events[c.event-1]
			revision := int64(e.Revision)
			want.Stream, want.Revision = e.Stream, &revision
		}
		switch {
		case c.command > 0:
			want.Command = commandAt(t, events[c.command-1])
		case c.command < 0:
			want.Command = silent[-c.command]
		}
		got := *r.Finding
		got.Why, got.EventID = "", ""
		if want.Stream != "" && want.Revision == nil {
			got.Revision = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("finding (-want +got):\n%s\n%v", diff, r.Finding)
		}
	})
}

func commandAt(t *testing.T, r eventstore.Recorded) string {
	t.Helper()
	m, err := eventstore.DecodeMetadata(r.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(m.CommandID)
}

// A row among the commands that no event names is found, sealed or not, and named. One that was given a number as well shows
// where seals cover that number; behind the last seal nothing tells it from a command that changed nothing.
func TestAStrayCommandIsNamed(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		k, stray := key(t), uuid.New()
		id := any(stray)
		if d.driver == "sqlite" {
			id = stray[:]
		}
		d.use(t, func(s store) { write(t, s, 0, 20); sealAll(t, sealer(s, k)); write(t, s, 20, 25) })
		h := d.hand(t)
		look := func(want string) {
			t.Helper()
			d.seen(t, func(s store) {
				r := verify(t, s, seal.Options{}, k.Public)
				switch {
				case want == "" && r.Finding != nil, want != "" && (r.Finding == nil || r.Finding.What != want || r.Finding.Command != stray.String()):
					t.Errorf("want %q of %s, got: %+v", want, stray, r.Finding)
				}
			})
		}
		look("")
		for _, at := range []int{2, 10, 30} {
			h.do("INSERT INTO commands (command_id, request_hash, actor, stream, last_revision, position, recorded_at) "+
				"SELECT ?, request_hash, actor, stream, last_revision, position, recorded_at FROM commands"+ofEvent, id, at)
			look(seal.CommandAdded)
			h.do("DELETE FROM commands WHERE command_id = ?", id)
		}
		h.do("INSERT INTO commands (command_id, request_hash, actor, stream, last_revision, position, recorded_at) "+
			"SELECT ?, request_hash, actor, stream, last_revision, position, recorded_at FROM commands"+ofEvent, id, 10)
		h.do("INSERT INTO silent_commands (n, command_id) SELECT max(n) + 1, ? FROM silent_commands", id)
		look("") // it cannot be told
		h.do("UPDATE silent_commands SET n = -n")
		h.do("UPDATE silent_commands SET n = 1 WHERE command_id = ?", id)
		h.do("UPDATE silent_commands SET n = 1 - n WHERE n < 0")
		look(seal.CommandAdded)
	})
}

// growing is a history that is sealed further when its events begin to be read.
type growing struct {
	store

	once sync.Once
	grow func()
}

func (g *growing) Head(ctx context.Context) (eventstore.Head, error) {
	g.once.Do(g.grow)
	return g.store.Head(ctx)
}

func (g *growing) ReadRange(ctx context.Context, after, through uint64) iter.Seq2[eventstore.Recorded, error] {
	return g.store.(eventstore.Ranged).ReadRange(ctx, after, through)
}

// A seal that is made while a history is verified is the next verification's: its commands were not looked up, and none is
// missing.
func TestASealMadeMeanwhileIsNoFinding(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		k := key(t)
		d.use(t, func(s store) {
			write(t, s, 0, 20)
			small := sealer(s, k)
			small.Most = 2
			before := len(sealAll(t, small)) // more than are read at once
			g := &growing{store: s, grow: func() { write(t, s, 20, 24); sealAll(t, small) }}
			r := verify(t, g, seal.Options{}, k.Public)
			if before < 9 || r.Finding != nil || int(r.Seals) != before || r.Unsealed == 0 {
				t.Errorf("behind %d seals: %+v", before, r)
			}
		})
	})
}

// A history that is read in many parts, some at once, is verified as one: what lies at the ends of a part, and a part that is
// not there at all.
func TestPartsAreVerifiedAsOne(t *testing.T) {
	t.Parallel()
	everyDatabase(t, func(t *testing.T, d database) {
		const events, part = 20_500, 4096
		k := key(t)
		d.use(t, func(s store) {
			if err := s.(eventstore.Loader).Load(t.Context(), long(events)); err != nil {
				t.Fatal(err)
			}
			large := sealer(s, k)
			large.Most = 3 * part / 2
			sealAll(t, large)
			for _, o := range []seal.Options{{}, {From: part - 2}, {To: part + 2}, {From: part, To: 4 * part}} {
				r := verify(t, s, o, k.Public)
				whole := o.From == 0 && o.To == 0
				if r.Finding != nil || whole && (r.Events != events || r.Commands != events) || !whole && r.Events == 0 {
					t.Errorf("%+v: %+v", o, r)
				}
			}
		})
		h := d.hand(t)
		if d.driver == "sqlite" { // says in a row of its own where it ends: what is behind that is looked at all the same
			h.do("UPDATE store_head SET position = ?", part+1)
			d.seen(t, func(s store) {
				if r := verify(t, s, seal.Options{}, k.Public); r.Finding != nil || r.Events != events {
					t.Errorf("behind a head that says too little: %+v", r)
				}
			})
			h.do("UPDATE store_head SET position = ?", events)
		}
		for _, gone := range [][2]int{{3*part + 1, 4 * part}, {2*part + 1, 2*part + 1}, {part, part}} { // the last first
			h.do("DELETE FROM events WHERE position BETWEEN ? AND ?", gone[0], gone[1])
			d.seen(t, func(s store) {
				for _, o := range []seal.Options{{}, {From: uint64(gone[0])}} { //nolint:gosec // a test's
					r := verify(t, s, o, k.Public)
					if r.Finding == nil || r.Finding.What != seal.Missing || r.Finding.Position != uint64(gone[0]) { //nolint:gosec // a test's
						t.Errorf("%d to %d are gone, %+v: %+v", gone[0], gone[1], o, r.Finding)
					}
				}
			})
		}
	})
}

// breaking is a history of which one part breaks off when the one behind it is in memory.
type breaking struct {
	store

	after, size uint64        // where the part begins, and how much it has
	next        chan struct{} // closed when the next one has been read
}

var errBroken = errors.New("the server is gone")

func (b breaking) ReadRange(ctx context.Context, after, through uint64) iter.Seq2[eventstore.Recorded, error] {
	all := b.store.(eventstore.Ranged).ReadRange(ctx, after, through)
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range all {
			if after == b.after && r.Position == after+10 {
				<-b.next
				yield(eventstore.Recorded{}, errBroken)
				return
			}
			if !yield(r, err) {
				return
			}
		}
		if after == b.after+b.size {
			close(b.next)
		}
	}
}

// A part that could not be read is no finding: nothing is missing of the history.
func TestAPartThatCannotBeReadIsNoFinding(t *testing.T) {
	t.Parallel()
	const part = 4096
	newSQLite(t).use(t, func(s store) {
		if err := s.(eventstore.Loader).Load(t.Context(), long(3*part)); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			r, err := seal.Verify(t.Context(), breaking{s, part, part, make(chan struct{})}, seal.Options{Dense: true})
			if !errors.Is(err, errBroken) || r.Finding != nil {
				t.Fatalf("%v, %+v", err, r.Finding)
			}
		}
	})
}
