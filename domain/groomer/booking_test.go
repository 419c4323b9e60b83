package groomer

import (
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
)

const ttl = 5 * time.Minute

func hold(w Wish, by domain.Actor) func(Groomer) ([]domain.Event, error) {
	return func(g Groomer) ([]domain.Event, error) { return g.PlaceHold("h9", by, w, ttl, now) }
}

func request(w Wish, by domain.Actor) func(Groomer) ([]domain.Event, error) {
	return func(g Groomer) ([]domain.Event, error) { return g.Request("r9", by, w, nobody, now) }
}

func use(holdID string, by domain.Actor, at time.Time) func(Groomer) ([]domain.Event, error) {
	return func(g Groomer) ([]domain.Event, error) { return g.RequestHeld("r9", by, holdID, nobody, at) }
}

func TestPlaceHold(t *testing.T) {
	t.Parallel()
	withDogs := func(dogs ...Dog) Wish { w := shop("24 10:00"); w.Dogs = dogs; return w }
	home := func(address domain.Sealed) Wish {
		w := shop("24 10:00")
		w.Mode, w.VisitAddress = House, address
		return w
	}
	dog := func(size string, services ...string) Dog { return Dog{Size: size, Services: services} }
	sum := visit("24 10:00", ana)
	sum.Minutes, sum.PriceKRW, sum.Dogs = 105, 83_000, []Dog{dog("small", "bath", "nails"), dog("large", "bath")}
	atHome := visit("24 10:00", ana)
	atHome.Mode, atHome.VisitAddress = House, secret
	off := TimeOffAdded{TimeOffID: "t1", From: kst("24 15:00"), To: kst("24 16:00")}
	mine := held("h1", "24 10:00", ana, "23 09:05")

	decide(t, salon(), []decision{
		{"a free slot is held for five minutes", nil, hold(shop("24 10:00"), ana), []domain.Event{held("h9", "24 10:00", ana, "23 09:05")}, nil},
		{"minutes and price are summed over dogs and services", nil, hold(withDogs(sum.Dogs...), ana),
			[]domain.Event{SlotHeld{HoldID: "h9", Visit: sum, ExpiresAt: now.Add(ttl)}}, nil},
		{"a visit at home keeps its address", nil, hold(home(secret), ana), []domain.Event{SlotHeld{HoldID: "h9", Visit: atHome, ExpiresAt: now.Add(ttl)}}, nil},
		{"a visit at home without an address is refused", nil, hold(home(nobody), ana), nil, ErrAddressMissing},
		{"a service that the menu lacks for the size is refused", nil, hold(withDogs(dog("large", "nails")), ana), nil, ErrServiceNotOffered},
		{"a service nobody knows is malformed", nil, hold(withDogs(dog("small", "massage")), ana), nil, invalidRequest},
		{"a size nobody knows is malformed", nil, hold(withDogs(dog("giant", "bath")), ana), nil, invalidRequest},
		{"no dogs are malformed", nil, hold(withDogs(), ana), nil, invalidRequest},
		{"six dogs are malformed", nil, hold(withDogs(dog("small", "bath"), dog("small", "bath"), dog("small", "bath"), dog("small", "bath"), dog("small", "bath"), dog("small", "bath")), ana), nil, invalidRequest},
		{"a dog without services is malformed", nil, hold(withDogs(dog("small")), ana), nil, invalidRequest},
		{"a service named twice is malformed", nil, hold(withDogs(dog("small", "bath", "bath")), ana), nil, invalidRequest},
		{"an unknown mode is malformed", nil, hold(Wish{Start: kst("24 10:00"), Mode: "phone", Dogs: bath("small")}, ana), nil, invalidRequest},
		{"a groomer does not book", nil, hold(shop("24 10:00"), kim), nil, ErrForbidden},

		{"off the grid is refused", nil, hold(shop("24 10:05"), ana), nil, ErrOffGrid},
		{"at the notice exactly is allowed", nil, hold(shop("23 10:00"), ana), []domain.Event{held("h9", "23 10:00", ana, "23 09:05")}, nil},
		{"before the notice is refused", nil, hold(shop("23 09:45"), ana), nil, ErrTooSoon},
		{"the past is refused", nil, hold(shop("20 10:00"), ana), nil, ErrTooSoon},
		{"the last day of the horizon is allowed", nil, hold(Wish{Start: kst("23 10:00").AddDate(0, 0, 60), Mode: Shop, Dogs: bath("small")}, ana),
			[]domain.Event{SlotHeld{HoldID: "h9", ExpiresAt: now.Add(ttl), Visit: Visit{CustomerID: "ana", Start: kst("23 10:00").AddDate(0, 0, 60), Minutes: 30, BufferMinutes: 10, Mode: Shop, Dogs: bath("small"), PriceKRW: 25_000}}}, nil},
		{"the day after the horizon is refused", nil, hold(Wish{Start: kst("23 10:00").AddDate(0, 0, 61), Mode: Shop, Dogs: bath("small")}, ana), nil, ErrTooFar},
		{"before opening is refused", nil, hold(shop("24 09:45"), ana), nil, ErrOutsideHours},
		{"into the break is refused", nil, hold(shop("24 12:45"), ana), nil, ErrOutsideHours},
		{"up to the break is allowed, the buffer lies in it", nil, hold(shop("24 12:30"), ana), []domain.Event{held("h9", "24 12:30", ana, "23 09:05")}, nil},
		{"up to closing is allowed, the buffer lies after it", nil, hold(shop("24 18:30"), ana), []domain.Event{held("h9", "24 18:30", ana, "23 09:05")}, nil},
		{"past closing is refused", nil, hold(shop("24 18:45"), ana), nil, ErrOutsideHours},
		{"a closed day is refused", nil, hold(shop("29 10:00"), ana), nil, ErrOutsideHours},
		{"the buffer must end by midnight", nil, hold(shop("28 23:30"), ana), nil, ErrOutsideHours},
		{"before midnight by more than the buffer is allowed", nil, hold(shop("28 23:15"), ana), []domain.Event{held("h9", "28 23:15", ana, "23 09:05")}, nil},
		{"time off is refused", []domain.Event{off}, hold(shop("24 15:30"), ana), nil, ErrOnTimeOff},
		{"up to time off is allowed, the buffer lies in it", []domain.Event{off}, hold(shop("24 14:30"), ana), []domain.Event{held("h9", "24 14:30", ana, "23 09:05")}, nil},
		{"after time off is allowed", []domain.Event{off}, hold(shop("24 16:00"), ana), []domain.Event{held("h9", "24 16:00", ana, "23 09:05")}, nil},
		{"removed time off is free again", []domain.Event{off, TimeOffRemoved{TimeOffID: "t1"}}, hold(shop("24 15:30"), ana), []domain.Event{held("h9", "24 15:30", ana, "23 09:05")}, nil},

		{"another's booking is taken", booked("r1", "24 10:00", ben), hold(shop("24 10:15"), ana), nil, ErrSlotTaken},
		{"one's own booking is taken too", booked("r1", "24 10:00", ana), hold(shop("24 10:15"), ana), nil, ErrSlotTaken},
		{"the buffer of another's booking is taken", booked("r1", "24 10:00", ben), hold(shop("24 10:30"), ana), nil, ErrSlotTaken},
		{"after the buffer is free", booked("r1", "24 10:00", ben), hold(shop("24 10:45"), ana), []domain.Event{held("h9", "24 10:45", ana, "23 09:05")}, nil},
		{"one's own buffer must fit before another's booking", booked("r1", "24 10:30", ben), hold(shop("24 10:00"), ana), nil, ErrSlotTaken},
		{"another's live hold is taken", []domain.Event{held("h1", "24 10:00", ben, "23 09:01")}, hold(shop("24 10:15"), ana), nil, ErrSlotTaken},
		{"another's dead hold is free", []domain.Event{held("h1", "24 10:00", ben, "23 09:00")}, hold(shop("24 10:15"), ana), []domain.Event{held("h9", "24 10:15", ana, "23 09:05")}, nil},
		{"another's released hold is free", []domain.Event{held("h1", "24 10:00", ben, "23 09:01"), HoldReleased{HoldID: "h1", CustomerID: "ben"}}, hold(shop("24 10:00"), ana),
			[]domain.Event{held("h9", "24 10:00", ana, "23 09:05")}, nil},
		{"one's own live hold gives way", []domain.Event{mine}, hold(shop("24 10:15"), ana),
			[]domain.Event{HoldReleased{HoldID: "h1", CustomerID: "ana"}, held("h9", "24 10:15", ana, "23 09:05")}, nil},
		{"a second hold is allowed", []domain.Event{mine}, hold(shop("24 11:00"), ana), []domain.Event{held("h9", "24 11:00", ana, "23 09:05")}, nil},
		{"a third hold is refused", []domain.Event{mine, held("h2", "24 11:00", ana, "23 09:05")}, hold(shop("24 12:00"), ana), nil, ErrHoldTooMany},
		{"a third hold instead of one of the two is allowed", []domain.Event{mine, held("h2", "24 11:00", ana, "23 09:05")}, hold(shop("24 10:15"), ana),
			[]domain.Event{HoldReleased{HoldID: "h1", CustomerID: "ana"}, held("h9", "24 10:15", ana, "23 09:05")}, nil},
		{"dead holds do not count", []domain.Event{mine, held("h2", "24 11:00", ana, "23 09:00")}, hold(shop("24 12:00"), ana), []domain.Event{held("h9", "24 12:00", ana, "23 09:05")}, nil},
		{"customer kim is not groomer kim", nil, hold(shop("24 10:00"), domain.Actor{ID: "kim", Role: domain.Customer}),
			[]domain.Event{held("h9", "24 10:00", kim, "23 09:05")}, nil},
		{"an expired request still owns its slot", []domain.Event{waiting("r1", "24 10:00", ben, "23 08:00")}, hold(shop("24 10:00"), ana), nil, ErrSlotTaken},
		{"a cancelled slot is free", then(booked("r1", "24 10:00", ben), Cancelled{ReservationID: "r1"}), hold(shop("24 10:00"), ana), []domain.Event{held("h9", "24 10:00", ana, "23 09:05")}, nil},
		{"a declined slot is free", []domain.Event{waiting("r1", "24 10:00", ben, "23 12:00"), Declined{ReservationID: "r1"}}, hold(shop("24 10:00"), ana), []domain.Event{held("h9", "24 10:00", ana, "23 09:05")}, nil},
		{"a slot whose request expired is free", []domain.Event{waiting("r1", "24 10:00", ben, "23 08:00"), Expired{ReservationID: "r1"}}, hold(shop("24 10:00"), ana), []domain.Event{held("h9", "24 10:00", ana, "23 09:05")}, nil},
		{"a no-show keeps its slot", then(booked("r1", "24 10:00", ben), NoShow{ReservationID: "r1"}), hold(shop("24 10:00"), ana), nil, ErrSlotTaken},
		{"a visit completed early keeps its slot", then(booked("r1", "24 10:00", ben), CheckedIn{ReservationID: "r1"}, Completed{ReservationID: "r1"}), hold(shop("24 10:00"), ana), nil, ErrSlotTaken},
		{"a moved booking frees its old slot", then(booked("r1", "24 10:00", ben), moved("r1", "24 10:00", "24 15:00")), hold(shop("24 10:00"), ana), []domain.Event{held("h9", "24 10:00", ana, "23 09:05")}, nil},
		{"a moved booking takes its new slot", then(booked("r1", "24 10:00", ben), moved("r1", "24 10:00", "24 15:00")), hold(shop("24 15:00"), ana), nil, ErrSlotTaken},
	})

	t.Run("a book that is not there is unknown", func(t *testing.T) {
		t.Parallel()
		if _, err := (Groomer{}).PlaceHold("h1", ana, shop("24 10:00"), ttl, now); err == nil || err.Error() != ErrGroomerUnknown.Error() {
			t.Errorf("got %v", err)
		}
	})
}

func moved(id, from, to string) Rescheduled {
	return Rescheduled{ReservationID: id, Start: kst(to), FromStart: kst(from), BufferMinutes: 10, Day: day(to), FromDay: day(from), Status: StatusConfirmed}
}

func TestModeNotOffered(t *testing.T) {
	t.Parallel()
	s := salon()
	s.Profile.Modes = []Mode{House}
	decide(t, s, []decision{{"a salon without a shop is not visited", nil, hold(shop("24 10:00"), ana), nil, ErrModeNotOffered}})
}

func TestWhatIsBookedStaysAsItWasBooked(t *testing.T) {
	t.Parallel()
	s := salon()
	s.Policies.BufferMinutes, s.Menu = 0, nil
	changed := then(booked("r1", "24 10:00", ben), held("h1", "24 11:00", ana, "23 09:05"), PoliciesChanged(s.Policies), MenuChanged{}, HoursChanged{})
	used := Requested{ReservationID: "r9", HoldID: "h1", Visit: visit("24 11:00", ana), Day: "2026-11-24", Cancellation: s.Policies.Cancellation}
	decide(t, salon(), []decision{
		{"a hold is used by the menu, hours and buffer of when it was placed", changed, use("h1", ana, now),
			[]domain.Event{used, Confirmed{ReservationID: "r9", Day: "2026-11-24"}}, nil},
		{"a frozen buffer keeps others away", then(booked("r1", "24 10:00", ben), PoliciesChanged(s.Policies)), request(shop("24 10:30"), ana), nil, ErrSlotTaken},
		{"a slot without a buffer fits right before the next", then(booked("r1", "24 10:30", ben), PoliciesChanged(s.Policies)), func(g Groomer) ([]domain.Event, error) {
			_, err := g.Request("r9", ana, shop("24 10:00"), nobody, now)
			return nil, err
		}, nil, nil},
	})
}

func TestRequest(t *testing.T) {
	t.Parallel()
	confirmed := Confirmed{ReservationID: "r9", Day: "2026-11-24"}
	decide(t, salon(), []decision{
		{"a free slot is confirmed at once", nil, request(shop("24 10:00"), ana), []domain.Event{requested("r9", "24 10:00", ana), confirmed}, nil},
		{"one's own live hold gives way", []domain.Event{held("h1", "24 10:00", ana, "23 09:05")}, request(shop("24 10:15"), ana),
			[]domain.Event{HoldReleased{HoldID: "h1", CustomerID: "ana"}, requested("r9", "24 10:15", ana), confirmed}, nil},
		{"another's live hold is taken", []domain.Event{held("h1", "24 10:00", ben, "23 09:05")}, request(shop("24 10:15"), ana), nil, ErrSlotTaken},
		{"the rules of a hold hold", nil, request(shop("24 10:05"), ana), nil, ErrOffGrid},
		{"confirmed bookings are not counted", then(then(booked("r1", "24 10:00", ana), booked("r2", "24 11:00", ana)...), booked("r3", "24 12:00", ana)...),
			request(shop("24 14:00"), ana), []domain.Event{requested("r9", "24 14:00", ana), confirmed}, nil},
		{"a groomer does not book", nil, request(shop("24 10:00"), kim), nil, ErrForbidden},
	})
	three := []domain.Event{waiting("r1", "24 10:00", ana, "24 09:00"), waiting("r2", "24 11:00", ana, "24 09:00"), waiting("r3", "24 12:00", ana, "24 09:00")}
	decide(t, onRequest(), []decision{
		{"a request waits for its minutes", nil, request(shop("25 10:00"), ana), []domain.Event{waiting("r9", "25 10:00", ana, "24 09:00")}, nil},
		{"a request waits no longer than to its start", nil, request(shop("23 14:00"), ana), []domain.Event{waiting("r9", "23 14:00", ana, "23 14:00")}, nil},
		{"a request keeps its slot", []domain.Event{waiting("r1", "24 10:00", ben, "24 09:00")}, request(shop("24 10:00"), ana), nil, ErrSlotTaken},
		{"a fourth open request is refused", three, request(shop("24 14:00"), ana), nil, ErrRequestTooMany},
		{"three of another's do not count", three, request(shop("25 14:00"), ben), []domain.Event{waiting("r9", "25 14:00", ben, "24 09:00")}, nil},
		{"an answered request does not count", then(three, Confirmed{ReservationID: "r2"}), request(shop("25 14:00"), ana), []domain.Event{waiting("r9", "25 14:00", ana, "24 09:00")}, nil},
	})
}

func TestRequestHeld(t *testing.T) {
	t.Parallel()
	mine := held("h1", "24 10:00", ana, "23 09:05")
	want := requested("r9", "24 10:00", ana)
	want.HoldID = "h1"
	answer := []domain.Event{want, Confirmed{ReservationID: "r9", Day: "2026-11-24"}}
	gone := func(h Hold, when func(Groomer) ([]domain.Event, error)) func(Groomer) ([]domain.Event, error) {
		return func(g Groomer) ([]domain.Event, error) { return when(g.WithHold(h)) }
	}
	soon := held("h1", "23 10:00", ana, "23 10:30")
	decide(t, salon(), []decision{
		{"a live hold becomes a reservation", []domain.Event{mine}, use("h1", ana, now), answer, nil},
		{"another hold of one's own beside it stays", []domain.Event{mine, held("h2", "24 11:00", ana, "23 09:05")}, use("h1", ana, now), answer, nil},
		{"another's is unknown", []domain.Event{mine}, use("h1", ben, now), nil, ErrHoldUnknown},
		{"one that never was is unknown", nil, use("h1", ana, now), nil, ErrHoldUnknown},
		{"at its expiry it is dead", []domain.Event{mine}, use("h1", ana, kst("23 09:05")), nil, ErrHoldExpired},
		{"one that the state let go is dead", nil, gone(Hold{HoldID: "h1", Visit: visit("24 10:00", ana), ExpiresAt: kst("23 08:00")}, use("h1", ana, now)), nil, ErrHoldExpired},
		{"a released one has ended", nil, gone(Hold{HoldID: "h1", Visit: visit("24 10:00", ana), ExpiresAt: kst("23 10:00"), Released: true}, use("h1", ana, now)), nil, ErrHoldExpired},
		{"a used one is used", nil, gone(Hold{HoldID: "h1", Visit: visit("24 10:00", ana), ExpiresAt: kst("23 08:00"), ReservationID: "r1"}, use("h1", ana, now)), nil, ErrHoldUsed},
		{"another's used one is unknown", nil, gone(Hold{HoldID: "h1", Visit: visit("24 10:00", ana), ReservationID: "r1"}, use("h1", ben, now)), nil, ErrHoldUnknown},
		{"overlap is checked again", then([]domain.Event{mine}, booked("r1", "24 10:15", ben)...), use("h1", ana, now), nil, ErrSlotTaken},
		{"the notice was judged when it was placed", []domain.Event{soon}, func(g Groomer) ([]domain.Event, error) {
			_, err := use("h1", ana, kst("23 09:50"))(g)
			return nil, err
		}, nil, nil},
		{"a start that passed is refused", []domain.Event{soon}, use("h1", ana, kst("23 10:01")), nil, ErrTooSoon},
	})
}

func TestReleaseHold(t *testing.T) {
	t.Parallel()
	release := func(id string, by domain.Actor) func(Groomer) ([]domain.Event, error) {
		return func(g Groomer) ([]domain.Event, error) { return g.ReleaseHold(id, by, now) }
	}
	mine := held("h1", "24 10:00", ana, "23 09:05")
	decide(t, salon(), []decision{
		{"a live one is given back", []domain.Event{mine}, release("h1", ana), []domain.Event{HoldReleased{HoldID: "h1", CustomerID: "ana"}}, nil},
		{"a dead one is gone already", []domain.Event{held("h1", "24 10:00", ana, "23 09:00")}, release("h1", ana), nil, nil},
		{"a used one is gone already", nil, func(g Groomer) ([]domain.Event, error) {
			return release("h1", ana)(g.WithHold(Hold{HoldID: "h1", Visit: visit("24 10:00", ana), ExpiresAt: kst("23 10:00"), ReservationID: "r1"}))
		}, nil, nil},
		{"a released one is gone already", nil, func(g Groomer) ([]domain.Event, error) {
			return release("h1", ana)(g.WithHold(Hold{HoldID: "h1", Visit: visit("24 10:00", ana), ExpiresAt: kst("23 10:00"), Released: true}))
		}, nil, nil},
		{"another's is unknown", []domain.Event{mine}, release("h1", ben), nil, ErrHoldUnknown},
		{"the groomer's word does not release it", []domain.Event{mine}, release("h1", kim), nil, ErrHoldUnknown},
		{"one that never was is unknown", nil, release("h1", ana), nil, ErrHoldUnknown},
	})
}
