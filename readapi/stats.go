package readapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/stats"
)

// Day is one groomer's figures of one day of appointments.
type Day struct {
	GroomerID  string `json:"groomer_id"`
	Day        string `json:"day" doc:"Of the appointment, in the groomer's zone" example:"2026-11-24"`
	Requested  int64  `json:"requested" doc:"All appointments of the day, whatever became of them"`
	Confirmed  int64  `json:"confirmed" doc:"Those that were ever confirmed"`
	Declined   int64  `json:"declined"`
	Expired    int64  `json:"expired"`
	Cancelled  int64  `json:"cancelled"`
	Completed  int64  `json:"completed"`
	NoShows    int64  `json:"no_shows"`
	RevenueKRW int64  `json:"revenue_krw" doc:"Of completed ones"`
	Parked     bool   `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

type statsInput struct {
	ReadHeaders
	Paging
	Between
	GroomerID string `query:"groomer_id" pattern:"^[a-z0-9-]{1,40}$" doc:"A groomer sees its own only, and need not say"`
}

// afterDay is where a page of days begins.
type afterDay struct {
	Day       string `json:"d"`
	GroomerID string `json:"g"`
}

func (s screens) registerStats(api huma.API) {
	huma.Register(api, operation("daily-stats", "/v1/stats/daily", "Figures by day of appointment, oldest first", "groomer", "analyst", "admin"),
		s.dailyStats)
}

func (s screens) dailyStats(ctx context.Context, in *statsInput) (*answer[Page[Day]], error) {
	salon, err := in.salon(caller(ctx))
	if err != nil {
		return nil, err
	}
	var where conditions
	scope := Scope{Of: []engine.Projection{stats.Projection()}}
	if salon != "" {
		where.add("groomer_id = ?", salon)
		scope.Keys = []string{salon}
		scope.Of = append(scope.Of, groomers.Projection()) // whose zone counts the days
	}
	var last afterDay
	more, err := decodeCursor(in.Cursor, &last)
	if err != nil {
		return nil, err
	}
	if more {
		if !groomerID.MatchString(last.GroomerID) || !isDate(last.Day) {
			return nil, badCursor()
		}
		where.add("day >= ? AND (day > ? OR groomer_id > ?)", last.Day, last.Day, last.GroomerID)
	}
	var out answer[Page[Day]]
	return &out, s.Read(ctx, in.ReadHeaders, scope, func(ctx context.Context, snap Snapshot) error {
		where := where // it may run again
		parked := snap.Parked("stats")
		zone, err := snap.zoneOf(ctx, salon)
		if err != nil {
			return err
		}
		from, to, err := in.days(zone)
		if err != nil {
			return err
		}
		if from != "" {
			where.add("day >= ?", from)
		}
		if to != "" {
			where.add("day <= ?", to)
		}
		rows, err := engine.Query(ctx, snap, stats.Table, snap.Version("stats"),
			where.where()+" ORDER BY day, groomer_id LIMIT ?", append(where.args, in.Limit+1)...)
		if err != nil {
			return err
		}
		out.Body, err = page(rows, in.Limit,
			func(r stats.Row) (Day, error) {
				out.note(parked[r.GroomerID])
				return dayOf(r, parked[r.GroomerID]), nil
			},
			func(r stats.Row) any { return afterDay{r.Day, r.GroomerID} })
		return err
	})
}

func dayOf(r stats.Row, parked bool) Day {
	return Day{
		GroomerID: r.GroomerID, Day: r.Day, Requested: r.Requested, Confirmed: r.Confirmed, Declined: r.Declined, Expired: r.Expired,
		Cancelled: r.Cancelled, Completed: r.Completed, NoShows: r.NoShows, RevenueKRW: r.RevenueKRW, Parked: parked,
	}
}

// salon is whose figures are asked for; "" is everybody's.
func (in *statsInput) salon(id auth.Identity) (string, error) {
	if id.Role != "groomer" || in.GroomerID == id.Sub {
		return in.GroomerID, nil
	}
	if in.GroomerID != "" {
		return "", problem.New(http.StatusForbidden, "auth.forbidden", "these are another groomer's figures")
	}
	return id.Sub, nil
}

// days reads the span as whole days: those in which it has a moment.
func (b Between) days(zone *time.Location) (from, to string, err error) {
	first, end, err := b.in(zone)
	if err != nil {
		return "", "", err
	}
	if from = b.From; from != "" && !isDate(from) {
		from = first.In(zone).Format(time.DateOnly)
	}
	if to = b.To; to != "" && !isDate(to) {
		to = end.Add(-time.Nanosecond).In(zone).Format(time.DateOnly)
	}
	return from, to, nil
}
