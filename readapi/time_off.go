package readapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/engine"
)

// TimeOff is a span in which a groomer takes no bookings.
type TimeOff struct {
	TimeOffID string    `json:"time_off_id"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Reason    *string   `json:"reason"`
	Erased    []string  `json:"erased,omitempty"`
	Parked    bool      `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

type timeOffInput struct {
	ReadHeaders
	Paging
	Between
	GroomerID string `path:"groomer_id"`
}

// beginsAfter is where a page of time off begins: after this one, earliest first.
type beginsAfter struct {
	From int64  `json:"f"` // microseconds since 1970
	ID   string `json:"i"`
}

// listTimeOff shows what lies ahead and a little of what is over; old time off leaves the calendar by itself.
func (s screens) listTimeOff(ctx context.Context, in *timeOffInput) (*answer[Page[TimeOff]], error) {
	if id := caller(ctx); id.Role == "groomer" && id.Sub != in.GroomerID {
		return nil, problem.New(http.StatusForbidden, "auth.forbidden", "this is another groomer's time off")
	}
	if !groomerID.MatchString(in.GroomerID) {
		return nil, unknownGroomer()
	}
	where := conditions{}
	where.add("groomer_id = ?", in.GroomerID)
	where.add("kind = ?", calendar.TimeOff)
	var last beginsAfter
	if more, err := decodeCursor(in.Cursor, &last); err != nil || more && !strings.HasPrefix(last.ID, in.GroomerID+".") {
		return nil, badCursor()
	} else if more {
		where.add("start_at >= ? AND (start_at > ? OR id > ?)", last.From, last.From, last.ID)
	}
	var rows []calendar.Interval
	var parked bool
	err := s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{calendar.Projection()}, Keys: []string{in.GroomerID}},
		func(ctx context.Context, snap Snapshot) error {
			where := where // it may run again
			parked = snap.Parked("calendar")[in.GroomerID]
			version := snap.Version("calendar")
			salons, err := engine.Query(ctx, snap, calendar.Salons, version, "WHERE groomer_id = ?", in.GroomerID)
			if err != nil {
				return err
			}
			if len(salons) == 0 {
				return unknownGroomer()
			}
			zone, err := salons[0].Location()
			if err != nil {
				return err
			}
			from, to, err := in.in(zone)
			if err != nil {
				return err
			}
			if !from.IsZero() {
				where.add("end_at > ?", from.UnixMicro())
			}
			if !to.IsZero() {
				where.add("start_at < ?", to.UnixMicro())
			}
			rows, err = engine.Query(ctx, snap, calendar.Intervals, version,
				where.where()+" ORDER BY start_at, id LIMIT ?", append(where.args, in.Limit+1)...)
			return err
		})
	if err != nil {
		return nil, err
	}
	var out answer[Page[TimeOff]]
	out.note(parked)
	out.Body, err = page(rows, in.Limit,
		func(r calendar.Interval) (TimeOff, error) {
			o := opening{ctx: ctx, texts: s.Texts}
			return TimeOff{r.ID, r.StartAt, r.EndAt, o.open(r.Reason, "reason"), o.erased, parked}, o.err
		},
		func(r calendar.Interval) any { return beginsAfter{r.StartAt.UnixMicro(), r.ID} })
	return &out, err
}
