package audit

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	domainadmin "github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	domaininbox "github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/foldtest"
)

var (
	ana  = domain.Actor{ID: "ana", Role: domain.Customer}
	kim  = domain.Actor{ID: "kim", Role: domain.Groomer}
	root = domain.Actor{ID: "root", Role: domain.Admin}
)

// booked records a salon with one reservation of ana's, moved twice, and answers its ID.
func (w *world) booked() string {
	log := foldtest.NewLog()
	s := log.Open("kim", "Asia/Seoul", "seoul/gangnam-gu")
	start := time.Date(2100, 11, 24, 1, 0, 0, 0, time.UTC)
	v := s.Request("ana", start)
	s.Confirm(v)
	s.Move(v, start.Add(time.Hour))
	s.Move(v, start.Add(2*time.Hour))
	commands := map[string]string{
		"reservation.requested.v1": "reserve", "reservation.confirmed.v1": "confirm", "reservation.rescheduled.v1": "reschedule",
	}
	for _, e := range log.Events {
		name := commands[e.Event.EventType()]
		if name == "" {
			name = "register_groomer"
		}
		w.append(e.Stream, e.Key, e.By, name, e.Event)
	}
	return v.ID
}

func TestWhatCannotBeKnownIsRefusedByName(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		first := w.append("inbox-customer-bob", "customer:bob", domain.Actor{ID: "bob", Role: domain.Customer}, "read_inbox", domaininbox.Read{Through: 1})
		id := w.booked()
		// What else begins later under a key of the reservation's name, as its room does.
		w.append("inbox-"+id, id, domain.Actor{ID: "bob", Role: domain.Customer}, "read_inbox", domaininbox.Read{Through: 1})
		events := w.all()
		ofKim, last := events[len(events)-2], events[len(events)-1]
		before := first.RecordedAt.Add(-time.Microsecond).Format(time.RFC3339Nano)
		tomorrow := time.Now().Add(24 * time.Hour).Format(time.RFC3339)
		beyond := fmt.Sprintf("position:%d", last.Position+1)
		state := func(stream, at string) error {
			_, err := w.past.State(t.Context(), stream, w.moment("at", at))
			return err
		}
		rows := func(projection, key, at string) error {
			_, err := w.past.Rows(t.Context(), projection, key, w.moment("at", at), 10)
			return err
		}
		diff := func(stream, from, to string) error {
			_, err := w.past.Diff(t.Context(), stream, w.moment("from", from), w.moment("to", to), 10)
			return err
		}
		rowsDiff := func(projection, key, from, to string) error {
			_, err := w.past.RowsDiff(t.Context(), projection, key, w.moment("from", from), w.moment("to", to), 10)
			return err
		}
		for _, c := range []struct {
			name string
			got  error
			want string // "": answered
		}{
			{"a stream as it is now", state("groomer-kim", ""), ""},
			{"a stream that nobody wrote", state("groomer-nobody", ""), "stream.unknown"},
			{"a stream that nobody wrote, at a revision", state("groomer-nobody", "0"), "stream.unknown"},
			{"a stream of no kind", state("kim", ""), "stream.unknown"},
			{"a stream of another kind", state("salon-kim", ""), "stream.unknown"},
			{"before the store's first event", state("groomer-kim", before), "moment.unknown"},
			{"before the stream's first event", state("groomer-kim", fmt.Sprintf("position:%d", first.Position)), "moment.unknown"},
			{"before everything", state("groomer-kim", "position:0"), "moment.unknown"},
			{"the first revision", state("groomer-kim", "0"), ""},
			{"the last revision", state("groomer-kim", fmt.Sprint(ofKim.Revision)), ""},
			{"a revision that is not there yet", state("groomer-kim", fmt.Sprint(ofKim.Revision+1)), "moment.unknown"},
			{"a position past the end", state("groomer-kim", beyond), "moment.unknown"},
			{"the greatest number", state("groomer-kim", "9223372036854775807"), "moment.unknown"},
			{"a time to come", state("groomer-kim", tomorrow), "moment.future"},
			{"the time of the last event", state("groomer-kim", last.RecordedAt.Format(time.RFC3339Nano)), ""},
			{"the year one", state("groomer-kim", "0001-01-01T00:00:00Z"), "moment.unknown"},
			{"rows by the ordering key", rows("reservations", "kim", ""), ""},
			{"rows by the primary key", rows("reservations", id, ""), ""},
			{"rows by the first part of the primary key", rows("history", id, ""), ""},
			{"rows by the whole primary key", rows("history", id+"/5", ""), ""},
			{"rows of an earlier version", rows("reservations_v1", id, ""), ""},
			{"rows of an earlier version, as the command line names it", rows("reservations@1", id, ""), ""},
			{"a revision that a reservation has no row of", rows("history", id+"/99", ""), "row.unknown"},
			{"a reservation that there is not", rows("reservations", "kim.11111111111111111111111111", ""), "row.unknown"},
			{"a key without events", rows("reservations", "nobody", ""), "row.unknown"},
			{"a key that is hostile", rows("reservations", "////@..\x00'\";--", ""), "row.unknown"},
			{"a projection that there is not", rows("bookings", "kim", ""), "projection.unknown"},
			{"a version that there is not", rows("reservations@9", "kim", ""), "projection.unknown"},
			{"a reservation before the store's first event", rows("reservations", id, before), "moment.unknown"},
			{"a reservation before it was made", rows("reservations", id, fmt.Sprintf("position:%d", events[3].Position)), "row.unknown"},
			{"rows past the end", rows("reservations", id, fmt.Sprint(last.Position+1)), "moment.unknown"},
			{"rows of a time to come", rows("reservations", id, tomorrow), "moment.future"},
			{"from before the beginning", diff("groomer-kim", before, ""), ""},
			{"backwards", diff("groomer-kim", "3", "2"), "request.invalid"},
			{"to before the beginning", diff("groomer-kim", before, before), "moment.unknown"},
			{"of a stream that nobody wrote", diff("groomer-nobody", before, ""), "stream.unknown"},
			{"to a time to come", diff("groomer-kim", "0", tomorrow), "moment.future"},
			{"of a reservation", rowsDiff("reservations", id, before, ""), ""},
			{"of a reservation that there is not", rowsDiff("reservations", "nobody", before, ""), "row.unknown"},
			{"of rows before there were any", rowsDiff("reservations", id, before, before), "moment.unknown"},
		} {
			var refusal domain.Refusal
			if errors.As(c.got, &refusal); refusal.Code != c.want || c.want == "" && c.got != nil {
				t.Errorf("%s: %v, want %q", c.name, c.got, c.want)
			}
		}
	})
}

func TestAMomentIsATimeANumberOrAPosition(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "now", "0", "41", "position:7", "2026-11-24T14:03:00+09:00", "2026-11-24T05:03:00.123456Z"} {
		if _, err := ParseMoment("at", text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"-1", "1.5", "9223372036854775808", "99999999999999999999", "position:", "position:-1", "position:x", "2026-11-24", "14:03",
		"2026-11-24 14:03:00", "2026-13-24T14:03:00Z", "１２", "NaN", "yesterday", "2026-11-24T14:03:00.000000000000000000000000000000000000000000000000Z"} {
		if _, err := ParseMoment("at", text); !errors.Is(err, domain.Refusal{Code: "request.invalid"}) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEveryKindOfStreamHasAState(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		w.append("chat-r", "r", ana, "post_message", chat.Opened{RoomID: "r", CustomerID: "ana", GroomerID: "kim"}, chat.MessagePosted{RoomID: "r", Seq: 1, Sender: ana})
		w.append("chatread-r-groomer", "r", kim, "mark_read", chat.ReadMarked{RoomID: "r", Reader: kim, Seq: 1})
		w.append("inbox-customer-ana", "customer:ana", ana, "read_inbox", domaininbox.Read{Reader: ana, Through: 17})
		w.append("admin-admin-root", "admin:root", root, "record_call", domainadmin.Called{Operation: "state-of-stream", About: "chat-r"})
		w.booked()
		var number = func(v any) any { return asJSON(t, v) }
		for stream, want := range map[string]map[string]any{
			"chat-r": {
				"room_id": "r", "members": map[string]any{"customer_id": "ana", "groomer_id": "kim"}, "seq": number(1),
				"customer_left": map[string]any{"gone": false, "seq": number(0)}, "groomer_left": map[string]any{"gone": false, "seq": number(0)},
			},
			"chatread-r-groomer": {"seq": number(1)},
			"inbox-customer-ana": {"through": number(17)},
		} {
			got, err := w.past.State(t.Context(), stream, Moment{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(any(want), asJSON(t, got.State)); diff != "" {
				t.Errorf("%s (-want +got)\n%s", stream, diff)
			}
		}
		calls, err := w.past.State(t.Context(), "admin-admin-root", Moment{})
		if err != nil || calls.State["operation"] != "state-of-stream" || calls.State["about"] != "chat-r" {
			t.Errorf("an admin's calls: %+v, %v", calls, err)
		}
	})
}

// TestTheWholeBookIsShown: a field that the book gets is shown, or left out on purpose.
func TestTheWholeBookIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, openSQLite(t))
	id := w.booked()
	got, err := w.past.State(t.Context(), "groomer-kim", Moment{})
	if err != nil {
		t.Fatal(err)
	}
	state := groomer.Groomer{}
	for _, r := range w.all() {
		f, err := w.past.Codec.Fact(r)
		if err != nil {
			t.Fatal(err)
		}
		state = groomer.Evolve(state, f)
	}
	want := opened(asJSON(t, state)).(map[string]any)
	delete(want, "ids")
	delete(want, "latest")
	for _, list := range []string{"holds", "reservations", "kept", "time_off"} {
		byID := map[string]any{}
		items, _ := want[list].([]any)
		for _, item := range items {
			byID[id] = item
		}
		want[list] = byID
	}
	if diff := cmp.Diff(any(want), asJSON(t, got.State)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got.Revision != 8 || got.Last == nil || got.Last.Command.Name != "reschedule" || got.Last.Actor != (Actor{"ana", "customer"}) {
		t.Errorf("revision %d, last %+v", got.Revision, got.Last)
	}
}

// TestAFoldStopsWhereAReaderWould: at a type that nobody knows, and at what a fold refuses. The answer is of what came before.
func TestAFoldStopsWhereAReaderWould(t *testing.T) {
	onEachStore(t, func(t *testing.T, w *world) {
		id := w.booked()
		unknown := w.appendRaw("groomer-kim", "kim", kim, "from_the_future", eventstore.NewEvent{Type: "reservation.teleported.v9", Data: []byte(`{"to":"the moon"}`)})
		w.append("groomer-kim", "kim", kim, "cancel", groomer.Cancelled{ReservationID: id})
		state, err := w.past.State(t.Context(), "groomer-kim", Moment{})
		if err != nil {
			t.Fatal(err)
		}
		if state.Stopped == nil || state.Stopped.Event.Position != unknown.Position || state.Revision != 8 {
			t.Errorf("at revision %d, stopped %+v", state.Revision, state.Stopped)
		}
		rows, err := w.past.Rows(t.Context(), "reservations", id, Moment{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		if rows.Stopped == nil || rows.Stopped.Event.Type != "reservation.teleported.v9" || rows.Rows[0].Row["status"] != "confirmed" {
			t.Errorf("rows %+v", rows)
		}
		diff, err := w.past.Diff(t.Context(), "groomer-kim", w.moment("from", "7"), Moment{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		if diff.Stopped == nil || slices.ContainsFunc(diff.Changes, func(c Change) bool { return c.Command.Name == "cancel" }) || diff.Total == 0 {
			t.Errorf("difference %+v", diff)
		}
		// Before it everything is whole.
		if state, err = w.past.State(t.Context(), "groomer-kim", w.moment("at", "8")); err != nil || state.Stopped != nil {
			t.Errorf("before it: %+v, %v", state.Stopped, err)
		}
		// A fold's refusal: a reservation that nobody requested. The domain's fold takes it.
		w.append("groomer-lee", "lee", kim, "confirm", groomer.Confirmed{ReservationID: "lee.00000000000000000000000000"})
		rows, err = w.past.Rows(t.Context(), "reservations", "lee", Moment{}, 10)
		if err != nil || rows.Stopped == nil || rows.Total != 0 {
			t.Errorf("a fold that refuses: %+v, %v", rows, err)
		}
	})
}

func TestPersonalTextsAreOpenedOrNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, openSQLite(t))
	id := w.booked()
	at := "/reservations/" + id
	all := []string{at + "/dogs/0/name", at + "/note", at + "/phone"}
	ask := func() State {
		t.Helper()
		s, err := w.past.State(t.Context(), "groomer-kim", Moment{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	phone := func(s State) any { return s.State["reservations"].(map[string]any)[id].(map[string]any)["phone"] }
	if s := ask(); phone(s) != "010-1234-5678" || s.Erased != nil || s.Sealed != nil {
		t.Errorf("opened: %v, %+v", phone(s), s.Unopened)
	}
	w.texts.erased = map[string]bool{"customer:ana": true}
	if s := ask(); phone(s) != nil || !slices.Equal(s.Erased, all) {
		t.Errorf("erased: %v, %+v", phone(s), s.Unopened)
	}
	d, err := w.past.RowsDiff(t.Context(), "reservations", id, w.moment("from", "5"), Moment{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range d.Changes {
		if c.Field == at+"/phone" && (c.Before != nil || c.After == nil || *c.After != nil || !slices.Equal(c.Erased, []string{"/after"})) {
			t.Errorf("erased in a difference: %+v", c)
		}
	}
	w.texts.away = errors.New("damaged in some way")
	if s := ask(); phone(s) != nil || !slices.Equal(s.Sealed, all) {
		t.Errorf("damaged: %v, %+v", phone(s), s.Unopened)
	}
	w.past.Texts = nil
	if s := ask(); phone(s) != nil || !slices.Equal(s.Sealed, all) {
		t.Errorf("without keys: %v, %+v", phone(s), s.Unopened)
	}
	w.past.Texts, w.texts.away = w.texts, fmt.Errorf("find the key: %w", eventstore.ErrUnavailable)
	if _, err := w.past.State(t.Context(), "groomer-kim", Moment{}); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a key store that is away: %v", err)
	}
}
