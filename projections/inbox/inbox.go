// Package inbox is the read model behind notifications: who is told of what, one row per receiver and event.
//
// Told are the parties of a reservation and the members of a room, except the one who did it. A row holds kinds and
// facts, never a personal text; what a person reads is made of it at reading time, in their language (see [Row.Text]).
//
// A talk is one row per receiver and room, which stands where its newest message does: a row per message would bury
// everything else. It says that there is something to read; how much, the list of rooms knows exactly. It counts as
// read once its newest message was read in the room, or the inbox was read that far.
//
// A row belongs to the ordering key of its event: the groomer, the room, or for the read mark the person. Nothing here
// is ever deleted but what a fold no longer needs: an inbox grows with what its person took part in, and is paged.
package inbox

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/eventstore/wire"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Version of the fold and of the tables below.
const Version = 1

// The kinds of notifications.
const (
	Requested = "requested"
	Confirmed = "confirmed"
	Moved     = "moved"
	Declined  = "declined"
	Expired   = "expired"
	Cancelled = "cancelled"
	Reminder  = "reminder"
	Message   = "message"
)

// Row is one notification.
type Row struct {
	Item     string `db:"item,pk"`     // {groomer}@{revision} of an event in a groomer's book; of a talk, the room
	Receiver string `db:"receiver,pk"` // Actor.Subject, "customer:kim"
	// Position of the event in the store, of a talk of its newest message: what an inbox is in order of.
	Position      uint64    `db:"position"`
	Kind          string    `db:"kind"`
	ReservationID string    `db:"reservation_id"` // also the room's ID
	At            time.Time `db:"at"`
	StartAt       time.Time `db:"start_at"` // of the visit, from this event on; zero of a talk
	Zone          string    `db:"zone"`     // of the groomer, IANA; "" of a talk
	Dogs          int       `db:"dogs"`
	Seen          bool      `db:"seen"` // a talk: its newest message was read in the room
}

// Visit is what later events of an open reservation do not repeat.
type Visit struct {
	ReservationID string    `db:"reservation_id,pk"`
	CustomerID    string    `db:"customer_id"`
	StartAt       time.Time `db:"start_at"`
	Dogs          int       `db:"dogs"`
}

// Salon is what every notification of a groomer's book needs.
type Salon struct {
	GroomerID string `db:"groomer_id,pk"`
	Zone      string `db:"zone"`
}

// Talk is a room: who is in it, and which message of each is the last that the other has to read.
type Talk struct {
	RoomID       string `db:"room_id,pk"`
	CustomerID   string `db:"customer_id"`
	GroomerID    string `db:"groomer_id"`
	ByCustomer   uint64 `db:"by_customer"` // seq of the customer's last message
	ByGroomer    uint64 `db:"by_groomer"`
	CustomerLeft bool   `db:"customer_left"`
	GroomerLeft  bool   `db:"groomer_left"`
}

// Mark is how far a person has read.
type Mark struct {
	Receiver string `db:"receiver,pk"`
	Through  uint64 `db:"through"` // position
}

// The tables. The index is a person's inbox, newest first.
var (
	Table  = engine.NewTable[Row]("inbox", engine.Index{Name: "by_receiver", Columns: []string{"receiver", "position"}})
	Visits = engine.NewTable[Visit]("inbox_visits")
	Salons = engine.NewTable[Salon]("inbox_salons")
	Talks  = engine.NewTable[Talk]("inbox_talks")
	Marks  = engine.NewTable[Mark]("inbox_marks")
)

// Projection is the fold.
func Projection() engine.Projection {
	return engine.Projection{
		Name:    "inbox",
		Version: Version,
		Topics:  []string{wire.BookingTopic, wire.ChatTopic},
		Types: slices.Concat([]domain.Event{
			groomer.Registered{}, groomer.Requested{}, groomer.Confirmed{}, groomer.Declined{}, groomer.Expired{}, groomer.Cancelled{},
			groomer.Rescheduled{}, groomer.Reminded{}, groomer.Completed{}, groomer.NoShow{},
		}, chat.Catalog(), inbox.Catalog()),
		Tables: []engine.AnyTable{Table, Visits, Salons, Talks, Marks},
		Keys:   keys,
		Fold:   fold,
	}
}

// Item is what an event in a groomer's book is known by in the inboxes.
func Item(groomerID string, revision uint64) string {
	return groomerID + "@" + strconv.FormatUint(revision, 10)
}

func keys(e engine.Event) []engine.Ref {
	switch ev := e.Event.(type) {
	case groomer.Registered, groomer.Completed, groomer.NoShow, chat.Opened:
		return nil
	case chat.MessagePosted, chat.MemberLeft:
		return []engine.Ref{Talks.Ref(e.Key)}
	case chat.ReadMarked:
		return []engine.Ref{Talks.Ref(e.Key), Table.Ref(e.Key, ev.Reader.Subject())}
	case inbox.Read:
		return []engine.Ref{Marks.Ref(ev.Reader.Subject())}
	}
	return []engine.Ref{Salons.Ref(e.Key), Visits.Ref(groomer.About(e.Event))}
}

func fold(u *engine.Unit, e engine.Event) error {
	switch ev := e.Event.(type) {
	case groomer.Registered:
		Salons.Put(u, Salon{GroomerID: e.Key, Zone: ev.Zone})
	case groomer.Completed, groomer.NoShow: // the last of a visit, and nobody's news
		Visits.Delete(u, groomer.About(e.Event))
	case chat.Opened:
		Talks.Put(u, Talk{RoomID: e.Key, CustomerID: ev.CustomerID, GroomerID: ev.GroomerID})
	case chat.MessagePosted, chat.MemberLeft, chat.ReadMarked:
		return talked(u, e)
	case inbox.Read:
		return marked(u, ev)
	case groomer.Requested, groomer.Confirmed, groomer.Rescheduled, groomer.Reminded, groomer.Declined, groomer.Expired, groomer.Cancelled:
		return booked(u, e)
	}
	return nil
}

// booked is an event of a reservation: it tells the parties, and keeps or forgets what later ones need.
func booked(u *engine.Unit, e engine.Event) error {
	salon, ok, err := Salons.Get(u, e.Key)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("groomer %s was never registered", e.Key)
	}
	id := groomer.About(e.Event)
	visit, ok, err := Visits.Get(u, id)
	if err != nil {
		return err
	}
	requested, first := e.Event.(groomer.Requested)
	if !ok && !first {
		return fmt.Errorf("reservation %s was never requested, or is over", id)
	}
	var kind string
	var over bool
	switch ev := e.Event.(type) {
	case groomer.Requested:
		visit = Visit{ReservationID: id, CustomerID: ev.CustomerID, StartAt: ev.Start, Dogs: len(ev.Dogs)}
		kind = Requested
	case groomer.Confirmed:
		kind = Confirmed
	case groomer.Rescheduled:
		visit.StartAt, kind = ev.Start, Moved
	case groomer.Declined:
		kind, over = Declined, true
	case groomer.Expired:
		kind, over = Expired, true
	case groomer.Cancelled:
		kind, over = Cancelled, true
	case groomer.Reminded:
		kind = Reminder
	default:
		return fmt.Errorf("%s is not folded", e.Event.EventType())
	}
	if over {
		Visits.Delete(u, id)
	} else if kind == Requested || kind == Moved {
		Visits.Put(u, visit)
	}
	if first && requested.ExpiresAt.IsZero() {
		return nil // booked at once: what follows in the same append tells it
	}
	for _, party := range []domain.Actor{{ID: visit.CustomerID, Role: domain.Customer}, {ID: e.Key, Role: domain.Groomer}} {
		if party == e.By {
			continue
		}
		Table.Put(u, Row{
			Item: Item(e.Key, e.Revision), Receiver: party.Subject(), Position: e.Position, Kind: kind,
			ReservationID: id, At: e.At, StartAt: visit.StartAt, Zone: salon.Zone, Dogs: visit.Dogs,
		})
	}
	return nil
}

func talked(u *engine.Unit, e engine.Event) error {
	talk, ok, err := Talks.Get(u, e.Key)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("room %s was never opened", e.Key)
	}
	switch ev := e.Event.(type) {
	case chat.MessagePosted:
		if receiver, there := talk.said(ev); there {
			Table.Put(u, Row{
				Item: e.Key, Receiver: receiver.Subject(), Position: e.Position, Kind: Message, ReservationID: e.Key, At: e.At,
			})
		}
	case chat.MemberLeft:
		if ev.Member.Role == domain.Groomer {
			talk.GroomerLeft = true
		} else {
			talk.CustomerLeft = true
		}
	case chat.ReadMarked:
		row, ok, err := Table.Get(u, e.Key, ev.Reader.Subject())
		if err != nil || !ok {
			return err
		}
		if ev.Seq >= talk.lastFor(ev.Reader.Role) && !row.Seen {
			row.Seen = true
			Table.Put(u, row)
		}
		return nil
	}
	Talks.Put(u, talk)
	return nil
}

// said notes a message, and answers whom it is for; there is false when that one has left.
func (t *Talk) said(m chat.MessagePosted) (receiver domain.Actor, there bool) {
	if m.Sender.Role == domain.Groomer {
		t.ByGroomer = m.Seq
		return domain.Actor{ID: t.CustomerID, Role: domain.Customer}, !t.CustomerLeft
	}
	t.ByCustomer = m.Seq
	return domain.Actor{ID: t.GroomerID, Role: domain.Groomer}, !t.GroomerLeft
}

// lastFor is the other side's last message.
func (t *Talk) lastFor(reader domain.Role) uint64 {
	if reader == domain.Groomer {
		return t.ByCustomer
	}
	return t.ByGroomer
}

func marked(u *engine.Unit, r inbox.Read) error {
	mark, _, err := Marks.Get(u, r.Reader.Subject())
	if err == nil && r.Through > mark.Through {
		Marks.Put(u, Mark{Receiver: r.Reader.Subject(), Through: r.Through})
	}
	return err
}
