package schedule

import (
	"fmt"
	"time"
)

// Step is the distance of two starts on the grid.
const Step = 15 * time.Minute

// Date is a day of the calendar, in no zone. Dates compare with ==.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// DateOf is the day that the zone's calendar shows at t.
func DateOf(t time.Time, loc *time.Location) Date {
	y, m, d := t.In(loc).Date()
	return Date{y, m, d}
}

// ParseDate reads "2026-11-24".
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("date %q: want a day such as 2026-11-24", s)
	}
	return DateOf(t, time.UTC), nil
}

func (d Date) String() string { return d.midnight().Format(time.DateOnly) }

// Weekday is the name that Hours uses: mon, tue, …
func (d Date) Weekday() string { return weekdays[d.midnight().Weekday()] }

// AddDays is n days later.
func (d Date) AddDays(n int) Date { return DateOf(d.midnight().AddDate(0, 0, n), time.UTC) }

// Before compares.
func (d Date) Before(e Date) bool { return d.midnight().Before(e.midnight()) }

// Start is the day's first instant in the zone.
func (d Date) Start(loc *time.Location) time.Time { return d.At(0, loc) }

// Interval is the whole day in the zone, 23 to 25 hours as a rule; empty for a day that the zone left out.
func (d Date) Interval(loc *time.Location) Interval {
	return Interval{d.Start(loc), d.AddDays(1).Start(loc)}
}

// At is the first instant at which the zone's clock shows so many minutes after midnight of the day, or later.
func (d Date) At(minutes int, loc *time.Location) time.Time {
	// The clock as if it were UTC; the answer is that minus the offset, once we know which offset holds there.
	// time.Date knows too, but leaves open which of two instants it gives.
	wall := d.midnight().Add(time.Duration(minutes) * time.Minute)
	// No zone was ever 26 hours from UTC: the clock shows an earlier time then.
	for t := wall.Add(-26 * time.Hour); ; {
		_, offset := t.In(loc).Zone()
		begin, end := t.In(loc).ZoneBounds() // zero: unbounded
		at := wall.Add(-time.Duration(offset) * time.Second)
		if !begin.IsZero() && at.Before(begin) {
			at = begin
		}
		if end.IsZero() || at.Before(end) {
			return at.UTC()
		}
		t = end
	}
}

// Days lists the days of the zone's calendar that [from, to) touches.
func Days(from, to time.Time, loc *time.Location) []Date {
	var out []Date
	for d := DateOf(from, loc); d.Start(loc).Before(to); d = d.AddDays(1) {
		if !d.Interval(loc).Empty() {
			out = append(out, d)
		}
	}
	return out
}

// OnGrid reports that the zone's clock shows a full quarter of an hour at t.
func OnGrid(t time.Time, loc *time.Location) bool { return pastGrid(t, loc) == 0 }

// NextOnGrid is the first instant on the grid that is not before t.
func NextOnGrid(t time.Time, loc *time.Location) time.Time {
	for {
		past := pastGrid(t, loc)
		if past == 0 {
			return t.UTC()
		}
		// Look again: a jump by odd seconds (local mean time had them) may lie in between and move the grid.
		t = t.Add(Step - past)
	}
}

func pastGrid(t time.Time, loc *time.Location) time.Duration {
	l := t.In(loc)
	return time.Duration(l.Minute()%15)*time.Minute + time.Duration(l.Second())*time.Second + time.Duration(l.Nanosecond())
}

func (d Date) midnight() time.Time { return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC) }
