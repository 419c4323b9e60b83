package chatrooms_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
)

const room = "kim.00000000000000000000000001"

var (
	customer = domain.Actor{ID: "c1", Role: domain.Customer}
	salon    = domain.Actor{ID: "kim", Role: domain.Groomer}
	opened   = chat.Opened{RoomID: room, CustomerID: "c1", GroomerID: "kim"}
	began    = time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC)
)

func post(seq uint64, by domain.Actor) chat.MessagePosted {
	return chat.MessagePosted{
		RoomID: room, Seq: seq, Sender: by, ClientMessageID: fmt.Sprintf("m%d", seq),
		Text: domain.Sealed{Subject: by.Subject(), KeyID: "k", Cipher: []byte{byte(seq)}},
	}
}

func read(seq uint64, by domain.Actor) chat.ReadMarked {
	return chat.ReadMarked{RoomID: room, Reader: by, Seq: seq}
}

func left(seq uint64, by domain.Actor) chat.MemberLeft {
	return chat.MemberLeft{RoomID: room, Member: by, Seq: seq}
}

// facts gives events their place, a second apart.
func facts(events ...domain.Event) []engine.Event {
	out := make([]engine.Event, len(events))
	for i, e := range events {
		out[i] = engine.Event{
			Fact:     domain.Fact{Event: e, Revision: uint64(i), At: began.Add(time.Duration(i) * time.Second)},
			Position: uint64(i + 1), Key: room,
		}
	}
	return out
}

func fold(p engine.Projection, events ...domain.Event) (chatrooms.Room, []chatrooms.Message, error) {
	u := engine.NewUnit()
	if err := u.Replay(p, facts(events...)...); err != nil {
		return chatrooms.Room{}, nil, err
	}
	messages := chatrooms.Messages.Rows(u)
	slices.SortFunc(messages, func(a, b chatrooms.Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return chatrooms.Rooms.Rows(u)[0], messages, nil
}

func TestARoomShowsItsLastMessageAndBothSides(t *testing.T) {
	t.Parallel()
	got, messages, err := fold(chatrooms.Projection(), opened, post(1, customer), post(2, customer), post(3, salon), read(2, salon))
	if err != nil {
		t.Fatal(err)
	}
	last := post(3, salon)
	want := chatrooms.Room{
		RoomID: room, CustomerID: "c1", GroomerID: "kim",
		LastSeq: 3, LastSenderID: "kim", LastSenderRole: "groomer", LastClientID: "m3", LastText: last.Text, LastAt: began.Add(3 * time.Second),
		Customer: chatrooms.Side{Sent: 2, Received: 1},
		Groomer:  chatrooms.Side{Sent: 1, Received: 2, Read: 2, ReadSeq: 2},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	wantLast := chatrooms.Message{
		RoomID: room, Seq: 3, SenderID: "kim", SenderRole: "groomer", ClientID: "m3", Text: last.Text,
		SentAt: began.Add(3 * time.Second), FromCustomer: 2, FromGroomer: 1,
	}
	if diff := gocmp.Diff(wantLast, messages[2]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if m, ok := got.Last(); !ok || !gocmp.Equal(m, wantLast) {
		t.Errorf("the room's last message: %+v", m)
	}
}

func TestUnread(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		events            []domain.Event
		customer, groomer uint64
	}{
		"own messages are not unread":                   {[]domain.Event{post(1, customer), post(2, customer)}, 0, 2},
		"a mark counts the other side's messages alone": {[]domain.Event{post(1, customer), post(2, salon), post(3, customer), read(2, salon)}, 1, 1},
		"a mark on one's own message":                   {[]domain.Event{post(1, salon), post(2, customer), post(3, salon), read(2, customer)}, 1, 1},
		"a mark never goes back":                        {[]domain.Event{post(1, salon), post(2, salon), read(2, customer), read(1, customer)}, 0, 0},
		"a mark beyond the end is one at the end":       {[]domain.Event{post(1, salon), read(9, customer), post(2, salon)}, 1, 0},
		"who left misses nothing":                       {[]domain.Event{post(1, salon), left(1, customer), post(2, salon), post(3, salon)}, 1, 0},
		"who left may still read":                       {[]domain.Event{post(1, salon), left(1, customer), post(2, salon), read(1, customer)}, 0, 0},
	} {
		got, _, err := fold(chatrooms.Projection(), append([]domain.Event{opened}, c.events...)...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n, ok := got.Customer.Unread(); n != c.customer || !ok {
			t.Errorf("%s: customer has %d unread, want %d", name, n, c.customer)
		}
		if n, ok := got.Groomer.Unread(); n != c.groomer || !ok {
			t.Errorf("%s: groomer has %d unread, want %d", name, n, c.groomer)
		}
	}
}

func TestWhatCannotHaveHappenedIsPoison(t *testing.T) {
	t.Parallel()
	for name, events := range map[string][]domain.Event{
		"a message in a room that was never opened": {post(1, customer)},
		"a hole between messages":                   {opened, post(1, customer), post(3, customer)},
		"a message twice":                           {opened, post(1, customer), post(1, customer)},
	} {
		for _, p := range []engine.Projection{chatrooms.Projection(), chatrooms.View()} {
			if _, _, err := fold(p, events...); err == nil {
				t.Errorf("%s: %s folds it", p.Name, name)
			}
		}
	}
}

// history draws a room's life: posts, marks and leaving in any order that the room would allow.
func history(t *rapid.T, most int) []domain.Event {
	events := []domain.Event{opened}
	var last uint64
	gone := map[domain.Role]uint64{}
	for range rapid.IntRange(0, most).Draw(t, "events") {
		who := rapid.SampledFrom([]domain.Actor{customer, salon}).Draw(t, "who")
		end, away := gone[who.Role]
		if !away {
			end = last
		}
		switch what := rapid.IntRange(0, 30).Draw(t, "what"); {
		case what == 0 && !away:
			gone[who.Role] = last
			events = append(events, left(last, who))
		case what < 10 && end > 0:
			events = append(events, read(rapid.Uint64Range(1, end).Draw(t, "seq"), who))
		case !away:
			last++
			events = append(events, post(last, who))
		}
	}
	return events
}

// recount is unread the slow and plain way: look at every message that the member may read.
func recount(events []domain.Event, who domain.Actor) (unread uint64) {
	var mark uint64
	var end uint64 = 1 << 62
	for _, e := range events {
		switch e := e.(type) {
		case chat.ReadMarked:
			if e.Reader == who {
				mark = max(mark, e.Seq)
			}
		case chat.MemberLeft:
			if e.Member == who {
				end = e.Seq
			}
		}
	}
	for _, e := range events {
		if m, ok := e.(chat.MessagePosted); ok && m.Sender != who && m.Seq > mark && m.Seq <= end {
			unread++
		}
	}
	return unread
}

func TestUnreadIsExactWhateverTheOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events := history(t, 150)
		whole, messages, err := fold(chatrooms.Projection(), events...)
		if err != nil {
			t.Fatal(err)
		}
		view, kept, err := fold(chatrooms.View(), events...)
		if err != nil {
			t.Fatal(err)
		}
		for _, who := range []domain.Actor{customer, salon} {
			want := recount(events, who)
			own, _ := whole.Sides(string(who.Role))
			if got, ok := own.Unread(); got != want || !ok {
				t.Fatalf("%s has %d unread, counted %d", who.Role, got, want)
			}
			own, _ = view.Sides(string(who.Role))
			if got, ok := own.Unread(); ok && got != want {
				t.Fatalf("the view says that %s has %d unread, counted %d", who.Role, got, want)
			}
		}
		if diff := gocmp.Diff(messages[max(0, len(messages)-chatrooms.Kept):], kept); diff != "" {
			t.Fatalf("the view keeps other messages than the latest (-tables +view)\n%s", diff)
		}
		unknown := strings.Contains(fmt.Sprint(view.Customer, view.Groomer), "-1")
		if !unknown && !gocmp.Equal(whole, view) {
			t.Fatalf("(-tables +view)\n%s", gocmp.Diff(whole, view))
		}
	})
}

func TestAViewSaysWhenAMarkIsFurtherBackThanItKnows(t *testing.T) {
	t.Parallel()
	events := []domain.Event{opened}
	for seq := range uint64(chatrooms.Kept + 10) {
		events = append(events, post(seq+1, salon))
	}
	for mark, known := range map[uint64]bool{10: false, 11: true, chatrooms.Kept + 10: true} {
		got, _, err := fold(chatrooms.View(), append(events[:len(events):len(events)], read(mark, customer))...)
		if err != nil {
			t.Fatal(err)
		}
		n, ok := got.Customer.Unread()
		if ok != known || ok && n != chatrooms.Kept+10-mark {
			t.Errorf("mark at %d: %d unread, known: %t", mark, n, ok)
		}
	}
	again, _, err := fold(chatrooms.View(), append(events[:len(events):len(events)], read(5, customer), read(40, customer))...)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := again.Customer.Unread(); !ok || n != chatrooms.Kept+10-40 {
		t.Errorf("the next mark within reach makes it known again: %d, %t", n, ok)
	}
}
