package calendar

import (
	"slices"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
)

// Some intervals end without an event: a hold dies, a visit passes, a holiday is over. A fold has no clock and no
// query, so each taken interval is noted in the passing list of its day, one of [ring] lists of its salon, and whatever
// event opens that list again, for this day or the one that is ring days later, deletes what has passed by then.

const (
	// ring is how many lists a salon has: what has passed waits at most about so many days of business to be deleted.
	// More lists keep more of the past; fewer are longer, and each is rewritten with every booking of its day.
	ring = 32
	// keptFor is how much longer a passed interval stays: the clock of whoever reads it may be behind the event's.
	keptFor = 24 * time.Hour
)

type passing struct {
	GroomerID string  `db:"groomer_id,pk"`
	Slot      int     `db:"slot,pk"` // day of the interval since 1970, modulo ring
	Ends      []ended `db:"ends"`
}

// ended is one interval's ID and when it takes no more time.
type ended struct {
	ID string `json:"i"`
	At int64  `json:"t"` // seconds since 1970
}

var passings = engine.NewTable[passing]("calendar_passings")

func slotOf(day time.Time) int { return int(((day.Unix()/86_400)%ring + ring) % ring) }

func passingRef(groomerID string, day time.Time) engine.Ref {
	return passings.Ref(groomerID, slotOf(day))
}

// take puts an interval, notes when it will have passed, and sweeps up what has.
func take(u *engine.Unit, e engine.Event, i Interval) error {
	Intervals.Put(u, i)
	day, until := i.StartAt, i.BusyUntil
	switch i.Kind {
	case Hold:
		until = i.ExpiresAt
	case TimeOff:
		day = i.EndAt
	}
	return sweep(u, e, day, i.ID, &ended{i.ID, until.Unix()})
}

// forget takes an interval off the list of a day: it moves elsewhere.
func forget(u *engine.Unit, e engine.Event, day time.Time, id string) error {
	return sweep(u, e, day, id, nil)
}

// sweep rewrites one list: without id, without what has passed (whose intervals it deletes), with added.
func sweep(u *engine.Unit, e engine.Event, day time.Time, id string, added *ended) error {
	slot := slotOf(day)
	row, _, err := passings.Get(u, e.Key, slot)
	if err != nil {
		return err
	}
	past := e.At.Add(-keptFor).Unix()
	ends := make([]ended, 0, len(row.Ends)+1) // a new one: rows share their slices
	for _, x := range row.Ends {
		switch {
		case x.ID == id:
		case x.At < past:
			Intervals.Delete(u, x.ID)
		default:
			ends = append(ends, x)
		}
	}
	if added != nil {
		ends = append(ends, *added)
	}
	passings.Put(u, passing{e.Key, slot, slices.Clip(ends)})
	return nil
}
