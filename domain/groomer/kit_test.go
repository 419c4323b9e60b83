package groomer

import (
	"errors"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

var (
	ana   = domain.Actor{ID: "ana", Role: domain.Customer}
	ben   = domain.Actor{ID: "ben", Role: domain.Customer}
	kim   = domain.Actor{ID: "kim", Role: domain.Groomer}
	lee   = domain.Actor{ID: "lee", Role: domain.Groomer}
	root  = domain.Actor{ID: "root", Role: domain.Admin}
	timer = domain.Actor{ID: "timers", Role: domain.System}

	nobody = domain.Sealed{}
	secret = domain.Sealed{Subject: "customer:ana", KeyID: "k1", Cipher: []byte{1}}
)

// kst is a time of November 2026 in Seoul, "24 14:00". The 23rd is a Monday.
func kst(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", "2026-11-"+s)
	if err != nil {
		panic(err)
	}
	return t.Add(-9 * time.Hour)
}

// now is when the tables decide: a Monday morning, before the salon opens.
var now = kst("23 09:00")

// salon is a groomer's settings, as the tables begin with them.
func salon() Settings {
	var hours []schedule.Hours
	for _, d := range []string{"mon", "tue", "wed", "thu", "fri"} {
		hours = append(hours, schedule.Hours{Weekday: d, Opens: "10:00", Closes: "19:00", Breaks: []schedule.Break{{From: "13:00", To: "14:00"}}})
	}
	hours = append(hours, schedule.Hours{Weekday: "sat", Opens: "18:00", Closes: "24:00"})
	return Settings{
		Zone:    "Asia/Seoul",
		Profile: Profile{Name: "김 살롱", Address: "서울 강남구", Areas: []string{"seoul/gangnam-gu"}, Modes: []Mode{Shop, House}},
		Menu: []MenuItem{
			{"bath", "small", 30, 25_000}, {"nails", "small", 15, 8_000}, {"bath", "large", 60, 50_000}, {"full_clip", "large", 180, 120_000},
		},
		Hours: hours,
		Policies: Policies{
			BufferMinutes: 10, MinNoticeMinutes: 60, HorizonDays: 60, Booking: Instant, RequestExpiresMinutes: 1440,
			Cancellation: []RefundTier{{24, 100}, {3, 50}, {0, 0}},
		},
	}
}

// registered is the history of a salon with these settings.
func registered(t testing.TB, s Settings) []domain.Event {
	t.Helper()
	out, err := Groomer{}.Put("kim", kim, s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// said is an event with who caused it, or when; tables use it where the usual ones will not do.
type said struct {
	domain.Event
	by domain.Actor
	at time.Time
}

func as(by domain.Actor, e domain.Event) domain.Event { return said{Event: e, by: by} }
func at(when time.Time, e domain.Event) domain.Event  { return said{Event: e, at: when} }

// fact is the event in its stream. What customers do is Ana's, everything else Kim's, on the evening before.
func fact(e domain.Event, revision int) domain.Fact {
	f := domain.Fact{Event: e, Revision: uint64(revision), At: kst("22 20:00"), By: kim}
	s, ok := e.(said)
	if ok {
		f.Event = s.Event
	}
	switch f.Event.(type) {
	case SlotHeld, HoldReleased, Requested:
		f.By = ana
	}
	if ok && s.by != (domain.Actor{}) {
		f.By = s.by
	}
	if ok && !s.at.IsZero() {
		f.At = s.at
	}
	return f
}

func fold(history []domain.Event) Groomer {
	var g Groomer
	for i, e := range history {
		g = Evolve(g, fact(e, i))
	}
	return g
}

// decision is one row of a table: given what happened, when this is decided, this happens or is refused.
type decision struct {
	name    string
	given   []domain.Event
	when    func(g Groomer) ([]domain.Event, error)
	want    []domain.Event
	refused error
}

// decide runs a table on a book that is registered with the settings.
func decide(t *testing.T, s Settings, table []decision) {
	t.Helper()
	opening := registered(t, s)
	for _, d := range table {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			history := append(append([]domain.Event{}, opening...), d.given...)
			got, err := d.when(fold(history))
			if !errors.Is(err, d.refused) || err != nil && d.refused == nil {
				t.Fatalf("refused with %v, want %v", err, d.refused)
			}
			if diff := cmp.Diff(d.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// invalidRequest is any request.invalid.
var invalidRequest = domain.Refuse("request.invalid", "")

func bath(size string) []Dog { return []Dog{{Name: secret, Size: size, Services: []string{"bath"}}} }

// shop is a wish for a small dog's bath at the salon: 30 minutes.
func shop(start string) Wish { return Wish{Start: kst(start), Mode: Shop, Dogs: bath("small")} }

// visit is what such a wish becomes.
func visit(start string, who domain.Actor) Visit {
	return Visit{CustomerID: who.ID, Start: kst(start), Minutes: 30, BufferMinutes: 10, Mode: Shop, Dogs: bath("small"), PriceKRW: 25_000}
}

func held(id, start string, who domain.Actor, expires string) SlotHeld {
	return SlotHeld{HoldID: id, Visit: visit(start, who), ExpiresAt: kst(expires)}
}

func requested(id, start string, who domain.Actor) Requested {
	return Requested{ReservationID: id, Visit: visit(start, who), Day: day(start), Cancellation: salon().Policies.Cancellation}
}

func day(start string) string { return "2026-11-" + start[:2] }

// waiting is a request that somebody still has to answer.
func waiting(id, start string, who domain.Actor, expires string) Requested {
	r := requested(id, start, who)
	r.ExpiresAt = kst(expires)
	return r
}

// booked is a reservation confirmed at once.
func booked(id, start string, who domain.Actor) []domain.Event {
	return []domain.Event{as(who, requested(id, start, who)), as(who, Confirmed{ReservationID: id, Day: day(start)})}
}

func then(history []domain.Event, more ...domain.Event) []domain.Event {
	return append(append([]domain.Event{}, history...), more...)
}

func onRequest() Settings {
	s := salon()
	s.Policies.Booking = OnRequest
	return s
}
