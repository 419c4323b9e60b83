package chat

import "github.com/dangdangsalon/salon/domain"

// Catalog lists a zero value of every event type of the chat streams.
func Catalog() []domain.Event {
	return []domain.Event{Opened{}, MessagePosted{}, MemberLeft{}, ReadMarked{}}
}

// Opened starts a room with its two members. It is appended together with the first message.
type Opened struct {
	RoomID     string `json:"room_id"` // the reservation's ID
	CustomerID string `json:"customer_id"`
	GroomerID  string `json:"groomer_id"`
}

// MessagePosted is one message. Seq is 1, 2, 3… over the room's messages, without holes. Either Text or ImageURL is
// given, sealed under the sender's key.
type MessagePosted struct {
	RoomID          string        `json:"room_id"`
	Seq             uint64        `json:"seq"`
	Sender          domain.Actor  `json:"sender"`
	ClientMessageID string        `json:"client_message_id"`
	Text            domain.Sealed `json:"text,omitzero"`
	ImageURL        domain.Sealed `json:"image_url,omitzero"`
}

// MemberLeft ends a member's part in a room: they read what was there until then (Seq), and post no more.
type MemberLeft struct {
	RoomID string       `json:"room_id"`
	Member domain.Actor `json:"member"`
	Seq    uint64       `json:"seq"` // the last message they may read
}

// ReadMarked moves a member's read mark forward. It stands in the member's own stream, chatread-{room}-{role}.
type ReadMarked struct {
	RoomID string       `json:"room_id"`
	Reader domain.Actor `json:"reader"`
	Seq    uint64       `json:"seq"`
}

func (Opened) EventType() string        { return "chat.opened.v1" }
func (MessagePosted) EventType() string { return "chat.message_posted.v1" }
func (MemberLeft) EventType() string    { return "chat.left.v1" }
func (ReadMarked) EventType() string    { return "chat.read_marked.v1" }
