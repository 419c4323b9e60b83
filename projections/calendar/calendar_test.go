package calendar

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/schedule"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
)

var tenth = time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC)

// replay folds a history, salon by salon, and gives the rows sorted.
func replay(t interface{ Fatal(...any) }, events ...engine.Event) (*engine.Unit, []Interval) {
	u := engine.NewUnit()
	if err := u.Replay(Projection(), events...); err != nil {
		t.Fatal(err)
	}
	rows := Intervals.Rows(u)
	slices.SortFunc(rows, func(a, b Interval) int { return cmp.Compare(a.ID, b.ID) })
	return u, rows
}

func ids(rows []Interval) (out []string) {
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

// at gives events of salon kim their place, from a time on, a second apart.
func at(from time.Time, events ...domain.Event) []engine.Event {
	out := make([]engine.Event, len(events))
	for i, e := range events {
		out[i] = engine.Event{Key: "kim", Fact: domain.Fact{Event: e, At: from.Add(time.Duration(i) * time.Second)}}
	}
	return out
}

func visit(customer string, start time.Time) groomer.Visit {
	return groomer.Visit{CustomerID: customer, Start: start, Minutes: 30, BufferMinutes: 10}
}

func held(id string, start, expires time.Time) groomer.SlotHeld {
	return groomer.SlotHeld{HoldID: id, Visit: visit("c1", start), ExpiresAt: expires}
}

func TestARowStandsForWhatIsTaken(t *testing.T) {
	t.Parallel()
	before := tenth.Add(-24 * time.Hour)
	reason := domain.Sealed{Subject: "groomer:kim", KeyID: "k", Cipher: []byte("여행")}
	booked := groomer.Requested{ReservationID: "r", HoldID: "h", Visit: visit("c1", tenth)}
	taken := Interval{
		ID: "r", Kind: Reservation, GroomerID: "kim", CustomerID: "c1",
		StartAt: tenth, EndAt: tenth.Add(30 * time.Minute), BusyUntil: tenth.Add(40 * time.Minute),
	}
	moved := taken
	moved.StartAt, moved.EndAt, moved.BusyUntil = tenth.Add(time.Hour), tenth.Add(90*time.Minute), tenth.Add(110*time.Minute)
	hold := taken
	hold.ID, hold.Kind, hold.ExpiresAt = "h", Hold, before.Add(5*time.Minute)
	off := Interval{ID: "o", Kind: TimeOff, GroomerID: "kim", StartAt: tenth, EndAt: tenth.Add(time.Hour), BusyUntil: tenth.Add(time.Hour), Reason: reason}

	for name, c := range map[string]struct {
		events []domain.Event
		want   []Interval
	}{
		"a hold": {[]domain.Event{held("h", tenth, hold.ExpiresAt)}, []Interval{hold}},
		"a hold given back": {
			[]domain.Event{held("h", tenth, hold.ExpiresAt), groomer.HoldReleased{HoldID: "h"}}, nil,
		},
		"a reservation uses up its hold": {[]domain.Event{held("h", tenth, hold.ExpiresAt), booked}, []Interval{taken}},
		"a reservation that moves takes a buffer anew": {
			[]domain.Event{booked, groomer.Rescheduled{ReservationID: "r", Start: tenth.Add(time.Hour), FromStart: tenth, BufferMinutes: 20}},
			[]Interval{moved},
		},
		"declined":  {[]domain.Event{booked, groomer.Declined{ReservationID: "r"}}, nil},
		"expired":   {[]domain.Event{booked, groomer.Expired{ReservationID: "r"}}, nil},
		"cancelled": {[]domain.Event{booked, groomer.Cancelled{ReservationID: "r"}}, nil},
		"a visit that is over early keeps its time": {
			[]domain.Event{booked, groomer.Confirmed{ReservationID: "r"}, groomer.CheckedIn{ReservationID: "r"}, groomer.Completed{ReservationID: "r"}},
			[]Interval{taken},
		},
		"a no-show keeps its time": {[]domain.Event{booked, groomer.NoShow{ReservationID: "r"}}, []Interval{taken}},
		"time off": {
			[]domain.Event{groomer.TimeOffAdded{TimeOffID: "o", From: tenth, To: tenth.Add(time.Hour), Reason: reason}}, []Interval{off},
		},
		"time off taken back": {
			[]domain.Event{groomer.TimeOffAdded{TimeOffID: "o", From: tenth, To: tenth.Add(time.Hour)}, groomer.TimeOffRemoved{TimeOffID: "o"}}, nil,
		},
	} {
		_, got := replay(t, at(before, c.events...)...)
		if diff := gocmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestASalonShowsWhatFreeSlotsNeed(t *testing.T) {
	t.Parallel()
	log := foldtest.NewLog()
	log.Open("kim", "Asia/Seoul")
	u, _ := replay(t, log.Events...)
	want := []Salon{{
		GroomerID: "kim", Zone: "Asia/Seoul",
		Menu: []groomer.MenuItem{
			{Service: "bath", Size: "small", Minutes: 30, PriceKRW: 25_000},
			{Service: "bath", Size: "large", Minutes: 60, PriceKRW: 50_000},
			{Service: "nails", Size: "small", Minutes: 15, PriceKRW: 10_000},
		},
		Modes:         []groomer.Mode{groomer.Shop},
		Hours:         []schedule.Hours{{Weekday: "mon", Opens: "10:00", Closes: "19:00", Breaks: []schedule.Break{{From: "13:00", To: "14:00"}}}},
		BufferMinutes: 10, MinNoticeMinutes: 60, HorizonDays: 60,
	}}
	if diff := gocmp.Diff(want, Salons.Rows(u)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAMoveOfNothingIsPoison(t *testing.T) {
	t.Parallel()
	u := engine.NewUnit()
	if err := u.Replay(Projection(), at(tenth, groomer.Rescheduled{ReservationID: "r", Start: tenth, FromStart: tenth})...); err == nil {
		t.Error("it was folded")
	}
}

func TestWhatHasPassedIsSweptUp(t *testing.T) {
	t.Parallel()
	days := func(n int) time.Time { return tenth.AddDate(0, 0, n) }
	later := at(days(ring), held("next", days(ring).Add(time.Hour), days(ring).Add(time.Minute)))
	for name, c := range map[string]struct {
		events []engine.Event
		want   []string
	}{
		"a dead hold, by the next booking of the day": {
			at(days(-9), held("dead", tenth, days(-9).Add(time.Minute))), []string{"next"},
		},
		"a visit": {at(days(-1), groomer.Requested{ReservationID: "r", Visit: visit("c1", tenth)}), []string{"next"}},
		"a holiday, when its end has passed": {
			at(days(-1), groomer.TimeOffAdded{TimeOffID: "o", From: days(-1), To: tenth}), []string{"next"},
		},
		"not a visit that moved away": {
			at(days(-1), groomer.Requested{ReservationID: "r", Visit: visit("c1", tenth)},
				groomer.Rescheduled{ReservationID: "r", FromStart: tenth, Start: days(40)}),
			[]string{"next", "r"},
		},
		"not a visit that moved within its day": {
			at(days(ring).Add(-time.Hour), groomer.Requested{ReservationID: "r", Visit: visit("c1", days(ring))},
				groomer.Rescheduled{ReservationID: "r", FromStart: days(ring), Start: days(ring).Add(2 * time.Hour)}),
			[]string{"next", "r"},
		},
		"not what is to come on the same list": {
			at(days(-1), groomer.Requested{ReservationID: "r", Visit: visit("c1", days(2*ring))}), []string{"next", "r"},
		},
	} {
		if _, got := replay(t, append(c.events, later...)...); !slices.Equal(ids(got), c.want) {
			t.Errorf("%s: rows %v, want %v", name, ids(got), c.want)
		}
	}
}

// However long a salon is in business, its rows are its future and about ring days of its past.
func TestASalonsRowsDoNotGrowWithItsAge(t *testing.T) {
	t.Parallel()
	const perDay = 5
	var events []engine.Event
	for day := range 10 * ring {
		now := tenth.AddDate(0, 0, day)
		for i := range perDay {
			start := now.Add(time.Duration(24+i) * time.Hour)
			id := fmt.Sprintf("%d-%d", day, i)
			events = append(events, at(now, held("h"+id, start, now.Add(5*time.Minute)),
				groomer.Requested{ReservationID: "r" + id, Visit: visit("c1", start)})...)
		}
	}
	_, rows := replay(t, events...)
	if most := (ring + 3) * perDay * 2; len(rows) > most {
		t.Errorf("%d rows after %d bookings, want at most %d", len(rows), 10*ring*perDay, most)
	}
}

// The rows of the future agree with what has become of each visit, whatever happened.
func TestRowsAgreeWithTheVisits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		s := log.Open("kim", "America/New_York")
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			s.Step(choose)
		}
		_, got := replay(t, log.Events...)
		var want []string
		for _, v := range s.Visits {
			if v.Status != groomer.StatusDeclined && v.Status != groomer.StatusExpired && v.Status != groomer.StatusCancelled {
				want = append(want, v.ID+v.Start.String())
			}
		}
		var have []string
		for _, r := range got {
			have = append(have, r.ID+r.StartAt.String())
		}
		slices.Sort(want)
		if !slices.Equal(want, have) {
			t.Fatalf("(-want +got)\n%s", gocmp.Diff(want, have))
		}
	})
}
