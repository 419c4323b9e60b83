package chatrooms

import (
	"fmt"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// Change is one event of a room as those read it who follow the log or the store themselves, without rows: the live
// gateway. At most one of the fields below Room is set; none is for an event that shows nobody anything.
type Change struct {
	Room string
	// Revision is of the room's own stream, which holds whatever decides who may read what; -1 of a read mark, which stands
	// in another.
	Revision int64
	Message  *Message // without the counts of a row: FromCustomer and FromGroomer are 0
	Read     *Mark    // a member has read up to and with Seq
	Left     *Mark    // a member left, and may read up to and with Seq
}

// Mark is a place in a room that a member stands for.
type Mark struct {
	ID, Role string // of the member
	Seq      uint64
}

// Changes reads changes from records of the topic.
func Changes(codec *eventstore.Codec) func(wire.Record) (Change, error) {
	return func(r wire.Record) (Change, error) { return ChangeOf(codec, r.Event) }
}

// ChangeOf reads a stored event of a room.
func ChangeOf(codec *eventstore.Codec, r eventstore.Recorded) (Change, error) {
	c := Change{Room: r.Key, Revision: int64(r.Revision)}
	e, err := codec.Decode(r.Type, r.Data)
	if err != nil {
		return c, fmt.Errorf("event %s of room %s: %w", r.ID, r.Key, err)
	}
	switch e := e.(type) {
	case chat.MessagePosted:
		c.Message = &Message{
			RoomID: r.Key, Seq: e.Seq, SenderID: e.Sender.ID, SenderRole: string(e.Sender.Role), ClientID: e.ClientMessageID,
			Text: e.Text, ImageURL: e.ImageURL, SentAt: r.RecordedAt,
		}
	case chat.ReadMarked:
		c.Read, c.Revision = mark(e.Reader, e.Seq), -1
	case chat.MemberLeft:
		c.Left = mark(e.Member, e.Seq)
	}
	return c, nil
}

func mark(a domain.Actor, seq uint64) *Mark { return &Mark{ID: a.ID, Role: string(a.Role), Seq: seq} }
