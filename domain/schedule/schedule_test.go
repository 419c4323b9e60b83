package schedule

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Zones whose clocks do something odd, and two that never do.
var zones = []string{
	"Asia/Seoul", "Asia/Kathmandu", // +9 and +5:45, no summer time
	"America/New_York", "Europe/Berlin", // jumps at 02:00
	"America/St_Johns", "Pacific/Chatham", // -3:30, +12:45
	"Australia/Lord_Howe",                               // a jump of half an hour
	"America/Havana", "Asia/Beirut", "America/Santiago", // jumps at midnight
}

func zone(t rapid.TB, name string) *time.Location {
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func utc(t rapid.TB, s string) time.Time {
	at, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// spans prints intervals as wall clock, "10:00-13:00".
func spans(in []Interval, loc *time.Location) string {
	var out []string
	for _, i := range in {
		out = append(out, i.Start.In(loc).Format("15:04")+"-"+i.End.In(loc).Format("15:04"))
	}
	return strings.Join(out, " ")
}

func TestOverlaps(t *testing.T) {
	t.Parallel()
	at := func(h int) time.Time { return time.Date(2026, 11, 24, h, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		name string
		a, b Interval
		want bool
	}{
		{"one inside the other", Interval{at(1), at(5)}, Interval{at(2), at(3)}, true},
		{"the end of one in the other", Interval{at(1), at(3)}, Interval{at(2), at(5)}, true},
		{"touching is not overlapping", Interval{at(1), at(2)}, Interval{at(2), at(3)}, false},
		{"apart", Interval{at(1), at(2)}, Interval{at(3), at(4)}, false},
		{"an empty one overlaps nothing", Interval{at(2), at(2)}, Interval{at(1), at(3)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.a.Overlaps(c.b) != c.want || c.b.Overlaps(c.a) != c.want {
				t.Errorf("want %v in both directions", c.want)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	every := func(opens, closes string, breaks ...Break) []Hours {
		var out []Hours
		for _, d := range weekdays {
			out = append(out, Hours{d, opens, closes, breaks})
		}
		return out
	}
	for _, c := range []struct {
		name, zone, day string
		hours           []Hours
		want            string
		minutes         int // open in all, elapsed
	}{
		{"hours without their breaks", "Asia/Seoul", "2026-11-24", every("10:00", "19:00", Break{"13:00", "14:00"}), "10:00-13:00 14:00-19:00", 480},
		{"another weekday is closed", "Asia/Seoul", "2026-11-24", []Hours{{"mon", "10:00", "19:00", nil}}, "", 0},
		{"entries that touch are one", "Asia/Seoul", "2026-11-24", []Hours{{"tue", "13:00", "19:00", nil}, {"tue", "09:00", "13:00", nil}}, "09:00-19:00", 600},
		{"two openings, the later one named first", "Asia/Seoul", "2026-11-24", []Hours{{"tue", "16:00", "19:00", []Break{{"17:00", "17:15"}}}, {"tue", "09:00", "12:00", nil}}, "09:00-12:00 16:00-17:00 17:15-19:00", 345},
		{"until midnight", "Asia/Seoul", "2026-11-24", every("18:00", "24:00"), "18:00-00:00", 360},
		{"a break as long as the opening leaves nothing", "Asia/Seoul", "2026-11-24", every("10:00", "19:00", Break{"10:00", "19:00"}), "", 0},
		{"the skipped hour is no hour, New York", "America/New_York", "2026-03-08", every("01:00", "05:00"), "01:00-05:00", 180},
		{"opening in the skipped hour opens at the jump", "America/New_York", "2026-03-08", every("02:30", "05:00"), "03:00-05:00", 120},
		{"closing in the skipped hour closes at the jump", "America/New_York", "2026-03-08", every("01:00", "02:30"), "01:00-03:00", 60},
		{"open only in the skipped hour is closed", "America/New_York", "2026-03-08", every("02:10", "02:50"), "", 0},
		{"the repeated hour is worked twice, New York", "America/New_York", "2026-11-01", every("00:00", "03:00"), "00:00-03:00", 240},
		{"a repeated opening is the first one", "Europe/Berlin", "2026-10-25", every("02:30", "05:00"), "02:30-05:00", 210},
		{"a repeated closing is the first one", "Europe/Berlin", "2026-10-25", every("01:00", "02:30"), "01:00-02:30", 90},
		{"a break in the repeated hour is taken once", "Europe/Berlin", "2026-10-25", every("02:00", "04:00", Break{"02:15", "02:30"}), "02:00-02:15 02:30-04:00", 165},
		{"half an hour of summer time", "Australia/Lord_Howe", "2026-10-04", every("00:00", "24:00"), "00:00-00:00", 23*60 + 30},
		{"a day that begins at one o'clock", "Asia/Beirut", "2026-03-29", every("00:00", "10:00"), "01:00-10:00", 540},
		{"a day that has two midnights", "America/Havana", "2026-11-01", every("00:00", "02:00"), "00:00-02:00", 180},
		{"a day that never was", "Pacific/Apia", "2011-12-30", every("00:00", "24:00"), "", 0},
		{"the day after it", "Pacific/Apia", "2011-12-31", every("09:00", "12:00"), "09:00-12:00", 180},
		{"hours that cannot be read count as closed", "Asia/Seoul", "2026-11-24", every("9:00", "12:00"), "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			loc := zone(t, c.zone)
			day, err := ParseDate(c.day)
			if err != nil {
				t.Fatal(err)
			}
			got, elapsed := Open(c.hours, day, loc), time.Duration(0)
			for _, i := range got {
				elapsed += i.End.Sub(i.Start)
			}
			if diff := cmp.Diff(c.want, spans(got, loc)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if want := time.Duration(c.minutes) * time.Minute; elapsed != want {
				t.Errorf("open for %v, want %v", elapsed, want)
			}
		})
	}
}

func TestCheckHours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		hours []Hours
		want  string // "" when it is fine
	}{
		{"a whole day", []Hours{{"mon", "00:00", "24:00", nil}}, ""},
		{"two that touch", []Hours{{"mon", "09:00", "13:00", nil}, {"mon", "13:00", "18:00", nil}}, ""},
		{"the same on two days", []Hours{{"mon", "09:00", "13:00", nil}, {"tue", "09:00", "13:00", nil}}, ""},
		{"a break up to the end", []Hours{{"mon", "09:00", "13:00", []Break{{"12:00", "13:00"}}}}, ""},
		{"overlapping", []Hours{{"mon", "09:00", "13:00", nil}, {"mon", "12:59", "18:00", nil}}, "overlaps"},
		{"a weekday in capitals", []Hours{{"Mon", "09:00", "13:00", nil}}, "weekday"},
		{"one digit", []Hours{{"mon", "9:00", "13:00", nil}}, "want a time"},
		{"past midnight", []Hours{{"mon", "09:00", "24:01", nil}}, "want a time"},
		{"sixty minutes", []Hours{{"mon", "09:60", "13:00", nil}}, "want a time"},
		{"a sign", []Hours{{"mon", "+9:00", "13:00", nil}}, "want a time"},
		{"backwards", []Hours{{"mon", "13:00", "09:00", nil}}, "end after"},
		{"empty", []Hours{{"mon", "09:00", "09:00", nil}}, "end after"},
		{"a break outside", []Hours{{"mon", "09:00", "13:00", []Break{{"12:30", "13:30"}}}}, "outside"},
		{"a break backwards", []Hours{{"mon", "09:00", "13:00", []Break{{"12:30", "12:00"}}}}, "end after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := CheckHours(c.hours)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestGrid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, zone, from, want string
	}{
		{"on it already", "Asia/Seoul", "2026-11-24 01:15", "2026-11-24 01:15"},
		{"just after", "Asia/Seoul", "2026-11-24 01:16", "2026-11-24 01:30"},
		{"offset of 45 minutes", "Asia/Kathmandu", "2026-11-24 01:16", "2026-11-24 01:30"},
		{"across a jump of half an hour", "Australia/Lord_Howe", "2026-10-03 15:29", "2026-10-03 15:30"},
		// On 1 July 1937 Amsterdam's clocks went from 24:00:00 to 00:00:28, so that midnight was no quarter there.
		{"across a jump of 28 seconds", "Europe/Amsterdam", "1937-06-30 22:40", "1937-06-30 22:55"},
		// Since then they were 20 minutes ahead of UTC.
		{"a zone whose minutes are its own", "Europe/Amsterdam", "1938-01-01 00:00", "1938-01-01 00:10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := NextOnGrid(utc(t, c.from), zone(t, c.zone)).Format("2006-01-02 15:04")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if loc := zone(t, "Asia/Seoul"); OnGrid(utc(t, "2026-11-24 01:15").Add(time.Nanosecond), loc) {
		t.Error("a nanosecond past the quarter is on the grid")
	}
}

func TestBookable(t *testing.T) {
	t.Parallel()
	loc := zone(t, "America/New_York")
	// 20:30 on 6 March in New York; the clocks go forward on the 8th.
	got := Bookable(utc(t, "2026-03-07 01:30"), 90, 2, loc)
	want := Interval{utc(t, "2026-03-07 03:00"), utc(t, "2026-03-09 04:00")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// anyDay draws a day within three of a jump, or any other.
func anyDay(t *rapid.T, loc *time.Location) Date {
	at := time.Unix(rapid.Int64Range(1_577_836_800, 2_208_988_800).Draw(t, "at"), 0) // 2020 to 2040
	if _, jump := at.In(loc).ZoneBounds(); !jump.IsZero() && rapid.IntRange(0, 3).Draw(t, "at a jump") > 0 {
		at = jump
	}
	return DateOf(at, loc).AddDays(rapid.IntRange(-2, 2).Draw(t, "days"))
}

func TestAWallClockIsTheFirstInstantThatShowsIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		loc := zone(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		day, minutes := anyDay(t, loc), rapid.IntRange(0, 24*60).Draw(t, "minutes")
		wall := day.midnight().Add(time.Duration(minutes) * time.Minute)
		// The clock of the zone, as if it were UTC.
		shows := func(at time.Time) time.Time {
			_, offset := at.In(loc).Zone()
			return at.Add(time.Duration(offset) * time.Second)
		}
		want := wall.Add(-26 * time.Hour)
		for shows(want).Before(wall) {
			want = want.Add(time.Minute)
		}
		if got := day.At(minutes, loc); !got.Equal(want) {
			t.Fatalf("%v + %d min in %v: got %v, want %v", day, minutes, loc, got, want.UTC())
		}
	})
}

func TestDaysFollowEachOtherAndHoldTheirInstants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		loc := zone(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		day := anyDay(t, loc)
		i := day.Interval(loc)
		if next := day.AddDays(1).Interval(loc); !i.End.Equal(next.Start) {
			t.Fatalf("%v ends at %v, the next day starts at %v", day, i.End, next.Start)
		}
		at := i.Start.Add(time.Duration(rapid.Int64Range(0, int64(i.End.Sub(i.Start))-1).Draw(t, "into")))
		if got := DateOf(at, loc); got != day {
			t.Fatalf("%v in %v lies in %v and shows %v", at, loc, day, got)
		}
	})
}

func TestFreeIsWhatAMinuteByMinuteSearchFinds(t *testing.T) {
	t.Parallel()
	clock := rapid.Custom(func(t *rapid.T) string {
		m := rapid.IntRange(0, 96).Draw(t, "quarter") * 15
		return time.Date(0, 1, 1, 0, m, 0, 0, time.UTC).Format("15:04")
	})
	rapid.Check(t, func(t *rapid.T) {
		loc := zone(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		day := anyDay(t, loc)
		hours := []Hours{{day.Weekday(), "00:00", "24:00", nil}} // one that leads up to midnight, half of the time
		if rapid.Bool().Draw(t, "own hours") {
			hours = []Hours{{day.Weekday(), clock.Draw(t, "opens"), clock.Draw(t, "closes"), []Break{{clock.Draw(t, "from"), clock.Draw(t, "to")}}}}
		}
		whole := day.Interval(loc)
		var busy []Interval
		for range rapid.IntRange(0, 4).Draw(t, "busy") {
			from := whole.Start.Add(time.Duration(rapid.IntRange(-60, 1500).Draw(t, "busy from")) * time.Minute)
			busy = append(busy, Occupied(from, rapid.IntRange(0, 200).Draw(t, "busy for"), 0))
		}
		from := whole.Start.Add(time.Duration(rapid.IntRange(-60, 600).Draw(t, "from")) * time.Minute)
		to := from.Add(time.Duration(rapid.IntRange(0, 1600).Draw(t, "to")) * time.Minute)
		minutes, buffer := rapid.IntRange(1, 300).Draw(t, "minutes"), rapid.IntRange(0, 60).Draw(t, "buffer")

		open := OpenBetween(hours, from.AddDate(0, 0, -1), to.AddDate(0, 0, 1), loc)
		var want []Interval
		for at := from; at.Before(to); at = at.Add(time.Minute) {
			visit, occupied := Occupied(at, minutes, 0), Occupied(at, minutes, buffer)
			ok := OnGrid(at, loc) && DateOf(occupied.End.Add(-1), loc) == DateOf(at, loc)
			inside := false
			for _, o := range open {
				inside = inside || o.Contains(visit)
			}
			for _, b := range busy {
				ok = ok && !b.Overlaps(occupied)
			}
			if ok && inside {
				want = append(want, visit)
			}
		}
		got := Free(open, busy, from, to, minutes, buffer, loc)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func TestSubtractLeavesNoInstantOfAHole(t *testing.T) {
	t.Parallel()
	at := func(m int) time.Time { return time.Unix(int64(m)*60, 0).UTC() }
	draw := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Interval {
		return Interval{at(rapid.IntRange(0, 60).Draw(t, "from")), at(rapid.IntRange(0, 60).Draw(t, "to"))}
	}), 0, 6)
	in := func(list []Interval, m int) bool {
		for _, i := range list {
			if i.Holds(at(m)) {
				return true
			}
		}
		return false
	}
	rapid.Check(t, func(t *rapid.T) {
		from, holes := draw.Draw(t, "from"), draw.Draw(t, "holes")
		got := Subtract(from, holes)
		for m := range 61 {
			if in(got, m) != (in(from, m) && !in(holes, m)) {
				t.Fatalf("minute %d of %v", m, got)
			}
		}
		for n, i := range got {
			if i.Empty() || n > 0 && !got[n-1].End.Before(i.Start) && got[n-1].End.After(i.Start) {
				t.Fatalf("not in order: %v", got)
			}
		}
	})
}
