package chat

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
)

var (
	ana = domain.Actor{ID: "ana", Role: domain.Customer}
	kim = domain.Actor{ID: "kim", Role: domain.Groomer}

	both  = Members{CustomerID: "ana", GroomerID: "kim"}
	text  = domain.Sealed{Subject: "customer:ana", KeyID: "k1", Cipher: []byte("hello")}
	image = domain.Sealed{Subject: "customer:ana", KeyID: "k1", Cipher: []byte("https://")}

	invalidRequest = domain.Refuse("request.invalid", "")

	opened = Opened{RoomID: "r1", CustomerID: "ana", GroomerID: "kim"}
)

func fold(history []domain.Event) Room {
	var r Room
	for i, e := range history {
		r = Evolve(r, domain.Fact{Event: e, Revision: uint64(i)})
	}
	return r
}

func posted(seq uint64, by domain.Actor, id string) MessagePosted {
	return MessagePosted{RoomID: "r1", Seq: seq, Sender: by, ClientMessageID: id, Text: text}
}

func left(by domain.Actor, seq uint64) MemberLeft {
	return MemberLeft{RoomID: "r1", Member: by, Seq: seq}
}

func TestRoom(t *testing.T) {
	t.Parallel()
	post := func(by domain.Actor, id string) func(Room) ([]domain.Event, error) {
		return func(r Room) ([]domain.Event, error) {
			return r.Post("r1", both, by, Message{ClientMessageID: id, Text: text})
		}
	}
	say := func(m Message) func(Room) ([]domain.Event, error) {
		return func(r Room) ([]domain.Event, error) { return r.Post("r1", both, ana, m) }
	}
	leave := func(by domain.Actor) func(Room) ([]domain.Event, error) {
		return func(r Room) ([]domain.Event, error) { return r.Leave("r1", both, by) }
	}
	two := []domain.Event{opened, posted(1, ana, "a"), posted(2, kim, "b")}
	for _, c := range []struct {
		name    string
		given   []domain.Event
		when    func(Room) ([]domain.Event, error)
		want    []domain.Event
		refused error
	}{
		{"the first message opens the room", nil, post(ana, "a"), []domain.Event{opened, posted(1, ana, "a")}, nil},
		{"the groomer may be first", nil, post(kim, "a"), []domain.Event{opened, posted(1, kim, "a")}, nil},
		{"later ones count on", two, post(ana, "c"), []domain.Event{posted(3, ana, "c")}, nil},
		{"who left is not counted", []domain.Event{opened, posted(1, ana, "a"), left(kim, 1)}, post(ana, "c"), []domain.Event{posted(2, ana, "c")}, nil},
		{"an image is a message", nil, say(Message{ClientMessageID: "a", ImageURL: image}),
			[]domain.Event{opened, MessagePosted{RoomID: "r1", Seq: 1, Sender: ana, ClientMessageID: "a", ImageURL: image}}, nil},
		{"a stranger learns nothing", two, post(domain.Actor{ID: "ben", Role: domain.Customer}, "a"), nil, ErrRoomUnknown},
		{"customer kim is not groomer kim", two, post(domain.Actor{ID: "kim", Role: domain.Customer}, "a"), nil, ErrRoomUnknown},
		{"groomer ana is not customer ana", two, post(domain.Actor{ID: "ana", Role: domain.Groomer}, "a"), nil, ErrRoomUnknown},
		{"an admin is no member", two, post(domain.Actor{ID: "ana", Role: domain.Admin}, "a"), nil, ErrRoomUnknown},
		{"an open room does not believe the caller's members", two, func(r Room) ([]domain.Event, error) {
			return r.Post("r1", Members{CustomerID: "ben", GroomerID: "kim"}, domain.Actor{ID: "ben", Role: domain.Customer}, Message{ClientMessageID: "a", Text: text})
		}, nil, ErrRoomUnknown},
		{"a room of no reservation is unknown", nil, func(r Room) ([]domain.Event, error) {
			return r.Post("r1", Members{}, domain.Actor{Role: domain.Customer}, Message{ClientMessageID: "a", Text: text})
		}, nil, ErrRoomUnknown},
		{"another room's ID is unknown here", two, func(r Room) ([]domain.Event, error) {
			return r.Post("r2", both, ana, Message{ClientMessageID: "a", Text: text})
		}, nil, ErrRoomUnknown},
		{"neither text nor image is malformed", nil, say(Message{ClientMessageID: "a"}), nil, invalidRequest},
		{"text and image at once is malformed", nil, say(Message{ClientMessageID: "a", Text: text, ImageURL: image}), nil, invalidRequest},
		{"no client message ID is malformed", nil, say(Message{Text: text}), nil, invalidRequest},
		{"a long client message ID is malformed", nil, say(Message{ClientMessageID: strings.Repeat("개", 129), Text: text}), nil, invalidRequest},

		{"leaving notes what may still be read", two, leave(kim), []domain.Event{left(kim, 2)}, nil},
		{"leaving twice is a success", append(two, left(kim, 2)), leave(kim), nil, nil},
		{"leaving an empty room opens it", nil, leave(kim), []domain.Event{opened, left(kim, 0)}, nil},
		{"who left posts no more", append(two, left(kim, 2)), post(kim, "c"), nil, ErrRoomLeft},
		{"the other one still may", append(two, left(kim, 2)), post(ana, "c"), []domain.Event{posted(3, ana, "c")}, nil},
		{"a stranger cannot leave", two, leave(domain.Actor{ID: "ben", Role: domain.Customer}), nil, ErrRoomUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.when(fold(c.given))
			if !errors.Is(err, c.refused) || err != nil && c.refused == nil {
				t.Fatalf("refused with %v, want %v", err, c.refused)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestReadMark(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		at        uint64
		seq, head uint64
		want      []domain.Event
		refused   error
	}{
		{"it moves forward", 3, 5, 9, []domain.Event{ReadMarked{RoomID: "r1", Reader: ana, Seq: 5}}, nil},
		{"up to the end", 3, 9, 9, []domain.Event{ReadMarked{RoomID: "r1", Reader: ana, Seq: 9}}, nil},
		{"it never goes back", 3, 2, 9, nil, nil},
		{"where it is already it stays", 3, 3, 9, nil, nil},
		{"nothing read is nothing", 0, 0, 0, nil, nil},
		{"what was not posted cannot be read", 3, 10, 9, nil, invalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := EvolveRead(ReadMark{}, domain.Fact{Event: ReadMarked{Seq: c.at}})
			got, err := m.Mark("r1", ana, c.seq, c.head)
			if !errors.Is(err, c.refused) || err != nil && c.refused == nil {
				t.Fatalf("refused with %v, want %v", err, c.refused)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	r := fold([]domain.Event{opened, posted(1, ana, "a"), left(kim, 1), posted(2, ana, "b")})
	for by, want := range map[domain.Actor]uint64{ana: 2, kim: 1} {
		if got, err := r.Head("r1", both, by); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", by.Subject(), got, err, want)
		}
	}
	if got, err := (Room{}).Head("r1", both, ana); err != nil || got != 0 {
		t.Errorf("nothing posted: got %d, %v", got, err)
	}
	if _, err := r.Head("r1", both, domain.Actor{ID: "ben", Role: domain.Customer}); !errors.Is(err, ErrRoomUnknown) {
		t.Errorf("a stranger: %v", err)
	}
}

// TestMessagesAreNumberedWithoutHoles over any talk, with strangers and leaving; refusals leave no trace, and the state
// stays as small as it was.
func TestMessagesAreNumberedWithoutHoles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		who := []domain.Actor{ana, kim, {ID: "ben", Role: domain.Customer}, {ID: "kim", Role: domain.Customer}}
		var history []domain.Event
		var r Room
		var last uint64
		gone := map[domain.Actor]uint64{}
		for range rapid.SampledFrom([]int{5, 50, 200}).Draw(t, "steps") {
			by := rapid.SampledFrom(who).Draw(t, "by")
			var events []domain.Event
			var err error
			leaving := rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1}).Draw(t, "leave") == 1
			if leaving {
				events, err = r.Leave("r1", both, by)
			} else {
				events, err = r.Post("r1", both, by, Message{ClientMessageID: "m", Text: text})
			}
			_, left := gone[by]
			switch {
			case by != ana && by != kim:
				if !errors.Is(err, ErrRoomUnknown) {
					t.Fatalf("a stranger got %v", err)
				}
			case left && !leaving:
				if !errors.Is(err, ErrRoomLeft) {
					t.Fatalf("who left got %v", err)
				}
			case err != nil:
				t.Fatal(err)
			}
			if err != nil && len(events) > 0 {
				t.Fatalf("refused with %d events", len(events))
			}
			for _, e := range events {
				switch e := e.(type) {
				case MessagePosted:
					if e.Seq != last+1 {
						t.Fatalf("message %d after %d", e.Seq, last)
					}
					last = e.Seq
				case MemberLeft:
					gone[by] = e.Seq
				}
				history = append(history, e)
				r = Evolve(r, domain.Fact{Event: e})
			}
		}
		if diff := cmp.Diff(r, fold(history)); diff != "" {
			t.Fatalf("replay (-live +replay)\n%s", diff)
		}
		for n := range history {
			then, ok := Rewind(r, domain.Fact{Event: history[n]})
			if want := fold(history[:n+1]); ok && then != want {
				t.Fatalf("rewound to event %d (-want +got)\n%s", n, cmp.Diff(want, then))
			}
			if _, leaving := history[n].(MemberLeft); !ok && (!leaving || len(gone) != 2 || gone[ana] != gone[kim]) {
				t.Fatalf("event %d, %T, cannot be rewound to", n, history[n])
			}
		}
		for by, seq := range gone {
			if head, err := r.Head("r1", both, by); err != nil || head != seq {
				t.Fatalf("%s left at %d and reads to %d, %v", by.Subject(), seq, head, err)
			}
		}
		if b, err := json.Marshal(r); err != nil || len(b) > 256 {
			t.Fatalf("the state of %d messages takes %d bytes, %v", last, len(b), err)
		}
	})
}

// TestTheFoldIsItsVersion pins what a snapshot of a room looks like: another look is another FoldVersion.
func TestTheFoldIsItsVersion(t *testing.T) {
	t.Parallel()
	r := fold([]domain.Event{opened, posted(1, ana, "a"), posted(2, kim, "b"), left(kim, 2), posted(3, ana, "c")})
	mark := EvolveRead(ReadMark{}, domain.Fact{Event: ReadMarked{RoomID: "r1", Reader: ana, Seq: 3}})
	got, err := json.Marshal(map[string]any{"room": r, "mark": mark})
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]string{
		1: `{"mark":{"seq":3},"room":{"room_id":"r1","members":{"customer_id":"ana","groomer_id":"kim"},"seq":3,"customer_left":{"gone":false,"seq":0},"groomer_left":{"gone":true,"seq":2}}}`,
	}
	if diff := cmp.Diff(want[FoldVersion], string(got)); diff != "" {
		t.Errorf("if that is meant, raise FoldVersion and add its line (-want +got)\n%s", diff)
	}
}
