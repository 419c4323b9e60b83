package groomer

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/schedule"
)

func TestPut(t *testing.T) {
	t.Parallel()
	put := func(by domain.Actor, change func(*Settings)) func(Groomer) ([]domain.Event, error) {
		return func(g Groomer) ([]domain.Event, error) {
			s := salon()
			change(&s)
			return g.Put("kim", by, s)
		}
	}
	same := func(*Settings) {}
	renamed := salon().Profile
	renamed.Name = "새 살롱"
	closed := []schedule.Hours{{Weekday: "mon", Opens: "10:00", Closes: "12:00"}}
	cheaper := []MenuItem{{"bath", "small", 30, 20_000}}
	asking := onRequest().Policies
	decide(t, salon(), []decision{
		{"the same again changes nothing", nil, put(kim, same), nil, nil},
		{"the zone may be left out", nil, put(kim, func(s *Settings) { s.Zone = "" }), nil, nil},
		{"a new name is a new profile and nothing else", nil, put(kim, func(s *Settings) { s.Profile.Name = "새 살롱" }), []domain.Event{ProfileChanged(renamed)}, nil},
		{"a new menu", nil, put(kim, func(s *Settings) { s.Menu = cheaper }), []domain.Event{MenuChanged{Menu: cheaper}}, nil},
		{"an empty menu is a list", nil, put(kim, func(s *Settings) { s.Menu = nil }), []domain.Event{MenuChanged{Menu: []MenuItem{}}}, nil},
		{"new hours", nil, put(kim, func(s *Settings) { s.Hours = closed }), []domain.Event{HoursChanged{Hours: closed}}, nil},
		{"new policies", nil, put(kim, func(s *Settings) { s.Policies = asking }), []domain.Event{PoliciesChanged(asking)}, nil},
		{"several at once, in their order", nil, put(root, func(s *Settings) { s.Hours, s.Profile = closed, renamed }),
			[]domain.Event{ProfileChanged(renamed), HoursChanged{Hours: closed}}, nil},
		{"the zone is fixed", nil, put(kim, func(s *Settings) { s.Zone = "Europe/Berlin" }), nil, ErrZoneFixed},
		{"another groomer may not", nil, put(lee, same), nil, ErrForbidden},
		{"a customer may not", nil, put(domain.Actor{ID: "kim", Role: domain.Customer}, same), nil, ErrForbidden},
	})
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s := salon()
	s.Zone = ""
	got, err := Groomer{}.Put("kim", root, s)
	if err != nil {
		t.Fatal(err)
	}
	want := []domain.Event{Registered{GroomerID: "kim", Zone: "Asia/Seoul"}, ProfileChanged(s.Profile), MenuChanged{Menu: s.Menu}, HoursChanged{Hours: s.Hours}, PoliciesChanged(s.Policies)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSettingsThatAreMalformed(t *testing.T) {
	t.Parallel()
	many := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, "seoul/"+strings.Repeat("a", i+1))
		}
		return out
	}
	for where, change := range map[string]func(*Settings){
		"zone: unknown":                       func(s *Settings) { s.Zone = "Asia/Nowhere" },
		"zone: the machine's own":             func(s *Settings) { s.Zone = "Local" },
		"zone: out of the data base":          func(s *Settings) { s.Zone = "../../etc/passwd" },
		"zone: with leap seconds":             func(s *Settings) { s.Zone = "right/Asia/Seoul" },
		"name: empty":                         func(s *Settings) { s.Profile.Name = "" },
		"name: only spaces":                   func(s *Settings) { s.Profile.Name = "  " },
		"name: too long":                      func(s *Settings) { s.Profile.Name = strings.Repeat("개", 101) },
		"name: a control character":           func(s *Settings) { s.Profile.Name = "a\x00b" },
		"address: too long":                   func(s *Settings) { s.Profile.Address = strings.Repeat("a", 301) },
		"areas[0]: in capitals":               func(s *Settings) { s.Profile.Areas = []string{"Seoul"} },
		"areas[0]: an empty part":             func(s *Settings) { s.Profile.Areas = []string{"seoul//x"} },
		"areas[1]: twice":                     func(s *Settings) { s.Profile.Areas = []string{"seoul", "seoul"} },
		"areas: too many":                     func(s *Settings) { s.Profile.Areas = many(51) },
		"modes: none":                         func(s *Settings) { s.Profile.Modes = nil },
		"modes[0]: unknown":                   func(s *Settings) { s.Profile.Modes = []Mode{"phone"} },
		"modes[1]: twice":                     func(s *Settings) { s.Profile.Modes = []Mode{Shop, Shop} },
		"menu[0].service: unknown":            func(s *Settings) { s.Menu[0].Service = "massage" },
		"menu[0].size: unknown":               func(s *Settings) { s.Menu[0].Size = "giant" },
		"menu[0].minutes: none":               func(s *Settings) { s.Menu[0].Minutes = 0 },
		"menu[0].minutes: more than a day":    func(s *Settings) { s.Menu[0].Minutes = 2000 },
		"menu[0].price_krw: negative":         func(s *Settings) { s.Menu[0].PriceKRW = -1 },
		"menu[1]: twice":                      func(s *Settings) { s.Menu[1] = s.Menu[0] },
		"hours[0].weekday: unknown":           func(s *Settings) { s.Hours[0].Weekday = "monday" },
		"hours[0]: no time":                   func(s *Settings) { s.Hours[0].Opens = "25:00" },
		"hours[0].breaks[0]: outside":         func(s *Settings) { s.Hours[0].Breaks = []schedule.Break{{From: "09:00", To: "11:00"}} },
		"hours[1]: overlaps":                  func(s *Settings) { s.Hours[1].Weekday = "mon" },
		"hours: too many":                     func(s *Settings) { s.Hours = make([]schedule.Hours, 100) },
		"hours[0].breaks: too many":           func(s *Settings) { s.Hours[0].Breaks = make([]schedule.Break, 100) },
		"buffer_minutes: negative":            func(s *Settings) { s.Policies.BufferMinutes = -1 },
		"min_notice_minutes: huge":            func(s *Settings) { s.Policies.MinNoticeMinutes = 1 << 40 },
		"horizon_days: huge":                  func(s *Settings) { s.Policies.HorizonDays = 1000 },
		"request_expires_minutes: none":       func(s *Settings) { s.Policies.Booking, s.Policies.RequestExpiresMinutes = OnRequest, 0 },
		"booking: unknown":                    func(s *Settings) { s.Policies.Booking = "maybe" },
		"cancellation: too many":              func(s *Settings) { s.Policies.Cancellation = make([]RefundTier, 11) },
		"cancellation[0].hours_before: minus": func(s *Settings) { s.Policies.Cancellation[0].HoursBefore = -1 },
		"cancellation[0].refund_percent: 101": func(s *Settings) { s.Policies.Cancellation[0].RefundPercent = 101 },
		"cancellation[1].hours_before: twice": func(s *Settings) { s.Policies.Cancellation[1].HoursBefore = 24 },
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			s := salon()
			change(&s)
			events, err := Groomer{}.Put("kim", kim, s)
			var r domain.Refusal
			place, _, _ := strings.Cut(where, ":")
			if !errors.As(err, &r) || r.Code != "request.invalid" || !strings.HasPrefix(r.Detail, place) || events != nil {
				t.Errorf("got %v, %v", events, err)
			}
		})
	}
	for _, id := range []string{"", "Kim", "kim.1", strings.Repeat("k", 41)} {
		if _, err := (Groomer{}).Put(id, root, salon()); !errors.Is(err, invalidRequest) {
			t.Errorf("id %q: got %v", id, err)
		}
	}
	for _, zone := range []string{"UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+9", "America/Port-au-Prince"} {
		s := salon()
		s.Zone = zone
		if _, err := (Groomer{}).Put("kim", kim, s); err != nil {
			t.Errorf("zone %q: %v", zone, err)
		}
	}
}

func TestTimeOff(t *testing.T) {
	t.Parallel()
	add := func(from, to string, by domain.Actor) func(Groomer) ([]domain.Event, error) {
		return func(g Groomer) ([]domain.Event, error) {
			return g.AddTimeOff("t9", by, kst(from), kst(to), secret, now)
		}
	}
	remove := func(id string, by domain.Actor) func(Groomer) ([]domain.Event, error) {
		return func(g Groomer) ([]domain.Event, error) { return g.RemoveTimeOff(id, by) }
	}
	off := func(id, from, to string) TimeOffAdded {
		return TimeOffAdded{TimeOffID: id, From: kst(from), To: kst(to), Reason: secret}
	}
	decide(t, salon(), []decision{
		{"a free time is blocked", nil, add("24 00:00", "26 00:00", kim), []domain.Event{off("t9", "24 00:00", "26 00:00")}, nil},
		{"an admin may", nil, add("24 00:00", "26 00:00", root), []domain.Event{off("t9", "24 00:00", "26 00:00")}, nil},
		{"it may have begun", nil, add("20 00:00", "26 00:00", kim), []domain.Event{off("t9", "20 00:00", "26 00:00")}, nil},
		{"two may overlap", []domain.Event{off("t1", "24 00:00", "26 00:00")}, add("25 00:00", "27 00:00", kim), []domain.Event{off("t9", "25 00:00", "27 00:00")}, nil},
		{"parts of a microsecond are dropped", nil, func(g Groomer) ([]domain.Event, error) {
			return g.AddTimeOff("t9", kim, kst("24 00:00").Add(1999), kst("26 00:00"), nobody, now)
		}, []domain.Event{TimeOffAdded{TimeOffID: "t9", From: kst("24 00:00").Add(time.Microsecond), To: kst("26 00:00")}}, nil},
		{"over a booking is refused", booked("r1", "24 10:00", ana), add("24 10:15", "26 00:00", kim), nil, ErrCalendarBooked},
		{"over a request is refused", asked, add("24 10:15", "26 00:00", kim), nil, ErrCalendarBooked},
		{"over a live hold is refused", []domain.Event{held("h1", "24 10:00", ana, "23 09:05")}, add("24 00:00", "24 10:15", kim), nil, ErrCalendarBooked},
		{"over a dead hold is allowed", []domain.Event{held("h1", "24 10:00", ana, "23 09:00")}, add("24 00:00", "26 00:00", kim), []domain.Event{off("t9", "24 00:00", "26 00:00")}, nil},
		{"over a cancelled booking is allowed", cancelled, add("24 00:00", "26 00:00", kim), []domain.Event{off("t9", "24 00:00", "26 00:00")}, nil},
		{"from the end of a booking is allowed, its buffer lies in it", booked("r1", "24 10:00", ana), add("24 10:30", "26 00:00", kim), []domain.Event{off("t9", "24 10:30", "26 00:00")}, nil},
		{"up to the start of a booking is allowed", booked("r1", "24 10:00", ana), add("23 00:00", "24 10:00", kim), []domain.Event{off("t9", "23 00:00", "24 10:00")}, nil},
		{"backwards is malformed", nil, add("26 00:00", "24 00:00", kim), nil, invalidRequest},
		{"empty is malformed", nil, add("26 00:00", "26 00:00", kim), nil, invalidRequest},
		{"wholly past is malformed", nil, add("20 00:00", "23 09:00", kim), nil, invalidRequest},
		{"a year that no database can spell is malformed", nil, func(g Groomer) ([]domain.Event, error) {
			return g.AddTimeOff("t9", kim, time.Time{}, kst("26 00:00"), nobody, now)
		}, nil, invalidRequest},
		{"more than a thousand are malformed", nil, func(g Groomer) ([]domain.Event, error) {
			for i := range maxTimeOff {
				g.TimeOff = g.TimeOff.with(&TimeOff{TimeOffID: strconv.Itoa(i)})
			}
			return g.AddTimeOff("t9", kim, kst("24 00:00"), kst("26 00:00"), nobody, now)
		}, nil, invalidRequest},
		{"another groomer may not", nil, add("24 00:00", "26 00:00", lee), nil, ErrForbidden},
		{"a customer may not", nil, add("24 00:00", "26 00:00", ana), nil, ErrForbidden},

		{"it is removed", []domain.Event{off("t1", "24 00:00", "26 00:00")}, remove("t1", kim), []domain.Event{TimeOffRemoved{TimeOffID: "t1"}}, nil},
		{"removed twice is a success", nil, func(g Groomer) ([]domain.Event, error) {
			return g.WithTimeOff(TimeOff{TimeOffID: "t1", Removed: true}).RemoveTimeOff("t1", kim)
		}, nil, nil},
		{"one that is over can be removed", nil, func(g Groomer) ([]domain.Event, error) {
			return g.WithTimeOff(TimeOff{TimeOffID: "t1", To: kst("20 00:00")}).RemoveTimeOff("t1", kim)
		}, []domain.Event{TimeOffRemoved{TimeOffID: "t1"}}, nil},
		{"one that never was is unknown", nil, remove("t1", kim), nil, ErrTimeOffUnknown},
		{"another groomer may not remove it", []domain.Event{off("t1", "24 00:00", "26 00:00")}, remove("t1", lee), nil, ErrForbidden},
	})
	if _, err := (Groomer{}).AddTimeOff("t1", kim, kst("24 00:00"), kst("25 00:00"), nobody, now); !errors.Is(err, ErrGroomerUnknown) {
		t.Errorf("a book that is not there: %v", err)
	}
}

// TestZones books on the nights when clocks jump: the rules are the zone's wall clock, the minutes are elapsed ones.
func TestZones(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, zone, opens, closes, start string
		minutes                          int
		refused                          error
		day                              string
	}{
		{"three hours of clock are two when one is skipped", "America/New_York", "01:00", "04:00", "2026-03-08T06:00:00Z", 120, nil, "2026-03-08"},
		{"and no minute more", "America/New_York", "01:00", "04:00", "2026-03-08T06:00:00Z", 121, ErrOutsideHours, ""},
		{"two hours of clock are three when one comes twice", "Europe/Berlin", "02:00", "04:00", "2026-10-25T00:00:00Z", 180, nil, "2026-10-25"},
		{"the second of two equal clock times can be booked", "Europe/Berlin", "02:00", "04:00", "2026-10-25T01:30:00Z", 60, nil, "2026-10-25"},
		{"before opening is before the first of the two", "Europe/Berlin", "02:30", "04:00", "2026-10-25T00:15:00Z", 30, ErrOutsideHours, ""},
		{"closed after the first of the two", "Europe/Berlin", "01:00", "02:30", "2026-10-25T00:15:00Z", 30, ErrOutsideHours, ""},
		{"a grid of 45 minutes is a grid of quarters", "Asia/Kathmandu", "09:00", "12:00", "2026-11-24T03:15:00Z", 60, nil, "2026-11-24"},
		{"and a full hour of UTC is on it", "Asia/Kathmandu", "09:00", "12:00", "2026-11-24T04:00:00Z", 60, nil, "2026-11-24"},
		{"a jump of half an hour moves no quarter", "Australia/Lord_Howe", "01:00", "04:00", "2026-10-03T15:30:00Z", 60, nil, "2026-10-04"},
		{"a day of 25 hours is open for 25", "America/New_York", "00:00", "24:00", "2026-11-01T04:00:00Z", 25*60 - 10, nil, "2026-11-01"},
		{"its midnight is the end of the buffer", "America/New_York", "00:00", "24:00", "2026-11-01T04:00:00Z", 25*60 - 9, ErrOutsideHours, ""},
		{"a day of 23 hours is open for 23", "America/New_York", "00:00", "24:00", "2026-03-08T05:00:00Z", 23*60 - 10, nil, "2026-03-08"},
		{"and not for 24", "America/New_York", "00:00", "24:00", "2026-03-08T05:00:00Z", 24*60 - 10, ErrOutsideHours, ""},
		{"a day that begins at one has no midnight", "Asia/Beirut", "00:00", "03:00", "2026-03-28T22:00:00Z", 120, nil, "2026-03-29"},
		{"and what was before belongs to the day before", "Asia/Beirut", "00:00", "03:00", "2026-03-28T21:45:00Z", 30, ErrOutsideHours, ""},
		{"the day is the zone's, not UTC's", "Asia/Seoul", "00:00", "03:00", "2026-11-23T15:30:00Z", 30, nil, "2026-11-24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			start, err := time.Parse(time.RFC3339, c.start)
			if err != nil {
				t.Fatal(err)
			}
			s := salon()
			s.Zone, s.Hours = c.zone, nil
			for _, d := range []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} {
				s.Hours = append(s.Hours, schedule.Hours{Weekday: d, Opens: c.opens, Closes: c.closes})
			}
			history := registered(t, s)
			long := MenuChanged{Menu: []MenuItem{{"bath", "small", c.minutes, 25_000}}} // longer than a menu may have it
			events, err := fold(then(history, long)).Request("r1", ana, Wish{Start: start, Mode: Shop, Dogs: bath("small")}, nobody, start.Add(-24*time.Hour))
			if !errors.Is(err, c.refused) {
				t.Fatalf("refused with %v, want %v", err, c.refused)
			}
			if err == nil {
				if diff := cmp.Diff(c.day, events[0].(Requested).Day); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			}
		})
	}
}
