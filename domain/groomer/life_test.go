package groomer

import (
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
)

// verb is a decision on reservation r1 that needs no more than who and when.
type verb func(g Groomer, by domain.Actor, now time.Time) ([]domain.Event, error)

var verbs = map[string]verb{
	"confirm": func(g Groomer, by domain.Actor, _ time.Time) ([]domain.Event, error) { return g.Confirm("r1", by) },
	"decline": func(g Groomer, by domain.Actor, _ time.Time) ([]domain.Event, error) {
		return g.Decline("r1", by, secret)
	},
	"cancel": func(g Groomer, by domain.Actor, now time.Time) ([]domain.Event, error) {
		return g.Cancel("r1", by, secret, now)
	},
	"reschedule": func(g Groomer, by domain.Actor, now time.Time) ([]domain.Event, error) {
		return g.Reschedule("r1", by, kst("25 10:00"), now)
	},
	"check-in": func(g Groomer, by domain.Actor, now time.Time) ([]domain.Event, error) {
		return g.CheckIn("r1", by, now)
	},
	"complete": func(g Groomer, by domain.Actor, _ time.Time) ([]domain.Event, error) { return g.Complete("r1", by) },
	"no-show": func(g Groomer, by domain.Actor, now time.Time) ([]domain.Event, error) {
		return g.NoShow("r1", by, now)
	},
	"expire": func(g Groomer, by domain.Actor, now time.Time) ([]domain.Event, error) {
		return g.Expire("r1", by, now)
	},
	"remind": func(g Groomer, by domain.Actor, now time.Time) ([]domain.Event, error) {
		return g.Remind("r1", by, now)
	},
}

func do(name string, by domain.Actor, at time.Time) func(Groomer) ([]domain.Event, error) {
	return func(g Groomer) ([]domain.Event, error) { return verbs[name](g, by, at) }
}

// The histories of r1, a visit on Tuesday the 24th at ten, by where they end.
var (
	asked     = []domain.Event{waiting("r1", "24 10:00", ana, "23 20:00")}
	agreed    = then(asked, Confirmed{ReservationID: "r1", Day: tuesday})
	arrived   = then(agreed, CheckedIn{ReservationID: "r1", Day: tuesday})
	completed = then(arrived, Completed{ReservationID: "r1", Day: tuesday, PriceKRW: 25_000})
	declined  = then(asked, Declined{ReservationID: "r1", Day: tuesday, RefundPercent: 100})
	lapsed    = then(asked, as(timer, Expired{ReservationID: "r1", Day: tuesday, RefundPercent: 100}))
	cancelled = then(agreed, as(ana, Cancelled{ReservationID: "r1", Day: tuesday, RefundPercent: 50}))
	missed    = then(agreed, NoShow{ReservationID: "r1", Day: tuesday})
	reminded  = then(agreed, as(timer, Reminded{ReservationID: "r1", Day: tuesday, Start: kst("24 10:00")}))
)

const tuesday = "2026-11-24"

// TestWhoMayDoWhatWhen is the whole table of statuses and verbs: ok, wrong (state), or same (by the actor who brought
// it there, without events). Time is half past nine on the day, so that check-in is open; no-show asks at ten.
func TestWhoMayDoWhatWhen(t *testing.T) {
	t.Parallel()
	histories := map[string][]domain.Event{
		"requested": asked, "confirmed": agreed, "checked_in": arrived, "completed": completed,
		"declined": declined, "expired": lapsed, "cancelled": cancelled, "no_show": missed,
	}
	order := []string{"requested", "confirmed", "checked_in", "completed", "declined", "expired", "cancelled", "no_show"}
	var table []decision
	for _, row := range []struct {
		verb    string
		by      domain.Actor
		outcome [8]string
	}{
		{"confirm", kim, [8]string{"ok", "same", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong"}},
		{"confirm", root, [8]string{"ok", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong"}},
		{"decline", kim, [8]string{"ok", "wrong", "wrong", "wrong", "same", "wrong", "wrong", "wrong"}},
		{"decline", root, [8]string{"ok", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong"}},
		{"cancel", ana, [8]string{"ok", "ok", "wrong", "wrong", "wrong", "wrong", "same", "wrong"}},
		{"cancel", kim, [8]string{"ok", "ok", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong"}},
		{"cancel", root, [8]string{"ok", "ok", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong"}},
		{"reschedule", ana, [8]string{"ok", "ok", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong"}},
		{"reschedule", kim, [8]string{"ok", "ok", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong"}},
		{"check-in", kim, [8]string{"wrong", "ok", "same", "wrong", "wrong", "wrong", "wrong", "wrong"}},
		{"complete", kim, [8]string{"wrong", "wrong", "ok", "same", "wrong", "wrong", "wrong", "wrong"}},
		{"no-show", kim, [8]string{"wrong", "ok", "wrong", "wrong", "wrong", "wrong", "wrong", "same"}},
		{"expire", timer, [8]string{"ok", "same", "same", "same", "same", "same", "same", "same"}},
		{"remind", timer, [8]string{"wrong", "ok", "wrong", "wrong", "wrong", "wrong", "wrong", "wrong"}},
	} {
		at := kst("24 09:30")
		if row.verb == "no-show" {
			at = kst("24 10:00")
		}
		for i, status := range order {
			d := decision{name: row.verb + " of one " + status + " by " + row.by.Subject(), given: histories[status]}
			switch row.outcome[i] {
			case "ok":
				d.when = func(g Groomer) ([]domain.Event, error) {
					events, err := verbs[row.verb](g, row.by, at)
					if err == nil && len(events) != 1 {
						t.Errorf("%s: %d events", d.name, len(events))
					}
					return nil, err
				}
			case "same":
				d.when = do(row.verb, row.by, at)
			case "wrong":
				d.when, d.refused = do(row.verb, row.by, at), ErrWrongState
			}
			table = append(table, d)
		}
	}
	for name := range verbs {
		for _, stranger := range []domain.Actor{ben, lee, timer, {ID: "ana", Role: domain.Groomer}, {ID: "kim", Role: domain.Customer}, {ID: "kim", Role: domain.Analyst}} {
			if (name == "expire" || name == "remind") && stranger == timer {
				continue
			}
			table = append(table, decision{name + " by " + stranger.Subject() + " is of an unknown one", asked, do(name, stranger, now), nil, ErrReservationUnknown})
		}
		table = append(table, decision{name + " of one that never was", nil, do(name, root, now), nil, ErrReservationUnknown})
	}
	for _, name := range []string{"confirm", "decline", "check-in", "complete", "no-show", "expire", "remind"} {
		table = append(table, decision{name + " is not for its customer", asked, do(name, ana, now), nil, ErrReservationUnknown})
	}
	decide(t, onRequest(), table)
}

func TestLife(t *testing.T) {
	t.Parallel()
	instant := booked("r1", "24 10:00", ana)
	decide(t, salon(), []decision{
		{"confirming says so", asked, do("confirm", kim, now), []domain.Event{Confirmed{ReservationID: "r1", Day: tuesday}}, nil},
		{"a request past its expiry may be confirmed until the event", asked, do("confirm", kim, kst("23 21:00")), []domain.Event{Confirmed{ReservationID: "r1", Day: tuesday}}, nil},
		{"what was booked instantly was not confirmed by the groomer", instant, do("confirm", kim, now), nil, ErrWrongState},
		{"declining refunds everything", asked, do("decline", kim, now), []domain.Event{Declined{ReservationID: "r1", Day: tuesday, Reason: secret, RefundPercent: 100}}, nil},
		{"expiring refunds everything", asked, do("expire", timer, kst("23 20:00")), []domain.Event{Expired{ReservationID: "r1", Day: tuesday, RefundPercent: 100}}, nil},
		{"expiring early is refused, so that it is tried again", asked, do("expire", timer, kst("23 19:59")), nil, ErrRequestNotDue},
		{"check-in opens two hours before", agreed, do("check-in", kim, kst("24 08:00")), []domain.Event{CheckedIn{ReservationID: "r1", Day: tuesday}}, nil},
		{"check-in before that is too early", agreed, do("check-in", kim, kst("24 07:59")), nil, ErrVisitTooEarly},
		{"completing carries the price", arrived, do("complete", kim, kst("24 11:00")), []domain.Event{Completed{ReservationID: "r1", Day: tuesday, PriceKRW: 25_000}}, nil},
		{"no-show from the start on", agreed, do("no-show", kim, kst("24 10:00")), []domain.Event{NoShow{ReservationID: "r1", Day: tuesday}}, nil},
		{"no-show before the start is too early", agreed, do("no-show", kim, kst("24 09:59")), nil, ErrVisitTooEarly},
		{"the state knows one that it let go by what it is given", nil, func(g Groomer) ([]domain.Event, error) {
			return g.WithReservation(Reservation{ReservationID: "r1", Visit: visit("24 10:00", ana), Status: StatusCancelled, StatusBy: ana}).Cancel("r1", ana, nobody, now)
		}, nil, nil},
		{"one that it is given takes no slot", nil, func(g Groomer) ([]domain.Event, error) {
			_, err := g.WithReservation(Reservation{ReservationID: "r1", Visit: visit("24 10:00", ben), Status: StatusCancelled}).Request("r9", ana, shop("24 10:00"), nobody, now)
			return nil, err
		}, nil, nil},
	})
}

func TestRemind(t *testing.T) {
	t.Parallel()
	says := []domain.Event{Reminded{ReservationID: "r1", Day: tuesday, Start: kst("24 10:00")}}
	movedAway := then(reminded, moved("r1", "24 10:00", "30 10:00"))
	decide(t, salon(), []decision{
		{"a day before", agreed, do("remind", timer, kst("23 10:00")), says, nil},
		{"until the start", agreed, do("remind", timer, kst("24 09:59")), says, nil},
		{"at the start it is too late", agreed, do("remind", timer, kst("24 10:00")), nil, ErrWrongState},
		{"earlier is refused, so that it is tried again", agreed, do("remind", timer, kst("23 09:59")), nil, ErrReminderNotDue},
		{"what was booked instantly too", booked("r1", "24 10:00", ana), do("remind", timer, kst("23 10:00")), says, nil},
		{"once", reminded, do("remind", timer, kst("23 10:01")), nil, nil},
		{"once, also for an admin", reminded, do("remind", root, kst("23 10:01")), nil, nil},
		{"one moved afterwards is not due", movedAway, do("remind", timer, kst("23 10:01")), nil, ErrReminderNotDue},
		{"but reminded of anew", movedAway, do("remind", timer, kst("29 10:00")), []domain.Event{Reminded{ReservationID: "r1", Day: "2026-11-30", Start: kst("30 10:00")}}, nil},
		{"its customer is met by the ETag of before", reminded, func(g Groomer) ([]domain.Event, error) {
			before, _ := fold(then(registered(t, salon()), agreed...)).FindReservation("r1")
			if after, _ := g.FindReservation("r1"); after.Revision != before.Revision || !after.UpdatedAt.Equal(before.UpdatedAt) {
				t.Errorf("a reminder moved revision %d to %d", before.Revision, after.Revision)
			}
			return nil, nil
		}, nil, nil},
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	instant := booked("r1", "24 10:00", ana)
	refunds := func(name string, given []domain.Event, by domain.Actor, at time.Time, percent int, day string) decision {
		return decision{name, given, do("cancel", by, at), []domain.Event{Cancelled{ReservationID: "r1", Day: day, Reason: secret, RefundPercent: percent}}, nil}
	}
	later := then(instant, moved("r1", "24 10:00", "30 10:00"))
	earlier := then(booked("r1", "30 10:00", ana), moved("r1", "30 10:00", "24 10:00"))
	stricter := salon().Policies
	stricter.Cancellation = nil
	odd := requested("r1", "24 10:00", ana)
	odd.Cancellation = []RefundTier{{0, 10}, {48, 100}, {3, 90}, {24, 0}}
	decide(t, salon(), []decision{
		refunds("a day before: everything", instant, ana, kst("23 10:00"), 100, tuesday),
		refunds("a minute less: half", instant, ana, kst("23 10:01"), 50, tuesday),
		refunds("three hours before: half", instant, ana, kst("24 07:00"), 50, tuesday),
		refunds("later than that: nothing", instant, ana, kst("24 07:01"), 0, tuesday),
		refunds("the largest tier counts, not the best nor the first", []domain.Event{odd}, ana, kst("23 09:00"), 0, tuesday),
		refunds("the groomer gives everything back", instant, kim, kst("24 09:59"), 100, tuesday),
		refunds("an admin gives everything back", instant, root, kst("24 09:59"), 100, tuesday),
		refunds("moved to later, it counts from the first start", later, ana, kst("23 10:01"), 50, "2026-11-30"),
		refunds("moved to later and past the first start: nothing", later, ana, kst("24 10:01"), 0, "2026-11-30"),
		refunds("moved to earlier, it counts from the present start", earlier, ana, kst("23 10:01"), 50, tuesday),
		refunds("the policy of when it was booked counts", then(instant, PoliciesChanged(stricter)), ana, kst("23 10:00"), 100, tuesday),
		{"at the start it is too late", instant, do("cancel", ana, kst("24 10:00")), nil, ErrWrongState},
		{"also for the groomer", instant, do("cancel", kim, kst("24 10:00")), nil, ErrWrongState},
	})
}

func TestReschedule(t *testing.T) {
	t.Parallel()
	to := func(start string, by domain.Actor, at time.Time) func(Groomer) ([]domain.Event, error) {
		return func(g Groomer) ([]domain.Event, error) { return g.Reschedule("r1", by, kst(start), at) }
	}
	instant := booked("r1", "24 10:00", ana)
	wider := salon().Policies
	wider.BufferMinutes = 20
	rebuffered := moved("r1", "24 10:00", "24 10:15")
	rebuffered.BufferMinutes = 20
	again := moved("r1", "24 10:00", "25 10:00")
	again.Status, again.ExpiresAt = StatusRequested, kst("24 09:00")
	sooner := moved("r1", "24 10:00", "23 14:00")
	sooner.Status, sooner.ExpiresAt = StatusRequested, kst("23 14:00")
	mine := held("h1", "25 10:00", ana, "23 09:05")
	decide(t, salon(), []decision{
		{"to a free slot", instant, to("25 10:00", ana, now), []domain.Event{moved("r1", "24 10:00", "25 10:00")}, nil},
		{"by the groomer", instant, to("25 10:00", kim, now), []domain.Event{moved("r1", "24 10:00", "25 10:00")}, nil},
		{"its own old slot is no obstacle", instant, to("24 10:15", ana, now), []domain.Event{moved("r1", "24 10:00", "24 10:15")}, nil},
		{"the buffer is frozen anew", then(instant, PoliciesChanged(wider)), to("24 10:15", ana, now), []domain.Event{rebuffered}, nil},
		{"to where it is already changes nothing", instant, to("24 10:00", ana, now), nil, nil},
		{"a request stays one and its time counts anew", asked, to("25 10:00", ana, now), []domain.Event{again}, nil},
		{"a request waits no longer than to its new start", asked, to("23 14:00", ana, now), []domain.Event{sooner}, nil},
		{"another's booking is taken", then(instant, booked("r2", "25 10:00", ben)...), to("25 10:30", ana, now), nil, ErrSlotTaken},
		{"another's live hold is taken", then(instant, held("h1", "25 10:00", ben, "23 09:05")), to("25 10:00", ana, now), nil, ErrSlotTaken},
		{"the customer's own live hold gives way", then(instant, mine), to("25 10:00", ana, now),
			[]domain.Event{HoldReleased{HoldID: "h1", CustomerID: "ana"}, moved("r1", "24 10:00", "25 10:00")}, nil},
		{"also when the groomer moves it", then(instant, mine), to("25 10:00", kim, now),
			[]domain.Event{HoldReleased{HoldID: "h1", CustomerID: "ana"}, moved("r1", "24 10:00", "25 10:00")}, nil},
		{"off the grid is refused", instant, to("25 10:10", ana, now), nil, ErrOffGrid},
		{"outside hours is refused", instant, to("25 09:00", ana, now), nil, ErrOutsideHours},
		{"into time off is refused", then(instant, TimeOffAdded{TimeOffID: "t1", From: kst("25 09:00"), To: kst("25 12:00")}), to("25 10:00", ana, now), nil, ErrOnTimeOff},
		{"before the notice is refused", instant, to("23 10:00", ana, kst("23 09:30")), nil, ErrTooSoon},
		{"from its start on it is too late", instant, to("25 10:00", ana, kst("24 10:00")), nil, ErrWrongState},
		{"just before it is not", instant, to("25 10:00", ana, kst("24 09:59")), []domain.Event{moved("r1", "24 10:00", "25 10:00")}, nil},
		{"its menu may be gone", then(instant, MenuChanged{}), to("25 10:00", ana, now), []domain.Event{moved("r1", "24 10:00", "25 10:00")}, nil},
	})
}
