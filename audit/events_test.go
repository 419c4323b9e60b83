package audit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// crowd records so many commands of a few people on a few streams, some because of an event of another.
func (w *world) crowd(random *rand.Rand, commands int) {
	w.t.Helper()
	var before []eventstore.Recorded
	for i := range commands {
		by := domain.Actor{ID: []string{"ana", "bob"}[random.IntN(2)], Role: []domain.Role{domain.Customer, domain.Groomer}[random.IntN(2)]}
		key := []string{"kim", "lee"}[random.IntN(2)]
		id := w.nextCommand()
		m := eventstore.Metadata{CommandID: id, Command: "test", Actor: by, CorrelationID: id.String(), CausationID: id.String()}
		stream := "groomer-" + key
		switch random.IntN(5) {
		case 0:
			m.CorrelationID = []string{"x", "an intention", strings.Repeat("c", 128)}[random.IntN(3)]
		case 1:
			stream, key = eventstore.AdminStream(by), by.Subject()
		case 2:
			if before = w.all(); len(before) > 0 {
				cause := before[random.IntN(len(before))]
				of, _ := eventstore.DecodeMetadata(cause.Metadata)
				m.CausationID, m.CorrelationID = cause.ID.String(), of.CorrelationID
			}
		}
		events := make([]eventstore.NewEvent, 1+random.IntN(3))
		for n := range events {
			events[n] = eventstore.NewEvent{Type: []string{"a.happened.v1", "b.happened.v1", "reservation.confirmed.v1"}[random.IntN(3)], Data: fmt.Appendf(nil, `{"n":%d}`, i)}
		}
		w.appendAs(m, stream, key, events...)
	}
}

// found follows a list through all its pages.
func (w *world) found(q Query) (positions []uint64) {
	w.t.Helper()
	for pages := 0; ; pages++ {
		page, err := w.past.Events(w.t.Context(), q)
		if errors.Is(err, errStream("")) && pages == 0 {
			return nil
		}
		if err != nil {
			w.t.Fatalf("%+v: %v", q, err)
		}
		if len(page.Items) > q.Limit || pages > 1000 {
			w.t.Fatalf("%+v: page %d has %d items", q, pages, len(page.Items))
		}
		for _, e := range page.Items {
			positions = append(positions, e.Position)
		}
		if page.NextCursor == nil {
			return positions
		}
		q.Cursor = *page.NextCursor
	}
}

func (w *world) indexer() *Indexer {
	lookups, has := w.store.(eventstore.Lookups)
	if !has {
		return nil
	}
	return &Indexer{Store: w.store, Lookups: lookups, Log: slog.New(slog.DiscardHandler)}
}

// TestEventsAreFoundByAllThatIsInThem: whatever is asked, and wherever the index ends, the answer is what a look at every
// event gives.
func TestEventsAreFoundByAllThatIsInThem(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's dice
		for range 3 {
			w.crowd(random, 40)
			events := w.all()
			for range 60 {
				q := Query{Limit: 1 + random.IntN(20)}
				any := events[random.IntN(len(events))]
				m, err := eventstore.DecodeMetadata(any.Metadata)
				if err != nil {
					t.Fatal(err)
				}
				of := func(n int, set func()) {
					if random.IntN(n) == 0 {
						set()
					}
				}
				of(4, func() { q.Stream = any.Stream })
				of(4, func() { q.Key = any.Key })
				of(3, func() { q.Type = any.Type })
				of(3, func() { q.Actor = m.Actor.Subject() })
				of(4, func() { q.Correlation = m.CorrelationID })
				of(6, func() { q.Command = m.CommandID.String() })
				from, to := uint64(0), events[len(events)-1].Position
				of(3, func() {
					from = events[random.IntN(len(events))].Position
					q.From = fmt.Sprintf("position:%d", from)
				})
				of(3, func() {
					to = events[random.IntN(len(events))].Position
					q.To = fmt.Sprintf("position:%d", to)
				})
				if from > to {
					continue
				}
				var want []uint64
				for _, r := range events {
					m, _ := eventstore.DecodeMetadata(r.Metadata)
					admins := strings.HasPrefix(q.Stream, "admin-") || q.Command != ""
					if r.Position >= from && r.Position <= to && (q.Stream == "" || q.Stream == r.Stream) && (q.Key == "" || q.Key == r.Key) &&
						(q.Type == "" || q.Type == r.Type) && (q.Actor == "" || q.Actor == string(m.Actor.Role)+":"+m.Actor.ID) &&
						(q.Correlation == "" || q.Correlation == m.CorrelationID) && (q.Command == "" || q.Command == m.CommandID.String()) &&
						(admins || !strings.HasPrefix(r.Stream, "admin-")) {
						want = append(want, r.Position)
					}
				}
				if diff := cmp.Diff(want, w.found(q)); diff != "" {
					t.Fatalf("%+v (-want +got)\n%s", q, diff)
				}
			}
			// The next round begins with an index that ends before what it adds.
			if x := w.indexer(); x != nil {
				if through, err := x.Through(t.Context()); err != nil || through != events[len(events)-1].Position {
					t.Fatalf("the index ends at %d, not %d: %v", through, events[len(events)-1].Position, err)
				}
			}
		}
	})
}

// TestTwoFollowersMakeOneIndex: at once, and beside appends.
func TestTwoFollowersMakeOneIndex(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		if w.indexer() == nil {
			return // EventStoreDB has none
		}
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's dice
		var group errgroup.Group
		stop, done := context.WithCancel(t.Context())
		for range 2 {
			group.Go(func() error {
				for stop.Err() == nil {
					if _, err := w.indexer().Through(t.Context()); err != nil {
						return err
					}
				}
				return nil
			})
		}
		w.crowd(random, 200)
		done()
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		x := w.indexer()
		if _, err := x.Through(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := map[int64][]uint64{}
		for _, r := range w.all() {
			for _, l := range lookupsOf(r) {
				want[l.Value] = append(want[l.Value], l.Position)
			}
		}
		for value, positions := range want {
			got, err := x.Lookups.Lookup(t.Context(), value, 0, 10_000)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(positions, got); diff != "" {
				t.Fatalf("value %d (-want +got)\n%s", value, diff)
			}
		}
		// One that comes late changes nothing.
		head, err := x.Lookups.LookupsThrough(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		moved, err := x.Lookups.AddLookups(t.Context(), head-1, head+5, []eventstore.Lookup{{Value: 7, Position: head + 5}})
		if at, err2 := x.Lookups.LookupsThrough(t.Context()); moved || err != nil || err2 != nil || at != head {
			t.Errorf("a late follower moved the end from %d to %d (%t, %v, %v)", head, at, moved, err, err2)
		}
		if got, err := x.Lookups.Lookup(t.Context(), 7, 0, 1); err != nil || len(got) > 0 {
			t.Errorf("a late follower added %v, %v", got, err)
		}
	})
}

// TestTheIndexFollows: Run brings in what is appended, by itself.
func TestTheIndexFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, openSQLite(t))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	x := w.indexer()
	go func() { ended <- x.Run(ctx) }()
	w.append("inbox-customer-ana", "customer:ana", ana, "test")
	done := w.appendRaw("inbox-customer-ana", "customer:ana", ana, "test", eventstore.NewEvent{Type: "a.happened.v1", Data: []byte(`{}`)})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for through := uint64(0); through < done.Position; <-tick.C {
		var err error
		if through, err = x.Lookups.LookupsThrough(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAnEventIsShownByPositionAndByID(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		w.booked()
		w.appendRaw("groomer-kim", "kim", kim, "from_the_future", eventstore.NewEvent{Type: "reservation.teleported.v9", Data: []byte("\xff no JSON")})
		events := w.all()
		for _, r := range events {
			got, err := w.past.Event(t.Context(), fmt.Sprint(r.Position))
			if err != nil || got.ID != r.ID || got.Known != (r.Type != "reservation.teleported.v9") {
				t.Errorf("position %d: %+v, %v", r.Position, got, err)
			}
			got, err = w.past.Event(t.Context(), r.ID.String())
			if w.indexer() == nil {
				if !errors.Is(err, domain.Refusal{Code: "event.not_indexed"}) {
					t.Errorf("ID %s: %v", r.ID, err)
				}
			} else if err != nil || got.Position != r.Position {
				t.Errorf("ID %s: %+v, %v", r.ID, got, err)
			}
		}
		// What nobody knows is shown as it is.
		last := events[len(events)-1]
		page, err := w.past.Events(t.Context(), Query{Type: last.Type, Limit: 10})
		if err != nil || len(page.Items) != 1 || page.Items[0].Known || page.Items[0].Data != base64.StdEncoding.EncodeToString(last.Data) {
			t.Errorf("an unknown type: %+v, %v", page, err)
		}
		for which, code := range map[string]string{
			"0": "event.unknown", fmt.Sprint(last.Position + 1): "event.unknown", "9223372036854775807": "event.unknown",
			"": "request.invalid", "x": "request.invalid", "-1": "request.invalid", "18446744073709551615": "request.invalid",
		} {
			if _, err := w.past.Event(t.Context(), which); !errors.Is(err, domain.Refusal{Code: code}) {
				t.Errorf("%q: %v", which, err)
			}
		}
		if w.indexer() != nil {
			if _, err := w.past.Event(t.Context(), uuid.NewString()); !errors.Is(err, domain.Refusal{Code: "event.unknown"}) {
				t.Errorf("an ID that nobody has: %v", err)
			}
		}
	})
}

func TestListsRefuseWhatTheyCannotMean(t *testing.T) {
	t.Parallel()
	w := newWorld(t, openSQLite(t))
	w.booked()
	first, err := w.past.Events(t.Context(), Query{Stream: "groomer-kim", Limit: 2})
	if err != nil || first.NextCursor == nil {
		t.Fatal(first, err)
	}
	forged := base64.RawURLEncoding.EncodeToString([]byte(`{"p":1,"r":1,"e":99999,"s":"0000000000000000"}`))
	for _, c := range []struct {
		q    Query
		code string
	}{
		{Query{Limit: 0}, "request.invalid"},
		{Query{Limit: 101}, "request.invalid"},
		{Query{Limit: 1, Actor: "ana"}, "request.invalid"},
		{Query{Limit: 1, Actor: ":ana"}, "request.invalid"},
		{Query{Limit: 1, Command: "7"}, "request.invalid"},
		{Query{Limit: 1, From: "yesterday"}, "request.invalid"},
		{Query{Limit: 1, From: "2026-02-30"}, "request.invalid"},
		{Query{Limit: 1, From: "position:5", To: "position:2"}, "request.invalid"},
		{Query{Limit: 1, From: "2999-01-01T00:00:00Z"}, "moment.future"},
		{Query{Limit: 1, Stream: "groomer-nobody"}, "stream.unknown"},
		{Query{Limit: 2, Cursor: *first.NextCursor}, "request.invalid"},
		{Query{Limit: 2, Stream: "groomer-lee", Cursor: *first.NextCursor}, "request.invalid"},
		{Query{Limit: 2, Stream: "groomer-kim", Cursor: (*first.NextCursor)[1:]}, "request.invalid"},
		{Query{Limit: 2, Stream: "groomer-kim", Cursor: forged}, "request.invalid"},
		{Query{Limit: 2, Stream: "groomer-kim", Cursor: "!"}, "request.invalid"},
	} {
		if _, err := w.past.Events(t.Context(), c.q); !errors.Is(err, domain.Refusal{Code: c.code}) {
			t.Errorf("%+v: %v, want %s", c.q, err, c.code)
		}
	}
	// A page of another size goes on all the same.
	if next, err := w.past.Events(t.Context(), Query{Stream: "groomer-kim", Limit: 3, Cursor: *first.NextCursor}); err != nil || next.Items[0].Revision != 2 {
		t.Errorf("the next page: %+v, %v", next, err)
	}
	today := time.Now().UTC().Format(time.RFC3339)
	if page, err := w.past.Events(t.Context(), Query{Limit: 100, From: "2020-01-01", To: "2999-12-31"}); err != nil || len(page.Items) != 9 {
		t.Errorf("by days: %d, %v", len(page.Items), err)
	}
	if page, err := w.past.Events(t.Context(), Query{Limit: 100, To: "2020-01-01"}); err != nil || len(page.Items) != 0 {
		t.Errorf("before %s: %d, %v", today, len(page.Items), err)
	}
}

// TestAPageLooksAtABoundedNumberOfEvents: one that finds nothing says how far it looked, and goes on.
func TestAPageLooksAtABoundedNumberOfEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, openSQLite(t))
	for range (mostLooked + 200) / 100 {
		w.appendRaw("inbox-customer-ana", "customer:ana", ana, "test", slices.Repeat([]eventstore.NewEvent{{Type: "a.happened.v1", Data: []byte("{}")}}, 100)...)
	}
	w.appendRaw("inbox-customer-ana", "customer:ana", ana, "test", eventstore.NewEvent{Type: "b.happened.v1", Data: []byte("{}")})
	q := Query{Type: "b.happened.v1", Limit: 10}
	page, err := w.past.Events(t.Context(), q)
	if err != nil || len(page.Items) != 0 || page.NextCursor == nil || page.LookedThrough != mostLooked {
		t.Fatalf("without an index: %+v, %v", page, err)
	}
	if got := w.found(q); len(got) != 1 {
		t.Errorf("through all pages: %v", got)
	}
	if _, err := w.indexer().Through(t.Context()); err != nil {
		t.Fatal(err)
	}
	if page, err = w.past.Events(t.Context(), q); err != nil || len(page.Items) != 1 || page.NextCursor != nil || *page.IndexedThrough != page.LookedThrough {
		t.Errorf("with an index: %+v, %v", page, err)
	}
}

// TestATreeIsWhatCausedWhat holds the tree of each command to the metadata of all events.
func TestATreeIsWhatCausedWhat(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's dice
		for range 2 {
			w.crowd(random, 60)
			type command struct {
				id     uuid.UUID
				events []eventstore.Recorded
				cause  string
			}
			byID, ofEvent := map[uuid.UUID]*command{}, map[string]*command{}
			var all []*command
			for _, r := range w.all() {
				m, err := eventstore.DecodeMetadata(r.Metadata)
				if err != nil {
					t.Fatal(err)
				}
				c := byID[m.CommandID]
				if c == nil {
					c = &command{id: m.CommandID, cause: m.CausationID}
					byID[c.id], all = c, append(all, c)
				}
				c.events = append(c.events, r)
				ofEvent[r.ID.String()] = c
			}
			var sketch func(c *command) string
			sketch = func(c *command) string {
				out := c.id.String() + "("
				for _, e := range c.events {
					out += e.ID.String() + "["
					for _, other := range all {
						if other.cause == e.ID.String() {
							out += sketch(other)
						}
					}
					out += "]"
				}
				return out + ")"
			}
			var drawn func(c Caused) string
			drawn = func(c Caused) string {
				out := c.Command.ID.String() + "("
				for _, e := range c.Events {
					out += e.ID.String() + "["
					for _, caused := range e.Commands {
						out += drawn(caused)
					}
					out += "]"
				}
				return out + ")"
			}
			deepest := 0
			for _, c := range all {
				tree, err := w.past.Tree(t.Context(), c.id.String())
				if err != nil {
					t.Fatal(err)
				}
				if got, want := drawn(tree.Caused), sketch(c); got != want || tree.More {
					t.Fatalf("the tree of %s is %s, not %s", c.id, got, want)
				}
				var above, want []string
				for at := c; ofEvent[at.cause] != nil; at = ofEvent[at.cause] {
					want = append(want, at.cause)
				}
				for _, a := range tree.CausedBy {
					above = append(above, a.Event.ID.String())
				}
				if n := len(above); w.indexer() == nil && n < len(want) && tree.CauseNotFound == want[n] {
					want = want[:n] // without an index a cause is found in the same stream alone, and said to be missing elsewhere
				} else if tree.CauseNotFound != "" {
					t.Errorf("cause %s was not found", tree.CauseNotFound)
				}
				if !slices.Equal(want, above) {
					t.Fatalf("above %s stand %v, not %v", c.id, above, want)
				}
				deepest = max(deepest, len(above))
			}
			if deepest == 0 {
				t.Error("nothing was caused by anything")
			}
			if x := w.indexer(); x != nil {
				if _, err := x.Through(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for id, code := range map[string]string{uuid.NewString(): "command.unknown", "x": "request.invalid", "": "request.invalid"} {
			if _, err := w.past.Tree(t.Context(), id); !errors.Is(err, domain.Refusal{Code: code}) {
				t.Errorf("the tree of %q: %v", id, err)
			}
		}
		// A command that changed nothing.
		w.append("groomer-kim", "kim", kim, "confirm")
		tree, err := w.past.Tree(t.Context(), uuid.NewSHA1(uuid.Nil, []byte{byte(w.asked >> 8), byte(w.asked)}).String())
		if err != nil || len(tree.Events) != 0 || tree.Command.Actor != (Actor{"kim", "groomer"}) {
			t.Errorf("a command that changed nothing: %+v, %v", tree, err)
		}
	})
}
