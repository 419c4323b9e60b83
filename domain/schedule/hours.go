package schedule

import (
	"fmt"
	"slices"
	"time"
)

// weekdays as Hours spell them, by time.Weekday.
var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Open is when a salon with these hours is open on a day, sorted, without its breaks. Entries that touch are one, so a
// visit may go across. Hours that [CheckHours] refuses count as closed.
func Open(hours []Hours, day Date, loc *time.Location) []Interval {
	weekday := day.Weekday()
	var open, breaks []Interval
	for _, h := range hours {
		if h.Weekday != weekday {
			continue
		}
		i, err := between(h.Opens, h.Closes, day, loc)
		if err != nil {
			continue
		}
		open = append(open, i)
		for _, b := range h.Breaks {
			if i, err := between(b.From, b.To, day, loc); err == nil {
				breaks = append(breaks, i)
			}
		}
	}
	return Subtract(open, breaks)
}

// OpenBetween is Open of all days that [from, to) touches, one after the other.
func OpenBetween(hours []Hours, from, to time.Time, loc *time.Location) []Interval {
	var out []Interval
	for _, d := range Days(from, to, loc) {
		out = append(out, Open(hours, d, loc)...)
	}
	return out
}

// CheckHours says what is wrong with weekly hours: an unknown weekday, a time that is not HH:MM within 00:00–24:00, an
// end not after its begin, a break outside its hours, entries of a weekday that overlap.
func CheckHours(hours []Hours) error {
	type entry struct{ from, to, index int }
	byDay := map[string][]entry{}
	for n, h := range hours {
		if !slices.Contains(weekdays[:], h.Weekday) {
			return fmt.Errorf("hours[%d].weekday: want one of mon tue wed thu fri sat sun", n)
		}
		opens, closes, err := span(h.Opens, h.Closes)
		if err != nil {
			return fmt.Errorf("hours[%d]: %w", n, err)
		}
		for m, b := range h.Breaks {
			from, to, err := span(b.From, b.To)
			if err != nil {
				return fmt.Errorf("hours[%d].breaks[%d]: %w", n, m, err)
			}
			if from < opens || to > closes {
				return fmt.Errorf("hours[%d].breaks[%d]: outside its hours", n, m)
			}
		}
		for _, other := range byDay[h.Weekday] {
			if opens < other.to && other.from < closes {
				return fmt.Errorf("hours[%d]: overlaps hours[%d]", n, other.index)
			}
		}
		byDay[h.Weekday] = append(byDay[h.Weekday], entry{opens, closes, n})
	}
	return nil
}

func between(from, to string, day Date, loc *time.Location) (Interval, error) {
	a, b, err := span(from, to)
	if err != nil {
		return Interval{}, err
	}
	return Interval{day.At(a, loc), day.At(b, loc)}, nil
}

func span(from, to string) (a, b int, err error) {
	if a, err = minuteOfDay(from); err != nil {
		return 0, 0, err
	}
	if b, err = minuteOfDay(to); err != nil {
		return 0, 0, err
	}
	if a >= b {
		return 0, 0, fmt.Errorf("%s to %s: must end after it begins", from, to)
	}
	return a, b, nil
}

// minuteOfDay reads "HH:MM", 00:00 to 24:00.
func minuteOfDay(s string) (int, error) {
	if len(s) == 5 && s[2] == ':' {
		digit := func(i int) int { return int(s[i]) - '0' }
		for _, i := range []int{0, 1, 3, 4} {
			if d := digit(i); d < 0 || d > 9 {
				return 0, errClock
			}
		}
		h, m := digit(0)*10+digit(1), digit(3)*10+digit(4)
		if m < 60 && h*60+m <= 24*60 {
			return h*60 + m, nil
		}
	}
	return 0, errClock
}

var errClock = fmt.Errorf("want a time such as 09:30, from 00:00 to 24:00")
