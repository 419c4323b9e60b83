package readapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/engine"
)

// Slot is a visit that could be booked now.
type Slot struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Slots is a salon's free slots. The list is bounded by its span of time and has no pages.
type Slots struct {
	Items  []Slot `json:"items" nullable:"false"`
	Parked bool   `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

// How far one question may look, and how far it looks by default.
const (
	maxSpan      = 62 * 24 * time.Hour
	defaultSlots = 7 * 24 * time.Hour
	defaultDays  = 31 * 24 * time.Hour
)

type slotsInput struct {
	ReadHeaders
	Between
	GroomerID      string   `path:"groomer_id"`
	Minutes        int      `query:"minutes" minimum:"1" maximum:"1440" doc:"How long the visit takes"`
	Services       []string `query:"services" enum:"bath,trim,full_clip,scissor_cut,nails,skin,teeth,ears" maxItems:"8" uniqueItems:"true" doc:"Instead of minutes: what is to be done, separated by commas" example:"bath,nails"`
	Size           string   `query:"size" enum:"small,medium,large" doc:"Of the dog that the services are for"`
	ForReservation string   `query:"for_reservation" pattern:"^[a-z0-9-]{1,40}\\.[0-9a-z]{26}$" doc:"A reservation that is to be moved: its own time is free for its parties; minutes default to its own"`
}

func (s screens) registerCalendar(api huma.API) {
	huma.Register(api, operation("list-slots", "/v1/groomers/{groomer_id}/slots",
		"Free slots; advisory: the booking decides"), s.listSlots)
	huma.Register(api, operation("list-slot-days", "/v1/groomers/{groomer_id}/slots/days",
		"How many free slots each day has"), s.listSlotDays)
	huma.Register(api, operation("list-time-off", "/v1/groomers/{groomer_id}/time-off",
		"A groomer's time off, earliest first", "groomer", "admin"), s.listTimeOff)
}

func (s screens) listSlots(ctx context.Context, in *slotsInput) (*answer[Slots], error) {
	b, ask, err := s.ask(ctx, in, defaultSlots)
	if err != nil {
		return nil, err
	}
	free, err := calendar.Free(b.salon, b.taken, ask)
	if err != nil {
		return nil, err
	}
	out := &answer[Slots]{Body: Slots{Items: make([]Slot, len(free)), Parked: b.parked}}
	out.note(b.parked)
	for i, f := range free {
		out.Body.Items[i] = Slot{f.Start.UTC(), f.End.UTC()}
	}
	return out, nil
}

// book is a salon and all that is taken of its time from now on.
type book struct {
	salon  calendar.Salon
	taken  []calendar.Interval
	parked bool
}

// ask reads the salon's book, and the question in the light of it.
func (s screens) ask(ctx context.Context, in *slotsInput, defaultSpan time.Duration) (b book, ask calendar.Ask, err error) {
	if in.Minutes > 0 && len(in.Services) > 0 {
		return b, ask, problem.Invalid("query.minutes", "goes without services")
	}
	if (in.Size == "") != (len(in.Services) == 0) {
		return b, ask, problem.Invalid("query.size", "goes together with services")
	}
	ask = calendar.Ask{Now: s.Now().UTC(), Minutes: in.Minutes}
	if b, err = s.book(ctx, in, ask.Now); err != nil {
		return b, ask, err
	}
	zone, err := b.salon.Location()
	if err != nil {
		return b, ask, err
	}
	if ask.From, ask.To, err = in.span(zone, ask.Now, defaultSpan); err != nil {
		return b, ask, err
	}
	id := caller(ctx)
	if id.Role == "customer" {
		ask.Customer = id.Sub
	}
	if len(in.Services) > 0 {
		var offered bool
		if ask.Minutes, offered = b.salon.Duration(in.Services, in.Size); !offered {
			return b, ask, problem.New(http.StatusUnprocessableEntity, "service.not_offered", "not on the menu for dogs of this size")
		}
	}
	for _, i := range b.taken {
		// To others it is as if they had not asked: whether there is such a reservation is not theirs to know.
		if i.ID == in.ForReservation && i.Kind == calendar.Reservation && isParty(id, i.CustomerID, i.GroomerID) {
			ask.Moving, ask.Customer = i.ID, i.CustomerID
			if ask.Minutes == 0 {
				ask.Minutes = int(i.EndAt.Sub(i.StartAt).Minutes())
			}
		}
	}
	if ask.Minutes == 0 {
		return b, ask, problem.Invalid("query.minutes", "say how long the visit takes: minutes, or services and size")
	}
	return b, ask, nil
}

// span reads [from, to), from now on and so long when they were not given.
func (in *slotsInput) span(zone *time.Location, now time.Time, length time.Duration) (from, to time.Time, err error) {
	if from, to, err = in.in(zone); err != nil {
		return from, to, err
	}
	switch {
	case from.IsZero() && to.IsZero():
		from, to = now, now.Add(length)
	case from.IsZero():
		from = now
		if to.Before(from) {
			from = to // in the past: nothing is free
		}
	case to.IsZero():
		to = from.Add(length)
	}
	if to.Sub(from) > maxSpan+time.Hour { // a span of dates may have an hour more
		return from, to, problem.Invalid("query.to", "is more than 62 days after from")
	}
	return from, to, nil
}

func (s screens) book(ctx context.Context, in *slotsInput, now time.Time) (b book, err error) {
	if !groomerID.MatchString(in.GroomerID) {
		return b, unknownGroomer()
	}
	var salons []calendar.Salon
	err = s.ReadView(ctx, in.ReadHeaders, s.Slots, calendar.Topic, in.GroomerID,
		func(rows engine.ViewRows) (err error) {
			if salons, err = engine.ViewTable(rows, calendar.Salons); err != nil {
				return err
			}
			b.taken, err = engine.ViewTable(rows, calendar.Intervals)
			return err
		},
		[]engine.Projection{calendar.Projection()},
		func(ctx context.Context, snap Snapshot) (err error) {
			b.parked = snap.Parked("calendar")[in.GroomerID]
			version := snap.Version("calendar")
			if salons, err = engine.Query(ctx, snap, calendar.Salons, version, "WHERE groomer_id = ?", in.GroomerID); err != nil {
				return err
			}
			b.taken, err = engine.Query(ctx, snap, calendar.Intervals, version,
				"WHERE groomer_id = ? AND busy_until > ?", in.GroomerID, now.UnixMicro())
			return err
		})
	if err != nil {
		return b, err
	}
	if len(salons) == 0 {
		return b, unknownGroomer()
	}
	b.salon = salons[0]
	return b, nil
}

func unknownGroomer() error {
	return problem.New(http.StatusNotFound, "groomer.unknown", "there is no such groomer")
}
