// Package chat decides what may happen in one room: who may post, in which order messages stand, how far a member
// has read.
//
// A Room and a ReadMark are plain values folded from their events. Pure, as all of domain: no clock, no I/O. Both are
// of constant size, however long the talk: a room knows how many messages it has, never which.
//
// A room exists from its reservation on, its events only from the first post on. Until then its members are whom the
// caller names, who knows the reservation; from then on the room itself decides.
package chat

import (
	"unicode/utf8"

	"github.com/dangdangsalon/salon/domain"
)

// FoldVersion names what the folds make of a history, as groomer.FoldVersion does.
const FoldVersion = 1

// The refusals of a room. Who is no member learns nothing, not even that there is a room.
var (
	ErrRoomUnknown = domain.Refuse("room.unknown", "there is no such room")
	ErrRoomLeft    = domain.Refuse("room.left", "you left this room")
)

// maxClientMessageID is what its column holds, with room to spare.
const maxClientMessageID = 128

// Members are the two who talk. The zero value is nobody: a reservation that there is not.
type Members struct {
	CustomerID string `json:"customer_id"`
	GroomerID  string `json:"groomer_id"`
}

func (m Members) has(a domain.Actor) bool {
	switch a.Role {
	case domain.Customer:
		return a.ID != "" && a.ID == m.CustomerID
	case domain.Groomer:
		return a.ID != "" && a.ID == m.GroomerID
	}
	return false
}

// Room is one room's state. The zero value is one that nobody has posted in.
type Room struct {
	RoomID       string  `json:"room_id"` // "" until opened
	Members      Members `json:"members"`
	Seq          uint64  `json:"seq"` // of the last message; 0 for none
	CustomerLeft Left    `json:"customer_left"`
	GroomerLeft  Left    `json:"groomer_left"`
}

// Left is whether a member left, and the last message they may read.
type Left struct {
	Gone bool   `json:"gone"`
	Seq  uint64 `json:"seq"`
}

// Evolve folds a fact into the state. It never fails and never validates.
func Evolve(r Room, f domain.Fact) Room {
	switch e := f.Event.(type) {
	case Opened:
		r.RoomID, r.Members = e.RoomID, Members{e.CustomerID, e.GroomerID}
	case MessagePosted:
		r.Seq = e.Seq
	case MemberLeft:
		if e.Member.Role == domain.Customer {
			r.CustomerLeft = Left{true, e.Seq}
		} else {
			r.GroomerLeft = Left{true, e.Seq}
		}
	}
	return r
}

// Rewind gives the room right after a fact of its own, out of what it became since. ok is false when that cannot be told: of
// two who left with no message in between, it does not tell who was first.
func Rewind(now Room, f domain.Fact) (then Room, ok bool) {
	then = Room{RoomID: now.RoomID, Members: now.Members}
	switch e := f.Event.(type) {
	case Opened:
		return then, true
	case MessagePosted:
		then.Seq = e.Seq
	case MemberLeft:
		if now.CustomerLeft.Gone && now.GroomerLeft.Gone && now.CustomerLeft.Seq == now.GroomerLeft.Seq {
			return Room{}, false
		}
		then = Evolve(then, f)
		then.Seq = e.Seq
	default:
		return Room{}, false
	}
	// Who had left before message n read to n-1 at most.
	if now.CustomerLeft.Gone && now.CustomerLeft.Seq < then.Seq {
		then.CustomerLeft = now.CustomerLeft
	}
	if now.GroomerLeft.Gone && now.GroomerLeft.Seq < then.Seq {
		then.GroomerLeft = now.GroomerLeft
	}
	return then, true
}

// Message is what a member posts: a text or an image, sealed under the sender's key.
type Message struct {
	ClientMessageID string // the sender's own; a post is known by it, also when it is sent again
	Text            domain.Sealed
	ImageURL        domain.Sealed
}

// Post gives the message the room's next seq. The first one opens the room, with the members that the caller names;
// later ones pass whatever was named.
func (r Room) Post(roomID string, members Members, by domain.Actor, m Message) ([]domain.Event, error) {
	opening, r, err := r.enter(roomID, members, by)
	if err != nil {
		return nil, err
	}
	if r.leaving(by).Gone {
		return nil, ErrRoomLeft
	}
	if n := utf8.RuneCountInString(m.ClientMessageID); n < 1 || n > maxClientMessageID {
		return nil, domain.Refuse("request.invalid", "client_message_id: want 1 to %d characters", maxClientMessageID)
	}
	if m.Text.IsZero() == m.ImageURL.IsZero() {
		return nil, domain.Refuse("request.invalid", "want either text or image_url")
	}
	return append(opening, MessagePosted{
		RoomID: roomID, Seq: r.Seq + 1, Sender: by, ClientMessageID: m.ClientMessageID, Text: m.Text, ImageURL: m.ImageURL,
	}), nil
}

// Leave ends a member's part: they read what was there until then, and post no more. Leaving again is a success. A room
// without messages is opened by it, or it would forget.
func (r Room) Leave(roomID string, members Members, by domain.Actor) ([]domain.Event, error) {
	opening, r, err := r.enter(roomID, members, by)
	if err != nil {
		return nil, err
	}
	if r.leaving(by).Gone {
		return nil, nil
	}
	return append(opening, MemberLeft{RoomID: roomID, Member: by, Seq: r.Seq}), nil
}

// Head is the last message that a member may read, 0 when there is none.
func (r Room) Head(roomID string, members Members, by domain.Actor) (uint64, error) {
	_, r, err := r.enter(roomID, members, by)
	if err != nil {
		return 0, err
	}
	if l := r.leaving(by); l.Gone {
		return l.Seq, nil
	}
	return r.Seq, nil
}

// enter is the room for one of its members, and the event that opens it when nothing has.
func (r Room) enter(roomID string, members Members, by domain.Actor) ([]domain.Event, Room, error) {
	var opening []domain.Event
	if r.RoomID == "" {
		e := Opened{RoomID: roomID, CustomerID: members.CustomerID, GroomerID: members.GroomerID}
		opening, r = []domain.Event{e}, Evolve(r, domain.Fact{Event: e})
	}
	if roomID == "" || r.RoomID != roomID || !r.Members.has(by) {
		return nil, r, ErrRoomUnknown
	}
	return opening, r, nil
}

func (r Room) leaving(a domain.Actor) Left {
	if a.Role == domain.Customer {
		return r.CustomerLeft
	}
	return r.GroomerLeft
}
