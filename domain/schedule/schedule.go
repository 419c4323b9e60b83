// Package schedule is the arithmetic of time that a groomer's book and the free-slot screens share: intervals that
// may not overlap, the 15-minute grid, opening hours with breaks in a zone with daylight saving.
//
// Pure: values in, values out. Instants are UTC; wall clocks are read in the zone that the caller passes.
//
// One rule covers every odd night: a wall clock stands for the first instant at which the zone's clock shows it or
// later. A time that a jump skips is the instant of the jump, a time that comes twice is the first one, and all times
// of a day that never was (Pacific/Apia, 30 December 2011) are one instant, so nothing is open on it. Minutes of a
// visit are elapsed minutes, whatever the clock does meanwhile.
package schedule

import (
	"slices"
	"time"
)

// Hours is one opening on one weekday; a weekday may have several that do not overlap. Times are wall clock in the
// groomer's zone, "10:00"; Closes may be "24:00".
type Hours struct {
	Weekday string  `json:"weekday"` // mon tue wed thu fri sat sun
	Opens   string  `json:"opens"`
	Closes  string  `json:"closes"`
	Breaks  []Break `json:"breaks,omitempty"`
}

// Break is a pause within Hours.
type Break struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Interval is [Start, End). One that does not end after its start is empty.
type Interval struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Empty reports that no instant is in it.
func (i Interval) Empty() bool { return !i.Start.Before(i.End) }

// Overlaps reports an instant in both. Intervals that only touch do not overlap, and an empty one overlaps nothing.
func (i Interval) Overlaps(j Interval) bool {
	return i.Start.Before(j.End) && j.Start.Before(i.End) && !i.Empty() && !j.Empty()
}

// Contains reports that all of j lies in i.
func (i Interval) Contains(j Interval) bool {
	return !j.Start.Before(i.Start) && !j.End.After(i.End)
}

// Holds reports that t is in it.
func (i Interval) Holds(t time.Time) bool { return !t.Before(i.Start) && t.Before(i.End) }

// Merge sorts intervals by start and joins those that overlap or touch. Empty ones are left out. The argument is not
// changed.
func Merge(in []Interval) []Interval {
	sorted := slices.DeleteFunc(slices.Clone(in), Interval.Empty)
	slices.SortFunc(sorted, func(a, b Interval) int { return a.Start.Compare(b.Start) })
	out := sorted[:0]
	for _, i := range sorted {
		if last := len(out) - 1; last >= 0 && !i.Start.After(out[last].End) {
			if i.End.After(out[last].End) {
				out[last].End = i.End
			}
			continue
		}
		out = append(out, i)
	}
	return out
}

// Subtract is what of the intervals is left outside the holes, sorted by start: opening hours without the time off.
func Subtract(from, holes []Interval) []Interval {
	holes = Merge(holes)
	var out []Interval
	for _, i := range Merge(from) {
		for _, h := range holes {
			if !h.Overlaps(i) {
				continue
			}
			if before := (Interval{i.Start, h.Start}); !before.Empty() {
				out = append(out, before)
			}
			i.Start = h.End
		}
		if !i.Empty() {
			out = append(out, i)
		}
	}
	return out
}

// Occupied is what a visit keeps others from: its minutes and the buffer after them.
func Occupied(start time.Time, minutes, buffer int) Interval {
	return Interval{start, start.Add(time.Duration(minutes+buffer) * time.Minute)}
}

// Bookable is when a visit may start, decided at now: not before the minimum notice, and on a local day at most
// horizonDays after today.
func Bookable(now time.Time, noticeMinutes, horizonDays int, loc *time.Location) Interval {
	return Interval{
		Start: now.Add(time.Duration(noticeMinutes) * time.Minute),
		End:   DateOf(now, loc).AddDays(horizonDays + 1).Start(loc),
	}
}

// Free lists the visits of so many minutes that may start in [from, to), on the grid of the zone, ascending.
//
// A visit must lie in one of the open intervals (see [OpenBetween]; subtract the time off first); with its buffer it
// must overlap none of busy, which include their own buffers, and end by midnight. Decisions accept exactly these.
func Free(open, busy []Interval, from, to time.Time, minutes, buffer int, loc *time.Location) []Interval {
	busy = Merge(busy)
	var out []Interval
	for _, o := range Merge(open) {
		start := o.Start
		if start.Before(from) {
			start = from
		}
		var day Interval
		for start = NextOnGrid(start, loc); start.Before(to); start = NextOnGrid(start.Add(1), loc) {
			visit, occupied := Occupied(start, minutes, 0), Occupied(start, minutes, buffer)
			if visit.End.After(o.End) {
				break
			}
			if !day.Holds(start) {
				day = DateOf(start, loc).Interval(loc)
			}
			// Those that end before this start cannot matter to later ones either.
			for len(busy) > 0 && !busy[0].End.After(start) {
				busy = busy[1:]
			}
			if occupied.End.After(day.End) || len(busy) > 0 && busy[0].Overlaps(occupied) {
				continue
			}
			out = append(out, visit)
		}
	}
	return out
}
