package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
)

// author writes one history. The same seed makes the same one.
type author struct {
	random *rand.Rand
	at     time.Time
}

func newAuthor() *author {
	return &author{rand.New(rand.NewPCG(1, 2)), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} //nolint:gosec // no secret
}

func (a *author) sealed(subject string, bytes int) domain.Sealed {
	c := make([]byte, bytes)
	for i := range c {
		c[i] = byte(a.random.Uint32())
	}
	return domain.Sealed{Subject: subject, KeyID: "k1", Cipher: c}
}

func (a *author) id() (id uuid.UUID) {
	for i := range id {
		id[i] = byte(a.random.Uint32())
	}
	return id
}

func (a *author) event(stream, key string, revision int, by domain.Actor, command string, e domain.Event) eventstore.Recorded {
	a.at = a.at.Add(137 * time.Microsecond)
	data, err := json.Marshal(e)
	if err != nil {
		panic(err) // our own types
	}
	id := a.id()
	metadata, err := json.Marshal(eventstore.Metadata{CommandID: id, Command: command, Actor: by, CorrelationID: id.String(), CausationID: id.String()})
	if err != nil {
		panic(err)
	}
	return eventstore.Recorded{
		Stream: stream, Revision: eventstore.Revision(revision), ID: id, Type: e.EventType(), Key: key, RecordedAt: a.at, Metadata: metadata, Data: data,
	}
}

// turns is the key whose turn it is, of so many: none comes twice before all have come once.
func turns(i, keys int) int { return i % keys * 7919 % keys }

// bookings are the books of groomers, one for every 600 events: visit after visit of six events, the last of which is a
// cancellation every fourth time.
func bookings(events int) iter.Seq[eventstore.Recorded] { return bookingsOf(events, 600) }

// bookID is the n-th groomer.
func bookID(n int) string { return fmt.Sprintf("salon-%06d", n) }

// visitOf is the n-th visit of the g-th groomer.
func visitOf(g, n int) string {
	return bookID(g) + "." + eventstore.Suffix(uuid.UUID{byte(n), byte(n >> 8), byte(g), byte(g >> 8), byte(g >> 16)}, "visit")
}

// bookingsOf are books of so many events each, or a few more.
func bookingsOf(events, each int) iter.Seq[eventstore.Recorded] {
	return func(yield func(eventstore.Recorded) bool) {
		a := newAuthor()
		keys := max(1, events/each)
		done := make([]int, keys)
		for i := range events {
			g := turns(i, keys)
			n := done[g]
			done[g]++
			salon, visit := bookID(g), n/6
			id := visitOf(g, visit)
			customer := domain.Actor{ID: fmt.Sprintf("customer-%06d", (g*31+visit*17)%(10*keys)), Role: domain.Customer}
			start := a.at.Add(48 * time.Hour).Truncate(15 * time.Minute)
			day := start.Format(time.DateOnly)
			of := groomer.Visit{
				CustomerID: customer.ID, Start: start, Minutes: 60, BufferMinutes: 15, Mode: "shop", PriceKRW: 45_000,
				Dogs:  []groomer.Dog{{Name: a.sealed("customer:"+customer.ID, 40), Size: "small", Services: []string{"bath", "trim"}}},
				Phone: a.sealed("customer:"+customer.ID, 44),
			}
			var e domain.Event
			switch n % 6 {
			case 0:
				e = groomer.SlotHeld{HoldID: id, Visit: of, ExpiresAt: a.at.Add(5 * time.Minute)}
			case 1:
				e = groomer.Requested{
					ReservationID: id, HoldID: id, Visit: of, Day: day, Note: a.sealed("customer:"+customer.ID, 80),
					Cancellation: []groomer.RefundTier{{HoursBefore: 24, RefundPercent: 100}}, ExpiresAt: a.at.Add(time.Hour),
				}
			case 2:
				e = groomer.Confirmed{ReservationID: id, Day: day}
			case 3:
				e = groomer.Rescheduled{ReservationID: id, Start: start.Add(24 * time.Hour), FromStart: start, BufferMinutes: 15, Day: day, FromDay: day, Status: groomer.StatusConfirmed}
			case 4:
				e = groomer.CheckedIn{ReservationID: id, Day: day}
				if visit%4 == 3 {
					e = groomer.Reminded{ReservationID: id}
				}
			case 5:
				e = groomer.Completed{ReservationID: id, Day: day}
				if visit%4 == 3 {
					e = groomer.Cancelled{ReservationID: id, Day: day, Reason: a.sealed("customer:"+customer.ID, 60), RefundPercent: 100}
				}
			}
			if !yield(a.event(eventstore.GroomerStream(salon), salon, n, customer, "bench", e)) {
				return
			}
		}
	}
}

// messages are the talk of rooms, one for every 100 events: the room is opened, then the two write in turns.
func messages(events int) iter.Seq[eventstore.Recorded] {
	return func(yield func(eventstore.Recorded) bool) {
		a := newAuthor()
		keys := max(1, events/100)
		done := make([]int, keys)
		rooms := make([]string, keys)
		for g := range rooms {
			rooms[g] = fmt.Sprintf("salon-%06d", g/20) + "." + eventstore.Suffix(uuid.UUID{byte(g), byte(g >> 8), byte(g >> 16)}, "visit")
		}
		for i := range events {
			g := turns(i, keys)
			n := done[g]
			done[g]++
			members := []domain.Actor{{ID: fmt.Sprintf("customer-%06d", g%(keys/2+1)), Role: domain.Customer}, {ID: fmt.Sprintf("salon-%06d", g/20), Role: domain.Groomer}}
			by := members[n%2]
			var e domain.Event = chat.Opened{RoomID: rooms[g], CustomerID: members[0].ID, GroomerID: members[1].ID}
			if n > 0 {
				e = chat.MessagePosted{
					RoomID: rooms[g], Seq: uint64(n), Sender: by, ClientMessageID: a.id().String(), Text: a.sealed(string(by.Role)+":"+by.ID, 60+a.random.IntN(80)), //nolint:gosec // small
				}
			}
			if !yield(a.event(eventstore.ChatStream(rooms[g]), rooms[g], n, by, "bench", e)) {
				return
			}
		}
	}
}
