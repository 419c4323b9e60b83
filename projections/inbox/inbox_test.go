package inbox_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/domain/groomer"
	read "github.com/dangdangsalon/salon/domain/inbox"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/inbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var tuesday = time.Date(2026, 11, 10, 1, 0, 0, 0, time.UTC) // 10:00 in Seoul

// rowsOf folds and lists everybody's rows, oldest first.
func rowsOf(t interface{ Fatal(...any) }, events ...engine.Event) (*engine.Unit, []inbox.Row) {
	u := engine.NewUnit()
	if err := u.Replay(inbox.Projection(), events...); err != nil {
		t.Fatal(err)
	}
	rows := inbox.Table.Rows(u)
	slices.SortFunc(rows, func(a, b inbox.Row) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.Receiver, b.Receiver))
	})
	return u, rows
}

// told is who was told of what, "groomer:kim requested".
func told(rows []inbox.Row) []string {
	out := []string{}
	for _, r := range rows {
		out = append(out, r.Receiver+" "+r.Kind)
	}
	return out
}

func TestWhoIsTold(t *testing.T) {
	t.Parallel()
	admin := domain.Actor{ID: "root", Role: domain.Admin}
	for name, c := range map[string]struct {
		life func(s *foldtest.Salon, v *foldtest.Visit)
		want []string // after the request
	}{
		"the groomer's yes is the customer's news": {func(s *foldtest.Salon, v *foldtest.Visit) { s.Confirm(v) }, []string{"customer:c1 confirmed"}},
		"and so is the no":                         {func(s *foldtest.Salon, v *foldtest.Visit) { s.Decline(v) }, []string{"customer:c1 declined"}},
		"the customer's cancelling is the groomer's": {
			func(s *foldtest.Salon, v *foldtest.Visit) { s.Confirm(v); s.Cancel(v, 50) },
			[]string{"customer:c1 confirmed", "groomer:kim cancelled"},
		},
		"what the system ends is both's": {func(s *foldtest.Salon, v *foldtest.Visit) { s.Expire(v) }, []string{"customer:c1 expired", "groomer:kim expired"}},
		"both are reminded": {
			func(s *foldtest.Salon, v *foldtest.Visit) { s.Confirm(v); s.Remind(v) },
			[]string{"customer:c1 confirmed", "customer:c1 reminder", "groomer:kim reminder"},
		},
		"what an admin does is both's": {
			func(s *foldtest.Salon, v *foldtest.Visit) {
				s.Record(admin, groomer.Cancelled{ReservationID: v.ID, Day: v.Day(s), RefundPercent: 100})
			}, []string{"customer:c1 cancelled", "groomer:kim cancelled"},
		},
		"a visit that went well is nobody's news": {
			func(s *foldtest.Salon, v *foldtest.Visit) { s.Confirm(v); s.CheckIn(v); s.Complete(v) }, []string{"customer:c1 confirmed"},
		},
	} {
		log := foldtest.NewLog()
		s := log.Open("kim", "Asia/Seoul")
		c.life(s, s.Request("c1", tuesday))
		_, rows := rowsOf(t, log.Events...)
		if diff := gocmp.Diff(append([]string{"groomer:kim requested"}, c.want...), told(rows)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestABookingAtOnceIsToldOnce(t *testing.T) {
	t.Parallel()
	log := foldtest.NewLog()
	s := log.Open("kim", "Asia/Seoul")
	customer := domain.Actor{ID: "c1", Role: domain.Customer}
	id := "kim.00000000000000000000000001"
	s.Record(customer, groomer.Requested{ReservationID: id, Visit: groomer.Visit{CustomerID: "c1", Start: tuesday, Dogs: make([]groomer.Dog, 2)}})
	s.Record(customer, groomer.Confirmed{ReservationID: id})
	_, rows := rowsOf(t, log.Events...)
	want := []inbox.Row{{
		Item: "kim@6", Receiver: "groomer:kim", Position: 7, Kind: inbox.Confirmed, ReservationID: id, At: log.Now,
		StartAt: tuesday, Zone: "Asia/Seoul", Dogs: 2,
	}}
	if diff := gocmp.Diff(want, rows); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	log := foldtest.NewLog()
	s := log.Open("kim", "Asia/Seoul")
	v := s.Request("c1", tuesday)
	s.Confirm(v)
	s.Move(v, tuesday.Add(24*time.Hour+30*time.Minute))
	s.Remind(v)
	s.Cancel(v, 0)
	_, rows := rowsOf(t, log.Events...)
	var got []string
	for _, r := range rows {
		got = append(got, r.Receiver+": "+r.Text(inbox.Korean)+" | "+r.Text(inbox.English))
	}
	want := []string{
		"groomer:kim: 예약 요청: 11월 10일(화) 10:00, 1마리 | Booking requested: Tue 10 Nov 10:00, 1 dog",
		"customer:c1: 예약이 확정되었어요: 11월 10일(화) 10:00 | Your booking is confirmed: Tue 10 Nov 10:00",
		"groomer:kim: 예약 시간이 바뀌었어요: 11월 11일(수) 10:30 | A booking was moved to Wed 11 Nov 10:30",
		"customer:c1: 곧 예약이 있어요: 11월 11일(수) 10:30 | Coming up: Wed 11 Nov 10:30",
		"groomer:kim: 곧 예약이 있어요: 11월 11일(수) 10:30, 1마리 | Coming up: Wed 11 Nov 10:30, 1 dog",
		"groomer:kim: 예약이 취소되었어요: 11월 11일(수) 10:30 | A booking was cancelled: Wed 11 Nov 10:30",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A text for each kind and receiver, in both languages, with nothing left to fill in.
func TestEveryKindHasItsTexts(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{
		inbox.Requested, inbox.Confirmed, inbox.Moved, inbox.Declined, inbox.Expired, inbox.Cancelled, inbox.Reminder, inbox.Message,
	} {
		for _, receiver := range []string{"customer:c1", "groomer:kim"} {
			for _, l := range []inbox.Language{inbox.Korean, inbox.English} {
				text := inbox.Row{Kind: kind, Receiver: receiver, StartAt: tuesday, Zone: "Asia/Seoul", Dogs: 2}.Text(l)
				if text == "" || slices.ContainsFunc([]rune(text), func(r rune) bool { return r == '{' }) {
					t.Errorf("%s to %s in %s: %q", kind, receiver, l, text)
				}
			}
		}
	}
}

const room = "kim.00000000000000000000000001"

var (
	customer = domain.Actor{ID: "c1", Role: domain.Customer}
	salon    = domain.Actor{ID: "kim", Role: domain.Groomer}
)

func talk(events ...domain.Event) []engine.Event {
	out := make([]engine.Event, len(events))
	for i, e := range events {
		out[i] = engine.Event{Fact: domain.Fact{Event: e, Revision: uint64(i), At: tuesday.Add(time.Duration(i) * time.Second)}, Position: uint64(i + 1), Key: room}
	}
	return out
}

func TestATalkIsOneRowForEachMember(t *testing.T) {
	t.Parallel()
	opened := chat.Opened{RoomID: room, CustomerID: "c1", GroomerID: "kim"}
	post := func(seq uint64, by domain.Actor) domain.Event {
		return chat.MessagePosted{RoomID: room, Seq: seq, Sender: by, ClientMessageID: fmt.Sprint(seq)}
	}
	mark := func(seq uint64, by domain.Actor) domain.Event {
		return chat.ReadMarked{RoomID: room, Reader: by, Seq: seq}
	}
	left := func(seq uint64, by domain.Actor) domain.Event {
		return chat.MemberLeft{RoomID: room, Member: by, Seq: seq}
	}
	for name, c := range map[string]struct {
		events []domain.Event
		want   []string // receiver, position, seen
	}{
		"a message is the other side's":              {[]domain.Event{post(1, customer)}, []string{"groomer:kim 2 false"}},
		"the newest one counts":                      {[]domain.Event{post(1, customer), post(2, customer)}, []string{"groomer:kim 3 false"}},
		"each has their own":                         {[]domain.Event{post(1, customer), post(2, salon)}, []string{"groomer:kim 2 false", "customer:c1 3 false"}},
		"it is seen when the newest was read":        {[]domain.Event{post(1, customer), post(2, customer), mark(2, salon)}, []string{"groomer:kim 3 true"}},
		"but not when an older one was":              {[]domain.Event{post(1, customer), post(2, customer), mark(1, salon)}, []string{"groomer:kim 3 false"}},
		"one's own last word needs no reading":       {[]domain.Event{post(1, customer), post(2, salon), mark(1, salon)}, []string{"groomer:kim 2 true", "customer:c1 3 false"}},
		"another message is news again":              {[]domain.Event{post(1, customer), mark(1, salon), post(2, customer)}, []string{"groomer:kim 4 false"}},
		"who left is told no more":                   {[]domain.Event{post(1, customer), left(1, salon), post(2, customer)}, []string{"groomer:kim 2 false"}},
		"reading what one wrote oneself changes not": {[]domain.Event{post(1, customer), mark(1, customer)}, []string{"groomer:kim 2 false"}},
	} {
		_, rows := rowsOf(t, talk(append([]domain.Event{opened}, c.events...)...)...)
		got := []string{}
		for _, r := range rows {
			got = append(got, fmt.Sprint(r.Receiver, " ", r.Position, " ", r.Seen))
		}
		if diff := gocmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestTheMarkNeverGoesBack(t *testing.T) {
	t.Parallel()
	var events []engine.Event
	for i, through := range []uint64{3, 9, 5} {
		events = append(events, engine.Event{Fact: domain.Fact{Event: read.Read{Reader: customer, Through: through}}, Position: uint64(i + 10), Key: customer.Subject()})
	}
	u, _ := rowsOf(t, events...)
	if diff := gocmp.Diff([]inbox.Mark{{Receiver: "customer:c1", Through: 9}}, inbox.Marks.Rows(u)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatCannotHaveHappenedIsPoison(t *testing.T) {
	t.Parallel()
	for name, events := range map[string][]engine.Event{
		"a message in a room that was never opened":        talk(chat.MessagePosted{RoomID: room, Seq: 1, Sender: customer}),
		"a groomer's yes to a request that there is not":   talk(groomer.Registered{GroomerID: "kim", Zone: "Asia/Seoul"}, groomer.Confirmed{ReservationID: room}),
		"a request to a groomer who was never registered":  talk(groomer.Requested{ReservationID: room}),
		"cancelling what was cancelled (it is over, gone)": talk(groomer.Registered{}, groomer.Requested{ReservationID: room}, groomer.Cancelled{ReservationID: room}, groomer.Cancelled{ReservationID: room}),
	} {
		if err := engine.NewUnit().Replay(inbox.Projection(), events...); err == nil {
			t.Errorf("it folds %s", name)
		}
	}
}

// Whatever happens, each event that is somebody's news stands in the inbox of each who did not do it, once, with the
// visit's start of then; and only open visits are remembered.
func TestEverybodyIsToldOnceOfWhatOthersDid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		log := foldtest.NewLog()
		s := log.Open("kim", "Asia/Seoul")
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			s.Step(choose)
		}
		u, rows := rowsOf(t, log.Events...)
		starts, owner, at := map[string]time.Time{}, map[string]string{}, 0
		for _, e := range log.Events {
			id := groomer.About(e.Event)
			switch ev := e.Event.(type) {
			case groomer.Requested:
				starts[id], owner[id] = ev.Start, ev.CustomerID
			case groomer.Rescheduled:
				starts[id] = ev.Start
			case groomer.Confirmed, groomer.Declined, groomer.Expired, groomer.Cancelled, groomer.Reminded:
			default:
				continue
			}
			for _, who := range []string{"customer:" + owner[id], "groomer:kim"} {
				if who == e.By.Subject() {
					continue
				}
				if at == len(rows) || rows[at].Receiver != who || rows[at].Position != e.Position || !rows[at].StartAt.Equal(starts[id]) {
					t.Fatalf("%s is not told of %+v\n%+v", who, e, rows[at:])
				}
				at++
			}
		}
		if at != len(rows) {
			t.Fatalf("too many rows: %+v", rows[at:])
		}
		var open, kept []string
		for _, v := range s.Visits {
			if slices.Contains([]groomer.Status{groomer.StatusRequested, groomer.StatusConfirmed, groomer.StatusCheckedIn}, v.Status) {
				open = append(open, v.ID)
			}
		}
		for _, v := range inbox.Visits.Rows(u) {
			kept = append(kept, v.ReservationID)
		}
		slices.Sort(kept)
		if !slices.Equal(open, kept) {
			t.Fatalf("open %v, kept %v", open, kept)
		}
	})
}
