// Package chatrooms is the read model behind chat: one row per room with each side's unread count, one per message.
//
// Unread counts are exact, however posts and read marks interleave: each message row carries how many messages each
// side had posted through it, so a mark at seq r leaves (all that the other posted) − (what the other had posted at r).
// Who left has no unread messages beyond what was there then. Texts stay sealed; the screens open them.
//
// The Redis twin keeps the latest [Kept] messages of a room. It does not know what a mark further back has read, and
// says so (see [Side.Unread]); the tables behind it do.
package chatrooms

import (
	"fmt"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Version of the folds and of the tables below.
const Version = 1

// Topic is what the projections read.
const Topic = wire.ChatTopic

// Kept is how many messages of a room the view keeps: a full page of history behind what is on a screen.
const Kept = 50

// Room is a room from its first event on. A room without messages may have no row.
type Room struct {
	RoomID         string        `db:"room_id,pk"` // the reservation's ID
	CustomerID     string        `db:"customer_id"`
	GroomerID      string        `db:"groomer_id"`
	LastSeq        uint64        `db:"last_seq"` // 0: no message yet
	LastSenderID   string        `db:"last_sender_id"`
	LastSenderRole string        `db:"last_sender_role"`
	LastClientID   string        `db:"last_client_message_id,text"`
	LastText       domain.Sealed `db:"last_text"`
	LastImageURL   domain.Sealed `db:"last_image_url"`
	LastAt         time.Time     `db:"last_at"` // when the last message was sent; before the first, when the room was opened
	Customer       Side          `db:"customer_side"`
	Groomer        Side          `db:"groomer_side"`
}

// Side is where one member stands in a room.
type Side struct {
	Sent     uint64 `json:"sent"`     // messages by this side
	Received uint64 `json:"received"` // messages by the other side that this one may read
	Read     int64  `json:"read"`     // of those, how many stand at or before ReadSeq; notKnown in a view
	ReadSeq  uint64 `json:"read_seq"`
	Left     bool   `json:"left"`
	LeftSeq  uint64 `json:"left_seq"` // the last message this side may read, when it left
}

const notKnown = -1

// Unread is how many messages by the other side this one has not read; ok is false when a view cannot tell.
func (s Side) Unread() (n uint64, ok bool) {
	if s.Read == notKnown {
		return 0, false
	}
	return s.Received - uint64(s.Read), true //nolint:gosec // not negative: it is not notKnown
}

// Sides gives a member's own side and the other's.
func (r Room) Sides(role string) (own, other Side) {
	if role == string(domain.Groomer) {
		return r.Groomer, r.Customer
	}
	return r.Customer, r.Groomer
}

// Last is the last message; ok is false when there is none.
func (r Room) Last() (m Message, ok bool) {
	return Message{
		RoomID: r.RoomID, Seq: r.LastSeq, SenderID: r.LastSenderID, SenderRole: r.LastSenderRole, ClientID: r.LastClientID,
		Text: r.LastText, ImageURL: r.LastImageURL, SentAt: r.LastAt, FromCustomer: r.Customer.Sent, FromGroomer: r.Groomer.Sent,
	}, r.LastSeq > 0
}

// Message is one message.
type Message struct {
	RoomID       string        `db:"room_id,pk"`
	Seq          uint64        `db:"seq,pk"`
	SenderID     string        `db:"sender_id"`
	SenderRole   string        `db:"sender_role"`
	ClientID     string        `db:"client_message_id,text"`
	Text         domain.Sealed `db:"body"`
	ImageURL     domain.Sealed `db:"image_url"`
	SentAt       time.Time     `db:"sent_at"`
	FromCustomer uint64        `db:"from_customer"` // messages by the customer through this one
	FromGroomer  uint64        `db:"from_groomer"`
}

// The tables. The indexes are each member's list of rooms, newest activity first.
var (
	Rooms = engine.NewTable[Room]("chatrooms",
		engine.Index{Name: "by_customer", Columns: []string{"customer_id", "last_at", "room_id"}},
		engine.Index{Name: "by_groomer", Columns: []string{"groomer_id", "last_at", "room_id"}},
	)
	Messages = engine.NewTable[Message]("chat_messages")
)

// Projection is the fold into SQL, which keeps every message.
func Projection() engine.Projection {
	return engine.Projection{
		Name:    "chatrooms",
		Version: Version,
		Topics:  []string{Topic},
		Types:   chat.Catalog(),
		Tables:  []engine.AnyTable{Rooms, Messages},
		Keys:    keys,
		Fold:    folder{}.fold,
	}
}

// View is the fold into Redis, which keeps each room's latest messages.
func View() engine.Projection {
	p := Projection().InRedis("rooms")
	p.Fold = folder{keep: Kept}.fold
	p.Latest = map[*engine.Def]int{Messages.Def(): Kept}
	return p
}

func keys(e engine.Event) []engine.Ref {
	switch ev := e.Event.(type) {
	case chat.Opened, chat.MessagePosted, chat.MemberLeft:
		return []engine.Ref{Rooms.Ref(e.Key)}
	case chat.ReadMarked:
		return []engine.Ref{Rooms.Ref(e.Key), Messages.Ref(e.Key, ev.Seq)}
	}
	return nil
}

// folder folds; keep is how many messages of a room stay, 0 for all.
type folder struct{ keep uint64 }

func (f folder) fold(u *engine.Unit, e engine.Event) error {
	room, ok, err := Rooms.Get(u, e.Key)
	if err != nil {
		return err
	}
	if opened, first := e.Event.(chat.Opened); first {
		Rooms.Put(u, Room{RoomID: opened.RoomID, CustomerID: opened.CustomerID, GroomerID: opened.GroomerID, LastAt: e.At})
		return nil
	}
	if !ok {
		return fmt.Errorf("room %s was never opened", e.Key)
	}
	switch ev := e.Event.(type) {
	case chat.MessagePosted:
		err = f.post(u, &room, ev, e.At)
	case chat.ReadMarked:
		err = f.mark(u, &room, ev)
	case chat.MemberLeft:
		side := room.side(ev.Member)
		side.Left, side.LeftSeq = true, ev.Seq
	}
	if err != nil {
		return err
	}
	Rooms.Put(u, room)
	return nil
}

func (r *Room) side(member domain.Actor) *Side {
	if member.Role == domain.Groomer {
		return &r.Groomer
	}
	return &r.Customer
}

func (f folder) post(u *engine.Unit, room *Room, m chat.MessagePosted, at time.Time) error {
	if m.Seq != room.LastSeq+1 {
		return fmt.Errorf("message %d of room %s follows message %d", m.Seq, room.RoomID, room.LastSeq)
	}
	sender, receiver := &room.Customer, &room.Groomer
	if m.Sender.Role == domain.Groomer {
		sender, receiver = receiver, sender
	}
	sender.Sent++
	if !receiver.Left {
		receiver.Received++
	}
	row := Message{
		RoomID: room.RoomID, Seq: m.Seq, SenderID: m.Sender.ID, SenderRole: string(m.Sender.Role), ClientID: m.ClientMessageID,
		Text: m.Text, ImageURL: m.ImageURL, SentAt: at, FromCustomer: room.Customer.Sent, FromGroomer: room.Groomer.Sent,
	}
	room.LastSeq, room.LastAt = m.Seq, at
	room.LastSenderID, room.LastSenderRole, room.LastClientID = row.SenderID, row.SenderRole, row.ClientID
	room.LastText, room.LastImageURL = m.Text, m.ImageURL
	Messages.Put(u, row)
	if f.keep > 0 && m.Seq > f.keep {
		Messages.Delete(u, room.RoomID, m.Seq-f.keep)
	}
	return nil
}

func (f folder) mark(u *engine.Unit, room *Room, r chat.ReadMarked) error {
	side := room.side(r.Reader)
	if r.Seq <= side.ReadSeq {
		return nil // a mark never goes back
	}
	if end := side.End(room.LastSeq); r.Seq >= end {
		side.ReadSeq, side.Read = end, int64(side.Received) //nolint:gosec // a count of messages
		return nil
	}
	at, ok, err := Messages.Get(u, room.RoomID, r.Seq)
	if err != nil {
		return err
	}
	side.ReadSeq = r.Seq
	switch {
	case ok && r.Reader.Role == domain.Groomer:
		side.Read = int64(at.FromCustomer) //nolint:gosec // a count of messages
	case ok:
		side.Read = int64(at.FromGroomer) //nolint:gosec // a count of messages
	case f.keep > 0:
		side.Read = notKnown
	default:
		return fmt.Errorf("message %d of room %s is not there", r.Seq, room.RoomID)
	}
	return nil
}

// End is the last message that this side may read, of a room whose last message is last.
func (s Side) End(last uint64) uint64 {
	if s.Left {
		return min(s.LeftSeq, last)
	}
	return last
}
