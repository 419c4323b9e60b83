package readapi

import (
	"context"
	"time"

	"github.com/dangdangsalon/salon/projections/calendar"
)

// SlotDay is one day of a salon's calendar.
type SlotDay struct {
	Date string `json:"date" format:"date" doc:"In the salon's zone"`
	Free int    `json:"free" doc:"How many starts are free"`
}

// SlotDays is the days of a span, and the first free start from its beginning on, also beyond its end.
type SlotDays struct {
	Items    []SlotDay  `json:"items" nullable:"false"`
	NextFree *time.Time `json:"next_free" doc:"null when nothing is free as far ahead as the salon takes bookings"`
	Parked   bool       `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

func (s screens) listSlotDays(ctx context.Context, in *slotsInput) (*answer[SlotDays], error) {
	b, ask, err := s.ask(ctx, in, defaultDays)
	if err != nil {
		return nil, err
	}
	days, next, found, err := calendar.FreeDays(b.salon, b.taken, ask)
	if err != nil {
		return nil, err
	}
	out := &answer[SlotDays]{Body: SlotDays{Items: make([]SlotDay, len(days)), Parked: b.parked}}
	out.note(b.parked)
	for i, d := range days {
		out.Body.Items[i] = SlotDay(d)
	}
	if found {
		next = next.UTC()
		out.Body.NextFree = &next
	}
	return out, nil
}
