// Package foldtest makes up valid histories of salons, for the tests of projections and of the screens over them.
//
// A Log is what a store would hold of several salons; a Salon writes into it and keeps, by plain bookkeeping of its
// own, what each visit has become. A projection's rows must agree with that.
package foldtest

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/schedule"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Log is the events of several salons in the store's order.
type Log struct {
	Events []engine.Event
	Now    time.Time
}

// NewLog is an empty log that begins at a fixed time.
func NewLog() *Log { return &Log{Now: time.Date(2026, 11, 2, 0, 0, 0, 123_000, time.UTC)} }

// Salon is one groomer's book.
type Salon struct {
	ID     string
	Zone   *time.Location
	Visits []*Visit // in the order of their requests
	log    *Log
	next   uint64
}

// Visit is what has become of one reservation.
type Visit struct {
	ID, CustomerID string
	Status         groomer.Status
	Start          time.Time
	Minutes        int
	PriceKRW       int64
	Confirmed      bool // ever
	Reminded       bool // of its present start
	Refund         *int
	Revision       uint64
	Happened       int // events of it
}

// Day is the visit's day in the salon's zone.
func (v *Visit) Day(s *Salon) string { return s.day(v.Start) }

func (s *Salon) day(t time.Time) string { return t.In(s.Zone).Format(time.DateOnly) }

// Seal makes what the fake texts of tests open again.
func Seal(subject, plain string) domain.Sealed {
	if plain == "" {
		return domain.Sealed{}
	}
	return domain.Sealed{Subject: subject, KeyID: "k", Cipher: []byte(plain)}
}

// Open registers a salon with a profile, a menu, hours and policies.
func (l *Log) Open(id, zone string, areas ...string) *Salon {
	z, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	s := &Salon{ID: id, Zone: z, log: l}
	by := domain.Actor{ID: id, Role: domain.Groomer}
	s.Record(by, groomer.Registered{GroomerID: id, Zone: zone})
	s.Record(by, groomer.ProfileChanged{
		Name: "댕댕살롱 " + id, Address: "서울 강남구 1", Areas: areas, Modes: []groomer.Mode{groomer.Shop},
	})
	s.Record(by, groomer.MenuChanged{Menu: []groomer.MenuItem{
		{Service: "bath", Size: "small", Minutes: 30, PriceKRW: 25_000},
		{Service: "bath", Size: "large", Minutes: 60, PriceKRW: 50_000},
		{Service: "nails", Size: "small", Minutes: 15, PriceKRW: 10_000},
	}})
	s.Record(by, groomer.HoursChanged{Hours: []schedule.Hours{
		{Weekday: "mon", Opens: "10:00", Closes: "19:00", Breaks: []schedule.Break{{From: "13:00", To: "14:00"}}},
	}})
	s.Record(by, groomer.PoliciesChanged{
		BufferMinutes: 10, MinNoticeMinutes: 60, HorizonDays: 60, Booking: groomer.OnRequest, RequestExpiresMinutes: 1440,
		Cancellation: []groomer.RefundTier{{HoursBefore: 24, RefundPercent: 100}},
	})
	return s
}

// Record appends an event of the salon.
func (s *Salon) Record(by domain.Actor, e domain.Event) engine.Event {
	s.log.Now = s.log.Now.Add(time.Second)
	out := engine.Event{
		Fact:     domain.Fact{Event: e, Revision: s.next, At: s.log.Now, By: by},
		ID:       eventstore.EventID(uuid.Nil, s.ID, int(s.next)), //nolint:gosec // a handful
		Position: uint64(len(s.log.Events) + 1),
		Stream:   eventstore.GroomerStream(s.ID),
		Key:      s.ID,
		Meta:     eventstore.Metadata{Command: "test", Actor: by},
	}
	s.next++
	s.log.Events = append(s.log.Events, out)
	return out
}

// Request opens a reservation of half an hour.
func (s *Salon) Request(customerID string, start time.Time) *Visit {
	v := &Visit{
		ID:         fmt.Sprintf("%s.%026d", s.ID, len(s.Visits)+1),
		CustomerID: customerID,
		Status:     groomer.StatusRequested,
		Start:      start,
		Minutes:    30,
		PriceKRW:   25_000 + int64(len(s.Visits)),
	}
	s.Visits = append(s.Visits, v)
	who := domain.Actor{ID: customerID, Role: domain.Customer}
	s.about(v, who, groomer.Requested{
		ReservationID: v.ID,
		Visit: groomer.Visit{
			CustomerID: customerID, Start: start, Minutes: v.Minutes, BufferMinutes: 10, Mode: groomer.Shop,
			Dogs:     []groomer.Dog{{Name: Seal(who.Subject(), "콩이"), Size: "small", Services: []string{"bath"}}},
			PriceKRW: v.PriceKRW,
			Phone:    Seal(who.Subject(), "010-1234-5678"),
		},
		Day:          s.day(start),
		Note:         Seal(who.Subject(), "겁이 많아요"),
		Cancellation: []groomer.RefundTier{{HoursBefore: 24, RefundPercent: 100}},
		ExpiresAt:    start,
	})
	return v
}

func (s *Salon) about(v *Visit, by domain.Actor, e domain.Event) {
	v.Revision = s.Record(by, e).Revision
	v.Happened++
}

// The steps of a visit's life. Each must be one that its status allows.

// Confirm accepts.
func (s *Salon) Confirm(v *Visit) {
	v.Status, v.Confirmed = groomer.StatusConfirmed, true
	s.about(v, s.self(), groomer.Confirmed{ReservationID: v.ID, Day: v.Day(s)})
}

// Decline refuses.
func (s *Salon) Decline(v *Visit) {
	v.end(groomer.StatusDeclined, 100)
	s.about(v, s.self(), groomer.Declined{
		ReservationID: v.ID, Day: v.Day(s), Reason: Seal(s.self().Subject(), "예약이 찼어요"), RefundPercent: 100,
	})
}

// Expire ends a request that nobody answered.
func (s *Salon) Expire(v *Visit) {
	v.end(groomer.StatusExpired, 100)
	s.about(v, domain.Actor{ID: "timers", Role: domain.System}, groomer.Expired{ReservationID: v.ID, Day: v.Day(s), RefundPercent: 100})
}

// Cancel is by the customer.
func (s *Salon) Cancel(v *Visit, refund int) {
	v.end(groomer.StatusCancelled, refund)
	who := domain.Actor{ID: v.CustomerID, Role: domain.Customer}
	s.about(v, who, groomer.Cancelled{
		ReservationID: v.ID, Day: v.Day(s), Reason: Seal(who.Subject(), "감기"), RefundPercent: refund,
	})
}

// Move reschedules.
func (s *Salon) Move(v *Visit, start time.Time) {
	from := v.Start
	v.Start = start
	e := groomer.Rescheduled{
		ReservationID: v.ID, Start: start, FromStart: from, BufferMinutes: 10, Day: s.day(start), FromDay: s.day(from), Status: v.Status,
	}
	if v.Status == groomer.StatusRequested {
		e.ExpiresAt = start
	}
	v.Reminded = false
	s.about(v, domain.Actor{ID: v.CustomerID, Role: domain.Customer}, e)
}

// Remind notes that the visit is near, which changes nothing of it.
func (s *Salon) Remind(v *Visit) {
	v.Reminded = true
	s.Record(domain.Actor{ID: "timers", Role: domain.System}, groomer.Reminded{ReservationID: v.ID, Day: v.Day(s), Start: v.Start})
}

// CheckIn notes that the dogs arrived.
func (s *Salon) CheckIn(v *Visit) {
	v.Status = groomer.StatusCheckedIn
	s.about(v, s.self(), groomer.CheckedIn{ReservationID: v.ID, Day: v.Day(s)})
}

// Complete ends the visit well.
func (s *Salon) Complete(v *Visit) {
	v.Status = groomer.StatusCompleted
	s.about(v, s.self(), groomer.Completed{ReservationID: v.ID, Day: v.Day(s), PriceKRW: v.PriceKRW})
}

// Miss notes a no-show.
func (s *Salon) Miss(v *Visit) {
	v.Status = groomer.StatusNoShow
	s.about(v, s.self(), groomer.NoShow{ReservationID: v.ID, Day: v.Day(s)})
}

func (s *Salon) self() domain.Actor { return domain.Actor{ID: s.ID, Role: domain.Groomer} }

func (v *Visit) end(status groomer.Status, refund int) { v.Status, v.Refund = status, &refund }

// Step does one more thing that is allowed: a new request, or a step of a visit. choose(n) picks 0 ≤ i < n.
func (s *Salon) Step(choose func(n int) int) {
	start := time.Date(2026, 11, 9+choose(4), 1+choose(20), 15*choose(4), 0, 0, time.UTC)
	customer := fmt.Sprintf("c%d", choose(3))
	var steps []func(*Visit)
	i := choose(len(s.Visits) + 2)
	if i < len(s.Visits) {
		move := func(v *Visit) { s.Move(v, start) }
		cancel := func(v *Visit) { s.Cancel(v, 25*choose(5)) }
		switch s.Visits[i].Status {
		case groomer.StatusRequested:
			steps = append(steps, s.Confirm, s.Decline, s.Expire, move, cancel)
		case groomer.StatusConfirmed:
			steps = append(steps, s.CheckIn, s.Miss, move, cancel)
			if !s.Visits[i].Reminded {
				steps = append(steps, s.Remind)
			}
		case groomer.StatusCheckedIn:
			steps = append(steps, s.Complete)
		}
	}
	if len(steps) == 0 {
		s.Request(customer, start)
		return
	}
	steps[choose(len(steps))](s.Visits[i])
}
