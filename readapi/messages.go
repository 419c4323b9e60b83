package readapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// Message is one message of a room.
type Message struct {
	RoomID          string    `json:"room_id"`
	Seq             uint64    `json:"seq" doc:"1, 2, 3… over the room's messages"`
	Sender          Person    `json:"sender"`
	ClientMessageID string    `json:"client_message_id"`
	Text            *string   `json:"text,omitempty"`
	ImageURL        *string   `json:"image_url,omitempty"`
	SentAt          time.Time `json:"sent_at"`
	Erased          []string  `json:"erased,omitempty" doc:"text or image_url, when its sender had it erased"`
	Parked          bool      `json:"parked,omitzero" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

// Messages is a page of a room's messages, and where the room stands.
type Messages struct {
	Page[Message]
	HeadSeq    uint64 `json:"head_seq" doc:"The last message that the caller may read; 0: none"`
	Unread     uint64 `json:"unread" doc:"How many of the other side's messages the caller has not read"`
	ReadSeq    uint64 `json:"read_seq" doc:"How far the other side has read"`
	OwnReadSeq uint64 `json:"own_read_seq" doc:"How far the caller has read"`
	Parked     bool   `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

type messagesInput struct {
	ReadHeaders
	Paging
	RoomID string      `path:"room_id"`
	Before int64       `query:"before" minimum:"1" doc:"Messages before this seq, the latest of them"`
	After  optionalSeq `query:"after" minimum:"0" doc:"Messages after this seq, the earliest of them"`
}

// optionalSeq tells a 0 from none.
type optionalSeq struct {
	Value int64
	Given bool
}

func (o optionalSeq) Schema(r huma.Registry) *huma.Schema {
	return huma.SchemaFromType(r, reflect.TypeFor[int64]())
}
func (o *optionalSeq) Receiver() reflect.Value      { return reflect.ValueOf(o).Elem().Field(0) }
func (o *optionalSeq) OnParamSet(given bool, _ any) { o.Given = given }

func (s screens) registerChat(api huma.API) {
	huma.Register(api, operation("list-rooms", "/v1/chat/rooms", "The caller's chat rooms, latest activity first",
		"customer", "groomer"), s.listRooms)
	huma.Register(api, operation("list-messages", "/v1/chat/rooms/{room_id}/messages",
		"A room's messages, in their order: the latest, or those before or after one", "customer", "groomer"), s.listMessages)
}

// errNotInView says that a view is right but holds too little for this answer.
var errNotInView = errors.New("not in the view")

func (s screens) listMessages(ctx context.Context, in *messagesInput) (*answer[Messages], error) {
	if !reservationID.MatchString(in.RoomID) {
		return nil, unknownRoom()
	}
	at, err := in.seqs()
	if err != nil {
		return nil, err
	}
	c := conversation{id: caller(ctx), seqs: at, limit: int64(in.Limit)}
	tables := func(ctx context.Context, snap Snapshot) error { return c.fromTables(ctx, snap, in.RoomID) }
	err = s.ReadView(ctx, in.ReadHeaders, s.Rooms, chatrooms.Topic, in.RoomID, c.fromView,
		[]engine.Projection{chatrooms.Projection()}, tables)
	if errors.Is(err, errNotInView) {
		err = s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{chatrooms.Projection()}, Keys: []string{in.RoomID}}, tables)
	}
	if err == nil && !c.found {
		err = s.silentRoom(ctx, in, &c)
	}
	if err != nil {
		return nil, err
	}
	var out answer[Messages]
	out.note(c.parked)
	out.Body, err = c.page(func(m chatrooms.Message) (Message, error) {
		item, err := s.message(ctx, m)
		item.Parked = c.parked
		return item, err
	})
	out.Body.Parked = c.parked
	return &out, err
}

// silentRoom finds a room in which nobody has posted yet: only its reservation knows its members.
func (s screens) silentRoom(ctx context.Context, in *messagesInput, c *conversation) error {
	salon := reservationID.FindStringSubmatch(in.RoomID)[1]
	return s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{reservations.Projection()}, Keys: []string{salon}},
		func(ctx context.Context, snap Snapshot) error {
			rows, err := engine.Query(ctx, snap, reservations.Table, snap.Version("reservations"), "WHERE reservation_id = ?", in.RoomID)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				return unknownRoom()
			}
			c.parked = c.parked || snap.Parked("reservations")[salon]
			return c.enter(silent(rows[0]))
		})
}

// silent is a room as its reservation made it.
func silent(r reservations.Row) chatrooms.Room {
	return chatrooms.Room{RoomID: r.ReservationID, CustomerID: r.CustomerID, GroomerID: r.GroomerID, LastAt: r.CreatedAt}
}

func unknownRoom() error {
	return problem.New(http.StatusNotFound, "room.unknown", "there is no such room of yours")
}

// isMember tells whether a room is the caller's. An admin is no member.
func isMember(id auth.Identity, customerID, groomerID string) bool {
	return id.Role != "admin" && isParty(id, customerID, groomerID)
}

// conversation is a room as one member sees it, and the page of its messages that was asked for.
type conversation struct {
	id    auth.Identity
	seqs  seqs
	limit int64

	found    bool
	parked   bool
	room     chatrooms.Room
	messages []chatrooms.Message // in their order
}

// enter notes the room, if it is the caller's.
func (c *conversation) enter(r chatrooms.Room) error {
	if !isMember(c.id, r.CustomerID, r.GroomerID) {
		return unknownRoom()
	}
	c.found, c.room = true, r
	return nil
}

func (c *conversation) span() span {
	own, _ := c.room.Sides(c.id.Role)
	return c.seqs.span(int64(own.End(c.room.LastSeq)), c.limit) //nolint:gosec // seqs stay below 2^63
}

func (c *conversation) fromView(rows engine.ViewRows) error {
	rooms, err := engine.ViewTable(rows, chatrooms.Rooms)
	if err != nil {
		return err
	}
	if len(rooms) == 0 {
		return nil
	}
	if err := c.enter(rooms[0]); err != nil {
		return err
	}
	own, _ := c.room.Sides(c.id.Role)
	if _, known := own.Unread(); !known {
		return errNotInView
	}
	kept, err := engine.ViewTable(rows, chatrooms.Messages)
	if err != nil {
		return err
	}
	bySeq := make(map[uint64]chatrooms.Message, len(kept))
	for _, m := range kept {
		bySeq[m.Seq] = m
	}
	p := c.span()
	c.messages = nil
	for seq := p.first; seq <= p.last; seq++ {
		m, ok := bySeq[uint64(seq)] //nolint:gosec // from 1
		if !ok {
			return errNotInView
		}
		c.messages = append(c.messages, m)
	}
	return nil
}

func (c *conversation) fromTables(ctx context.Context, snap Snapshot, roomID string) error {
	c.parked = snap.Parked("chatrooms")[roomID]
	version := snap.Version("chatrooms")
	rooms, err := engine.Query(ctx, snap, chatrooms.Rooms, version, "WHERE room_id = ?", roomID)
	if err != nil || len(rooms) == 0 {
		return err
	}
	if err := c.enter(rooms[0]); err != nil {
		return err
	}
	p := c.span()
	c.messages, err = engine.Query(ctx, snap, chatrooms.Messages, version,
		"WHERE room_id = ? AND seq BETWEEN ? AND ? ORDER BY seq", roomID, p.first, p.last)
	return err
}

func (c *conversation) page(open func(chatrooms.Message) (Message, error)) (Messages, error) {
	own, other := c.room.Sides(c.id.Role)
	end := own.End(c.room.LastSeq)
	unread, _ := own.Unread()
	out := Messages{
		Page:       Page[Message]{Items: []Message{}},
		HeadSeq:    end,
		Unread:     unread,
		ReadSeq:    min(other.ReadSeq, end),
		OwnReadSeq: own.ReadSeq,
	}
	if next := c.span().next; next != nil {
		cursor := encodeCursor(next)
		out.NextCursor = &cursor
	}
	for _, m := range c.messages {
		item, err := open(m)
		if err != nil {
			return out, err
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

func (s screens) message(ctx context.Context, r chatrooms.Message) (Message, error) {
	return OpenMessage(ctx, s.Texts, r)
}

// OpenMessage shows a row to a member: its text opened, or named as erased.
func OpenMessage(ctx context.Context, texts Texts, r chatrooms.Message) (Message, error) {
	o := opening{ctx: ctx, texts: texts}
	return Message{
		RoomID:          r.RoomID,
		Seq:             r.Seq,
		Sender:          Person{r.SenderID, r.SenderRole},
		ClientMessageID: r.ClientID,
		Text:            o.open(r.Text, "text"),
		ImageURL:        o.open(r.ImageURL, "image_url"),
		SentAt:          r.SentAt,
		Erased:          o.erased,
	}, o.err
}

// seqs is where a page of messages lies: before one, after one, or between two. Going up it begins at the lower end,
// going down at the upper one.
type seqs struct {
	After  int64 `json:"a,omitempty"`
	Before int64 `json:"b,omitempty"` // 0: no end
	Up     bool  `json:"u,omitempty"`
}

func (in *messagesInput) seqs() (seqs, error) {
	at := seqs{in.After.Value, in.Before, in.After.Given}
	if more, err := decodeCursor(in.Cursor, &at); err != nil || more && (at.After < 0 || at.Before < 0) {
		return at, badCursor()
	}
	return at, nil
}

// span is a page: first to last, empty when first > last; next continues it, nil at the end. Seqs have no holes.
type span struct {
	first, last int64
	next        *seqs
}

func (s seqs) span(end, limit int64) span {
	p := span{first: min(s.After, end) + 1, last: end}
	if s.Before > 0 {
		p.last = min(s.Before-1, end)
	}
	switch {
	case p.last-p.first < limit:
	case s.Up:
		p.last = p.first + limit - 1
		p.next = &seqs{p.last, s.Before, true}
	default:
		p.first = p.last - limit + 1
		p.next = &seqs{s.After, p.first, false}
	}
	return p
}
