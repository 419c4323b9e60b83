package commands

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/domain/schedule"
	"github.com/dangdangsalon/salon/internal/httpserver"
)

// RegisterGroomer opens a groomer's book, or replaces what it says. What is booked stays as it was.
type RegisterGroomer struct {
	Name                  string         `json:"name" minLength:"1" maxLength:"50" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
	Address               string         `json:"address" minLength:"1" maxLength:"200" pattern:"^[^\\x00-\\x1f\\x7f]+$"`
	Areas                 []Area         `json:"areas" maxItems:"20" nullable:"false"`
	Modes                 []string       `json:"modes" minItems:"1" maxItems:"2" nullable:"false" enum:"shop,visit"`
	Zone                  string         `json:"zone" required:"false" maxLength:"64" doc:"IANA; fixed once the groomer exists. Defaults to Asia/Seoul"`
	Menu                  []MenuEntry    `json:"menu" maxItems:"24" nullable:"false"`
	Hours                 []OpeningHours `json:"hours" maxItems:"28" nullable:"false"`
	BufferMinutes         int            `json:"buffer_minutes" required:"false" minimum:"0" maximum:"240" doc:"Kept free after each visit"`
	MinNoticeMinutes      int            `json:"min_notice_minutes" required:"false" minimum:"0" maximum:"129600"`
	HorizonDays           int            `json:"horizon_days" required:"false" minimum:"1" maximum:"365" default:"60"`
	Booking               string         `json:"booking" enum:"instant,request"`
	RequestExpiresMinutes int            `json:"request_expires_minutes" required:"false" minimum:"1" maximum:"43200" default:"1440"`
	Cancellation          []CancelTier   `json:"cancellation" required:"false" maxItems:"10" nullable:"false"`
}

// Area is a place as a path from the large to the small.
type Area string

// Schema is for huma.
func (Area) Schema(huma.Registry) *huma.Schema {
	most := 100
	return &huma.Schema{
		Type: huma.TypeString, MaxLength: &most, Pattern: `^[a-z0-9-]+(/[a-z0-9-]+){0,4}$`,
		PatternDescription: "lower-case letters, digits and hyphens, up to five parts joined by /", Examples: []any{"seoul/gangnam-gu"},
	}
}

// MenuEntry is one service for one size of dog.
type MenuEntry struct {
	Service  string `json:"service" enum:"bath,trim,full_clip,scissor_cut,nails,skin,teeth,ears"`
	Size     string `json:"size" enum:"small,medium,large"`
	Minutes  int    `json:"minutes" minimum:"1" maximum:"720"`
	PriceKRW int64  `json:"price_krw" minimum:"0" maximum:"100000000"`
}

// OpeningHours is one opening on one weekday, wall clock in the groomer's zone.
type OpeningHours struct {
	Weekday string       `json:"weekday" enum:"mon,tue,wed,thu,fri,sat,sun"`
	Opens   string       `json:"opens" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" example:"10:00"`
	Closes  string       `json:"closes" pattern:"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$" example:"19:00"`
	Breaks  []ShortBreak `json:"breaks,omitempty" maxItems:"6" nullable:"false"`
}

// ShortBreak is a pause within the hours.
type ShortBreak struct {
	From string `json:"from" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$"`
	To   string `json:"to" pattern:"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"`
}

// CancelTier refunds so much of the price when at least so many hours are left.
type CancelTier struct {
	HoursBefore   int `json:"hours_before" minimum:"0" maximum:"8760"`
	RefundPercent int `json:"refund_percent" minimum:"0" maximum:"100"`
}

// RegisterGroomer decides and records.
func (x *Executor) RegisterGroomer(ctx context.Context, m Meta, groomerID string, r RegisterGroomer) (Result[Book], error) {
	return x.registerGroomer(ctx, m, groomerID, r, nil)
}

func (x *Executor) registerGroomer(ctx context.Context, m Meta, groomerID string, r RegisterGroomer, seen revisions) (Result[Book], error) {
	settings := r.settings()
	return Execute(ctx, x, book(groomerID), m, func(b Book, _ time.Time) ([]domain.Event, error) {
		events, err := b.Put(groomerID, m.Actor, settings)
		if err != nil {
			return nil, err
		}
		return events, seen.check(b.Profiled)
	})
}

func (r RegisterGroomer) settings() groomer.Settings {
	s := groomer.Settings{
		Zone:    r.Zone,
		Profile: groomer.Profile{Name: r.Name, Address: r.Address},
		Policies: groomer.Policies{
			BufferMinutes: r.BufferMinutes, MinNoticeMinutes: r.MinNoticeMinutes, HorizonDays: r.HorizonDays,
			Booking: groomer.Booking(r.Booking), RequestExpiresMinutes: r.RequestExpiresMinutes,
		},
	}
	for _, a := range r.Areas {
		s.Profile.Areas = append(s.Profile.Areas, string(a))
	}
	for _, mode := range r.Modes {
		s.Profile.Modes = append(s.Profile.Modes, groomer.Mode(mode))
	}
	for _, item := range r.Menu {
		s.Menu = append(s.Menu, groomer.MenuItem(item))
	}
	for _, h := range r.Hours {
		open := schedule.Hours{Weekday: h.Weekday, Opens: h.Opens, Closes: h.Closes}
		for _, b := range h.Breaks {
			open.Breaks = append(open.Breaks, schedule.Break(b))
		}
		s.Hours = append(s.Hours, open)
	}
	for _, tier := range r.Cancellation {
		s.Policies.Cancellation = append(s.Policies.Cancellation, groomer.RefundTier(tier))
	}
	return s
}

// RegisteredGroomer is a groomer's settings as they stand. The read side answers the same shape.
type RegisteredGroomer struct {
	GroomerID string `json:"groomer_id"`
	RegisterGroomer
	Revision uint64 `json:"revision"`
}

func registered(b Book) RegisteredGroomer {
	out := RegisteredGroomer{GroomerID: b.GroomerID, Revision: b.Profiled, RegisterGroomer: RegisterGroomer{
		Name: b.Profile.Name, Address: b.Profile.Address, Zone: b.Zone,
		Areas: make([]Area, len(b.Profile.Areas)), Modes: make([]string, len(b.Profile.Modes)),
		Menu: make([]MenuEntry, len(b.Menu)), Hours: make([]OpeningHours, len(b.Hours)),
		BufferMinutes: b.Policies.BufferMinutes, MinNoticeMinutes: b.Policies.MinNoticeMinutes, HorizonDays: b.Policies.HorizonDays,
		Booking: string(b.Policies.Booking), RequestExpiresMinutes: b.Policies.RequestExpiresMinutes,
		Cancellation: make([]CancelTier, len(b.Policies.Cancellation)),
	}}
	for i, a := range b.Profile.Areas {
		out.Areas[i] = Area(a)
	}
	for i, mode := range b.Profile.Modes {
		out.Modes[i] = string(mode)
	}
	for i, item := range b.Menu {
		out.Menu[i] = MenuEntry(item)
	}
	for i, h := range b.Hours {
		out.Hours[i] = OpeningHours{Weekday: h.Weekday, Opens: h.Opens, Closes: h.Closes}
		for _, pause := range h.Breaks {
			out.Hours[i].Breaks = append(out.Hours[i].Breaks, ShortBreak(pause))
		}
	}
	for i, tier := range b.Policies.Cancellation {
		out.Cancellation[i] = CancelTier(tier)
	}
	return out
}

func (x *Executor) serveRegisterGroomer(api huma.API) {
	type input struct {
		Conditional
		GroomerID string `path:"groomer_id" pattern:"^[a-z0-9-]{1,40}$"`
		Body      RegisterGroomer
	}
	type output struct {
		Answer
		Body RegisteredGroomer
	}
	op := httpserver.Operation("register-groomer", http.MethodPut, "/v1/groomers/{groomer_id}", "Open a groomer's book, or change what it says", "groomer", "admin")
	huma.Register(api, op, func(ctx context.Context, in *input) (*output, error) {
		m, err := x.meta(ctx, "register_groomer", in.WriteHeaders, in.Body)
		if err != nil {
			return nil, err
		}
		r, err := x.registerGroomer(ctx, m, in.GroomerID, in.Body, in.matches)
		if err != nil {
			return nil, err
		}
		return &output{answer(x, in.WriteHeaders, r, r.State.Profiled), registered(r.State)}, nil
	})
}
