package foldtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	inboxes "github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/inbox"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
	"github.com/dangdangsalon/salon/projections/stats"
)

func TestMain(m *testing.M) { harness.Main(m) }

// villain draws what the contract lets people write, at its edges.
type villain struct{ *rand.Rand }

// edges are characters that have broken a database somewhere: quotes and escapes, what looks like the end or the
// beginning of something, four bytes, combining, right to left, not characters, what a lone surrogate becomes. Controls
// are among them: a settings' text may not have them, a sealed one may.
var edges = []rune("'\"`\\%_;-/*\u00a0\u0301\u200b\u200d\u200e\u202e\u2028\ufeff\ufffd\ufffe\uffff댕가ßİ\U0001f436\U0001f468\U000e0041\U0010ffff\x00\x01\x1a\x1b\x7f\n\t ")

func (v villain) text(least, most int) string {
	n := []int{least, most, least + v.IntN(most-least+1)}[v.IntN(3)]
	b := make([]rune, n)
	for i := range b {
		b[i] = edges[v.IntN(len(edges))]
	}
	return string(b)
}

// visible are identifiers that the outside gives: of a person, of a message.
func (v villain) visible(most int) string {
	b := make([]byte, 1+v.IntN(most))
	for i := range b {
		b[i] = byte('!' + v.IntN('~'-'!'+1))
	}
	return string(b)
}

func (v villain) sealed(subject string, most int) domain.Sealed {
	return foldtest.Seal(subject, v.text(0, most))
}

func (v villain) pick(n ...int) int { return n[v.IntN(len(n))] }

func (v villain) time() time.Time {
	day := []time.Time{
		time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2200, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2026, 11, 10, 1, 0, 0, 1000, time.UTC), time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC),
	}
	return day[v.IntN(len(day))]
}

// settings are some that the domain accepts.
func (v villain) settings(id string) []domain.Event {
	by := domain.Actor{ID: id, Role: domain.Groomer}
	for {
		s := groomer.Settings{
			Zone: []string{"Asia/Seoul", "America/Argentina/ComodRivadavia", "UTC", "Asia/Kathmandu"}[v.IntN(4)],
			Profile: groomer.Profile{
				Name: clean(v.text(1, 100)), Address: clean(v.text(0, 300)), Modes: []groomer.Mode{groomer.House, groomer.Shop},
			},
			Policies: groomer.Policies{BufferMinutes: v.pick(0, 10), Booking: groomer.Instant},
		}
		for i := range v.pick(0, 1, 50) {
			s.Profile.Areas = append(s.Profile.Areas, fmt.Sprintf("%s/%d", strings.Repeat("-", v.pick(1, 90)), i))
		}
		if events, err := (groomer.Groomer{}).Put(id, by, s); err == nil {
			return events
		}
	}
}

// clean leaves out what the domain refuses in a settings' text.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '🐶'
		}
		return r
	}, s)
}

// history makes up a store: some salons with visits, and a chat room for each.
func (v villain) history(t *testing.T, codec *eventstore.Codec, salons int) []engine.Event {
	t.Helper()
	var out []engine.Event
	add := func(stream, key string, revision int, by domain.Actor, e domain.Event) {
		data, err := codec.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := codec.Decode(e.EventType(), data) // as a reader has it
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 11, 2, 0, 0, 0, len(out)*1000, time.UTC)
		out = append(out, engine.Event{
			Fact:     domain.Fact{Event: stored, Revision: uint64(revision), At: at, By: by},
			Position: uint64(len(out) + 1), Stream: stream, Key: key, Meta: eventstore.Metadata{Actor: by},
		})
	}
	for i := range salons {
		id := strings.Repeat(string(rune('a'+i%26)), 37) + fmt.Sprintf("%03d", i)
		customer := domain.Actor{ID: v.visible(128), Role: domain.Customer}
		owner := domain.Actor{ID: id, Role: domain.Groomer}
		revision := -1
		salon := func(by domain.Actor, e domain.Event) {
			revision++
			add(eventstore.GroomerStream(id), id, revision, by, e)
		}
		for _, e := range v.settings(id) {
			salon(owner, e)
		}
		for range 1 + v.IntN(3) {
			from := v.time()
			off := id + "." + fmt.Sprintf("%026d", revision)
			salon(owner, groomer.TimeOffAdded{TimeOffID: off, From: from, To: from.Add(time.Hour), Reason: v.sealed(owner.Subject(), 500)})
		}
		salon(owner, groomer.TimeOffRemoved{TimeOffID: id + "." + fmt.Sprintf("%026d", revision)})
		hold := id + "." + fmt.Sprintf("%026d", 800_000)
		salon(customer, groomer.SlotHeld{HoldID: hold, Visit: groomer.Visit{CustomerID: customer.ID, Start: v.time(), Minutes: v.pick(5, 1440)}, ExpiresAt: v.time()})
		if i%2 == 0 {
			salon(customer, groomer.HoldReleased{HoldID: hold, CustomerID: customer.ID})
		}
		reservation, start := id+"."+fmt.Sprintf("%026d", 900_000), v.time()
		day := start.Format(time.DateOnly)
		dogs := make([]groomer.Dog, 1+v.IntN(5))
		for i := range dogs {
			dogs[i] = groomer.Dog{Name: v.sealed(customer.Subject(), 50), Size: "giant", Services: []string{"bath", "scissor_cut"}}
		}
		salon(customer, groomer.Requested{
			ReservationID: reservation, Day: day, Note: v.sealed(customer.Subject(), 1000), ExpiresAt: start,
			Visit: groomer.Visit{
				CustomerID: customer.ID, Start: start, Minutes: v.pick(5, 1440), BufferMinutes: v.pick(0, 240), Mode: groomer.House, Dogs: dogs,
				PriceKRW: int64(v.pick(0, 1<<53)), VisitAddress: v.sealed(customer.Subject(), 200), Phone: v.sealed(customer.Subject(), 30),
			},
			Cancellation: []groomer.RefundTier{{HoursBefore: v.pick(0, 8760), RefundPercent: 100}},
		})
		moved := v.time()
		salon(customer, groomer.Rescheduled{
			ReservationID: reservation, Start: moved, FromStart: start, Day: moved.Format(time.DateOnly), FromDay: day, Status: groomer.StatusRequested, ExpiresAt: moved,
		})
		salon(owner, groomer.Confirmed{ReservationID: reservation, Day: moved.Format(time.DateOnly)})
		salon(domain.Actor{ID: "timers", Role: domain.System}, groomer.Reminded{ReservationID: reservation, Day: moved.Format(time.DateOnly), Start: moved})
		day = moved.Format(time.DateOnly)
		switch i % 7 { // and one stays open
		case 0:
			salon(owner, groomer.Declined{ReservationID: reservation, Day: day, Reason: v.sealed(owner.Subject(), 500)})
		case 1:
			salon(customer, groomer.Cancelled{ReservationID: reservation, Day: day, Reason: v.sealed(customer.Subject(), 500), RefundPercent: v.pick(0, 100)})
		case 2:
			salon(domain.Actor{ID: "timers", Role: domain.System}, groomer.Expired{ReservationID: reservation, Day: day, RefundPercent: 100})
		case 3:
			salon(owner, groomer.CheckedIn{ReservationID: reservation, Day: day})
		case 4:
			salon(owner, groomer.Completed{ReservationID: reservation, Day: day, PriceKRW: 1 << 53})
		case 5:
			salon(owner, groomer.NoShow{ReservationID: reservation, Day: day})
		}
		room := eventstore.ChatStream(reservation)
		add(room, reservation, 0, customer, chat.Opened{RoomID: reservation, CustomerID: customer.ID, GroomerID: id})
		for seq := range 1 + v.IntN(4) {
			by := []domain.Actor{customer, owner}[v.IntN(2)]
			add(room, reservation, seq+1, by, chat.MessagePosted{
				RoomID: reservation, Seq: uint64(seq + 1), Sender: by, ClientMessageID: v.visible(64),
				Text: v.sealed(by.Subject(), 2000), ImageURL: v.sealed(by.Subject(), 1000),
			})
		}
		add(eventstore.ChatReadStream(reservation, string(owner.Role)), reservation, 0, owner, chat.ReadMarked{RoomID: reservation, Reader: owner, Seq: uint64(v.pick(1, 1<<53))})
		add(room, reservation, 6, customer, chat.MemberLeft{RoomID: reservation, Member: customer, Seq: 1})
		add(eventstore.InboxStream(customer), customer.Subject(), 0, customer, inboxes.Read{Reader: customer, Through: uint64(v.pick(1, 1<<53))})
	}
	return out
}

// What the contract accepts must fit every fold and every column, or a customer's text could park a salon. Each
// projection has every event applied, to each kind of database, and its rows are those of the same fold in memory.
func TestWhatTheContractAcceptsFitsEveryProjection(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number
	t.Logf("seed %d", seed)
	events := villain{rand.New(rand.NewPCG(seed, 5))}.history(t, eventstore.Catalog(), 60)
	for _, of := range [][]domain.Event{groomer.Catalog(), chat.Catalog(), inboxes.Catalog()} {
		for _, e := range of {
			if !slices.ContainsFunc(events, func(x engine.Event) bool { return x.Event.EventType() == e.EventType() }) {
				t.Errorf("no %s: the test shows nothing of it", e.EventType())
			}
		}
	}
	folds := []engine.Projection{
		reservations.Projection(), history.Projection(), groomers.Projection(), stats.Projection(), calendar.Projection(), chatrooms.Projection(),
		inbox.Projection(),
	}
	urls := map[string]func() string{"sqlite": func() string { return "sqlite:" + filepath.Join(t.TempDir(), "reads.db") }}
	clients := map[string]func(t *testing.T) string{"miniredis": func(t *testing.T) string { return "redis://" + miniredis.RunT(t).Addr() }}
	if !testing.Short() {
		urls["mysql"] = func() string { return harness.MySQL(t) }
		urls["mariadb"] = func() string { return harness.MariaDB(t) }
		clients["redis"] = func(t *testing.T) string { return harness.Redis(t) }
	}
	for name, url := range urls {
		url := url()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := reads.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := engine.EnsureTables(t.Context(), db, folds...); err != nil {
				t.Fatal(err)
			}
			for _, p := range folds {
				of := about(p, events)
				for _, topic := range p.Topics {
					if err := engine.Apply(t.Context(), db, p, topic, 0, 1, "life", slices.DeleteFunc(slices.Clone(of), func(e engine.Event) bool {
						return wire.TopicOf(e.Stream) != topic
					})); err != nil {
						t.Fatal(err)
					}
				}
				for _, table := range p.Tables {
					var got []any
					err := db.Snapshot(t.Context(), func(ctx context.Context, q reads.Queryer) (err error) {
						got, err = engine.QueryAll(ctx, q, table.Def(), p.Version)
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
					same(t, p, table.Def(), replayed(t, p, of), got)
				}
			}
		})
	}
	for name, url := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options, err := redis.ParseURL(url(t))
			if err != nil {
				t.Fatal(err)
			}
			client := redis.NewClient(options)
			t.Cleanup(func() { client.Close() })
			for _, p := range []engine.Projection{calendar.View(), chatrooms.View()} {
				of := about(p, events)
				if err := engine.ApplyView(t.Context(), client, p, p.Topics[0], 0, 1, "life", of); err != nil {
					t.Fatal(err)
				}
				view := engine.View{Redis: client, Projection: p, Partitions: func(context.Context, string) (int, error) { return 1, nil }}
				got, keys := map[*engine.Def][]any{}, map[string]bool{}
				for _, e := range of {
					if keys[e.Key] {
						continue
					}
					keys[e.Key] = true
					rows, err := view.Read(t.Context(), engine.Serving{Version: 1}, p.Topics[0], e.Key)
					if err != nil {
						t.Fatal(err)
					}
					for _, table := range p.Tables {
						some, err := rows.Rows(table.Def())
						if err != nil {
							t.Fatal(err)
						}
						got[table.Def()] = append(got[table.Def()], some...)
					}
				}
				for _, table := range p.Tables {
					same(t, p, table.Def(), replayed(t, p, of), got[table.Def()])
				}
			}
		})
	}
}

// about is the part of a history that a projection uses.
func about(p engine.Projection, events []engine.Event) (out []engine.Event) {
	for _, e := range events {
		if p.Uses(e.Event.EventType()) {
			out = append(out, e)
		}
	}
	return out
}

func replayed(t *testing.T, p engine.Projection, events []engine.Event) *engine.Unit {
	t.Helper()
	u := engine.NewUnit()
	if err := u.Replay(p, events...); err != nil {
		t.Fatal(err)
	}
	return u
}

func same(t *testing.T, p engine.Projection, d *engine.Def, want *engine.Unit, got []any) {
	t.Helper()
	spelled := func(rows []any) []string {
		out := make([]string, len(rows))
		for i, r := range rows {
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			out[i] = string(b)
		}
		slices.Sort(out)
		return out
	}
	rows := want.Rows(d)
	if len(rows) == 0 {
		t.Errorf("%s of %s has no rows: the test shows nothing", d.Base, p.ID())
	}
	if diff := gocmp.Diff(spelled(rows), spelled(got)); diff != "" {
		t.Errorf("%s of %s (-want +got)\n%s", d.Base, p.ID(), diff)
	}
}
