package commands

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/eventstore"
)

var update = flag.Bool("update", false, "add the hashes of new fold versions to testdata/folds.golden")

const foldsFile = "testdata/folds.golden"

// told is one line of a history: a stored event's fixture, who did it, when, and which of its kind it is about.
type told struct {
	fixture string
	by      domain.Actor
	at      string // of November 2026 in UTC, "24 03h00m"
	which   string // the last character of the ID
}

var (
	minji  = domain.Actor{ID: "minji", Role: domain.Customer}
	bomnal = domain.Actor{ID: "bomnal", Role: domain.Groomer}
	clock  = domain.Actor{ID: "timers", Role: domain.System}
)

// bookHistory meets each event type, each way a reservation ends, and everything that the passing of time takes away.
var bookHistory = []told{
	{"groomer.registered.v1", bomnal, "23 01h00m", ""},
	{"groomer.profile_changed.v1", bomnal, "23 01h00m", ""},
	{"groomer.menu_changed.v1", bomnal, "23 01h00m", ""},
	{"groomer.hours_changed.v1", bomnal, "23 01h00m", ""},
	{"groomer.policies_changed.v1", bomnal, "23 01h00m", ""},
	{"time_off.added.v1", bomnal, "23 02h00m", "a"},
	{"time_off.added.v1", bomnal, "23 02h00m", "b"},
	{"time_off.removed.v1", bomnal, "23 02h01m", "b"},
	{"hold.placed.v1", minji, "24 03h00m", "a"},
	{"hold.released.v1", minji, "24 03h01m", "a"},
	{"hold.placed.v1", minji, "24 03h01m", "s"},
	{"reservation.requested.v1", minji, "24 03h02m", "n"}, // uses up hold s
	{"reservation.rescheduled.v1", minji, "24 03h03m", "n"},
	{"reservation.confirmed.v1", bomnal, "24 03h04m", "n"},
	{"hold.placed.v1", minji, "24 03h04m", "b"},
	{"reservation.reminded.v1", clock, "24 03h05m", "n"}, // until it is moved
	{"groomer.menu_changed.v1", bomnal, "24 03h05m12.345677s", ""},
	{"reservation.rescheduled.v1.confirmed", bomnal, "24 03h05m12.345678s", "n"}, // hold b is dead from now on
	{"reservation.cancelled.v1", minji, "24 03h07m", "n"},
	{"reservation.requested.v1", minji, "25 03h00m", "b"},
	{"reservation.declined.v1", bomnal, "25 03h01m", "b"},
	{"reservation.requested.v1", minji, "25 03h02m", "c"},
	{"reservation.expired.v1", clock, "25 04h00m", "c"},
	{"reservation.requested.v1.instant", minji, "25 05h00m", "d"},
	{"reservation.confirmed.v1", minji, "25 05h00m", "d"},
	{"reservation.reminded.v1", clock, "27 01h00m", "d"},
	{"reservation.checked_in.v1", bomnal, "28 00h55m", "d"},
	{"reservation.completed.v1", bomnal, "28 02h00m", "d"},
	{"reservation.requested.v1.instant", minji, "28 02h01m", "e"},
	{"reservation.confirmed.v1", minji, "28 02h01m", "e"},
	{"reservation.no_show.v1", bomnal, "28 02h10m", "e"},
	{"groomer.menu_changed.v1", bomnal, "28 02h54m59.999999s", ""},
	{"groomer.menu_changed.v1", bomnal, "28 02h55m", ""}, // what kept its slot is over
	{"reservation.requested.v1.instant", minji, "28 12h01m", "f"},
	{"groomer.profile_changed.v1", bomnal, "56 14h59m59.999999s", ""},
	{"groomer.profile_changed.v1", bomnal, "56 15h00m", ""}, // so is time off
}

var roomHistory = []told{
	{"chat.opened.v1", minji, "24 03h00m", ""},
	{"chat.message_posted.v1", minji, "24 03h00m", ""},
	{"chat.message_posted.v1.image", bomnal, "24 03h01m", ""},
	{"chat.left.v1", minji, "24 03h02m", ""},
	{"chat.left.v1", bomnal, "24 03h03m", "groomer"},
}

var markHistory = []told{
	{"chat.read_marked.v1", bomnal, "24 03h00m", ""},
	{"chat.read_marked.v1", bomnal, "24 03h01m", "18"},
}

var inboxHistory = []told{
	{"inbox.read.v1", minji, "24 03h00m", ""},
}

// facts are the history as a store would give it.
func facts(t testing.TB, history []told) []domain.Fact {
	t.Helper()
	codec := eventstore.Catalog()
	out := make([]domain.Fact, len(history))
	for i, e := range history {
		data, err := os.ReadFile(filepath.Join("../eventstore/testdata/events", e.fixture+".json"))
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		switch e.which {
		case "":
		case "groomer":
			text = strings.NewReplacer(`"minji"`, `"bomnal"`, `"customer"`, `"groomer"`).Replace(text)
		case "18":
			text = strings.Replace(text, "17", "18", 1)
		default:
			// A hold used up stays the one it is.
			text = strings.NewReplacer("qg7ik9m0n", "qg7ik9m0"+e.which, "7r9t1v3a5c", "7r9t1v3a5"+e.which).Replace(text)
			if strings.HasPrefix(e.fixture, "hold.") {
				text = strings.ReplaceAll(text, "m9o1q3s", "m9o1q3"+e.which)
			}
		}
		var day int
		var clock string
		if _, err := fmt.Sscan(e.at, &day, &clock); err != nil {
			t.Fatal(err)
		}
		since, err := time.ParseDuration(clock)
		if err != nil {
			t.Fatal(err)
		}
		metadata, err := json.Marshal(eventstore.Metadata{Actor: e.by})
		if err != nil {
			t.Fatal(err)
		}
		out[i], err = codec.Fact(eventstore.Recorded{
			Revision: eventstore.Revision(i), Type: strings.Join(strings.Split(e.fixture, ".")[:3], "."), Data: []byte(text), Metadata: metadata,
			RecordedAt: time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC).Add(since),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// hashed is the SHA-256 of what the snapshots after each fact would hold. Each is also read again and folded on, which
// must lead to the same.
func hashed[S any](t *testing.T, k Kind[S], history []domain.Fact) string {
	t.Helper()
	sum := sha256.New()
	freezeAt := func(s Folded[S]) string {
		frozen, err := freeze(k, "s", s)
		if err != nil {
			t.Fatal(err)
		}
		return string(frozen.State)
	}
	advance := func(s Folded[S], f domain.Fact) Folded[S] {
		return Folded[S]{State: k.Evolve(s.State, f), Revision: eventstore.Revision(f.Revision), At: f.At, last: uuid.UUID{15: byte(f.Revision)}}
	}
	s, restored := Folded[S]{Revision: eventstore.NoStream}, Folded[S]{Revision: eventstore.NoStream}
	for i, f := range history {
		s, restored = advance(s, f), advance(restored, f)
		now := freezeAt(s)
		if diff := cmp.Diff(now, freezeAt(restored)); diff != "" {
			t.Fatalf("fact %d, folded on a snapshot of the one before (-folded +restored)\n%s", i, diff)
		}
		sum.Write([]byte(now))
		store := newMemory()
		x := newExecutor(t, store)
		save(t.Context(), x, k, "s", s)
		if restored = thaw(t.Context(), x, k, "s", latest); restored.Revision != s.Revision || restored.last != s.last || !restored.At.Equal(s.At) {
			t.Fatalf("a snapshot of revision %d came back as %+v", s.Revision, restored)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// TestAChangedFoldHasANewVersion: a snapshot that the old fold took would be believed by the new one.
func TestAChangedFoldHasANewVersion(t *testing.T) {
	t.Parallel()
	book, room, mark, read := facts(t, bookHistory), facts(t, roomHistory), facts(t, markHistory), facts(t, inboxHistory)
	seen := map[string]bool{}
	for _, h := range [][]domain.Fact{book, room, mark, read} {
		for _, f := range h {
			seen[f.Event.EventType()] = true
		}
	}
	for _, e := range slices.Concat(groomer.Catalog(), chat.Catalog(), inbox.Catalog()) {
		if !seen[e.EventType()] {
			t.Errorf("no history has a %s: add it, and raise the fold version", e.EventType())
		}
	}
	known := map[string]string{}
	b, err := os.ReadFile(foldsFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		i := strings.LastIndex(strings.TrimSpace(line), " ")
		known[line[:i]] = strings.TrimSpace(line[i:])
	}
	for _, k := range []struct {
		name, hash, raise string
	}{
		{fmt.Sprint("book ", bookKind.FoldVersion), hashed(t, bookKind, book), "groomer.FoldVersion or bookFold"},
		{fmt.Sprint("room ", roomKind.FoldVersion), hashed(t, roomKind, room), "chat.FoldVersion"},
		{fmt.Sprint("mark ", markKind.FoldVersion), hashed(t, markKind, mark), "chat.FoldVersion"},
		{fmt.Sprint("inbox ", inboxKind.FoldVersion), hashed(t, inboxKind, read), "inbox.FoldVersion"},
	} {
		switch known[k.name] {
		case k.hash:
		case "":
			if !*update {
				t.Errorf("%s is a new fold version: `go test ./commands -run %s -update` adds its line, %s %s", k.name, t.Name(), k.name, k.hash)
				continue
			}
			b = append(b, (k.name + " " + k.hash + "\n")...)
		default:
			t.Errorf("%s: the same history folds into another state than it did. If that is meant, raise %s, so that no snapshot of the old fold is read; never change a line of %s", k.name, k.raise, foldsFile)
		}
	}
	if *update {
		if err := os.WriteFile(foldsFile, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
