package groomer

import (
	"slices"

	"github.com/dangdangsalon/salon/domain/schedule"
)

// More openings a week, or breaks in one, than anybody has; they bound the state.
const (
	maxHours  = 7 * 8
	maxBreaks = 16
)

func checkHours(hours []schedule.Hours) error {
	if len(hours) > maxHours {
		return invalid("hours: want at most %d", maxHours)
	}
	for i, h := range hours {
		if len(h.Breaks) > maxBreaks {
			return invalid("hours[%d].breaks: want at most %d", i, maxBreaks)
		}
	}
	if err := schedule.CheckHours(hours); err != nil {
		return invalid("%s", err)
	}
	return nil
}

func equalHours(a, b schedule.Hours) bool {
	return a.Weekday == b.Weekday && a.Opens == b.Opens && a.Closes == b.Closes && slices.Equal(a.Breaks, b.Breaks)
}
