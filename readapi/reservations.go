package readapi

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/groomers"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// Reservation is one as its parties and admins see it.
type Reservation struct {
	ReservationID string                    `json:"reservation_id"`
	Status        string                    `json:"status" enum:"requested,confirmed,checked_in,completed,declined,expired,cancelled,no_show"`
	GroomerID     string                    `json:"groomer_id"`
	CustomerID    string                    `json:"customer_id"`
	Start         time.Time                 `json:"start"`
	End           time.Time                 `json:"end"`
	Minutes       int                       `json:"minutes"`
	Mode          string                    `json:"mode" enum:"shop,visit"`
	Dogs          []Dog                     `json:"dogs" nullable:"false"`
	VisitAddress  *string                   `json:"visit_address"`
	Phone         *string                   `json:"phone"`
	Note          *string                   `json:"note"`
	PriceKRW      int64                     `json:"price_krw"`
	RefundPercent *int                      `json:"refund_percent" doc:"null until it is declined, expired or cancelled"`
	RoomID        string                    `json:"room_id"`
	Cancellation  []reservations.RefundTier `json:"cancellation" nullable:"false"`
	CreatedAt     time.Time                 `json:"created_at"`
	UpdatedAt     time.Time                 `json:"updated_at"`
	Revision      uint64                    `json:"revision"`
	Erased        []string                  `json:"erased,omitempty" doc:"Fields that are null because their person had them erased: phone, dogs[0].name"`
	Parked        bool                      `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

// Dog is one dog of a reservation.
type Dog struct {
	Name     *string  `json:"name"`
	Size     string   `json:"size" enum:"small,medium,large"`
	Services []string `json:"services" nullable:"false"`
}

func (s screens) registerReservations(api huma.API) {
	huma.Register(api, operation("list-reservations", "/v1/reservations", "Reservations, latest start first", "customer", "groomer", "admin"),
		s.listReservations)
	huma.Register(api, operation("get-reservation", "/v1/reservations/{reservation_id}", "One reservation", "customer", "groomer", "admin"),
		s.getReservation)
}

type reservationsInput struct {
	ReadHeaders
	Paging
	Between
	Status     string `query:"status" enum:"requested,confirmed,checked_in,completed,declined,expired,cancelled,no_show"`
	CustomerID string `query:"customer_id" pattern:"^[ -~]{1,128}$" doc:"Of a groomer's or all reservations: this customer's"`
	GroomerID  string `query:"groomer_id" pattern:"^[a-z0-9-]{1,40}$" doc:"Of a customer's or all reservations: at this groomer"`
}

// startsBefore is where a page of reservations begins: below this one, latest first.
type startsBefore struct {
	Start int64  `json:"s"` // microseconds since 1970
	ID    string `json:"i"`
}

func (s screens) listReservations(ctx context.Context, in *reservationsInput) (*answer[Page[Reservation]], error) {
	where, salon, err := in.conditions(caller(ctx))
	if err != nil {
		return nil, err
	}
	scope := Scope{Of: []engine.Projection{reservations.Projection()}}
	if salon != "" {
		scope.Keys = []string{salon}
		scope.Of = append(scope.Of, groomers.Projection()) // whose zone counts the days
	}
	var rows []reservations.Row
	var parked parkedKeys
	err = s.Read(ctx, in.ReadHeaders, scope, func(ctx context.Context, snap Snapshot) error {
		where := where // it may run again
		parked = snap.Parked("reservations")
		zone, err := snap.zoneOf(ctx, salon)
		if err != nil {
			return err
		}
		from, to, err := in.in(zone)
		if err != nil {
			return err
		}
		if !from.IsZero() {
			where.add("start_at >= ?", from.UnixMicro())
		}
		if !to.IsZero() {
			where.add("start_at < ?", to.UnixMicro())
		}
		rows, err = engine.Query(ctx, snap, reservations.Table, snap.Version("reservations"),
			where.where()+" ORDER BY start_at DESC, reservation_id DESC LIMIT ?", append(where.args, in.Limit+1)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	// Opened after the snapshot is given back: keys may have to be fetched from elsewhere.
	var out answer[Page[Reservation]]
	out.Body, err = page(rows, in.Limit,
		func(r reservations.Row) (Reservation, error) {
			item, err := s.reservation(ctx, r)
			item.Parked = parked[r.GroomerID]
			out.note(item.Parked)
			return item, err
		},
		func(r reservations.Row) any { return startsBefore{r.StartAt.UnixMicro(), r.ReservationID} })
	return &out, err
}

// conditions says which reservations are asked for, of those that the caller may see. salon is the one groomer whose
// reservations can be among them, "" when that is open.
func (in *reservationsInput) conditions(id auth.Identity) (c conditions, salon string, err error) {
	salon = in.GroomerID
	switch id.Role {
	case "customer":
		c.add("customer_id = ?", id.Sub)
	case "groomer":
		c.add("groomer_id = ?", id.Sub)
		salon = id.Sub
	}
	if in.CustomerID != "" {
		c.add("customer_id = ?", in.CustomerID)
	}
	if in.GroomerID != "" {
		c.add("groomer_id = ?", in.GroomerID)
	}
	if in.Status != "" {
		c.add("status = ?", in.Status)
	}
	var last startsBefore
	more, err := decodeCursor(in.Cursor, &last)
	if more && !reservationID.MatchString(last.ID) {
		err = badCursor()
	}
	if more {
		// Not as an OR at the top: MySQL would not walk the index from there.
		c.add("start_at <= ? AND (start_at < ? OR reservation_id < ?)", last.Start, last.Start, last.ID)
	}
	return c, salon, err
}

type reservationInput struct {
	ReadHeaders
	ReservationID string `path:"reservation_id"`
}

func (s screens) getReservation(ctx context.Context, in *reservationInput) (*tagged[Reservation], error) {
	salon, err := salonOf(in.ReservationID)
	if err != nil {
		return nil, err
	}
	var rows []reservations.Row
	var parked bool
	err = s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{reservations.Projection()}, Keys: []string{salon}},
		func(ctx context.Context, snap Snapshot) (err error) {
			parked = snap.Parked("reservations")[salon]
			rows, err = engine.Query(ctx, snap, reservations.Table, snap.Version("reservations"), "WHERE reservation_id = ?", in.ReservationID)
			return err
		})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !isParty(caller(ctx), rows[0].CustomerID, rows[0].GroomerID) {
		return nil, unknownReservation()
	}
	body, err := s.reservation(ctx, rows[0])
	body.Parked = parked
	out := tag(body, rows[0].Revision)
	out.note(parked)
	return &out, err
}

var reservationID = regexp.MustCompile(`^([a-z0-9-]{1,40})\.[0-9a-z]{26}$`)

// salonOf is the groomer whose reservation this is, by its ID; the error is 404 for what is no such ID.
func salonOf(id string) (string, error) {
	m := reservationID.FindStringSubmatch(id)
	if m == nil {
		return "", unknownReservation()
	}
	return m[1], nil
}

func unknownReservation() error {
	return problem.New(http.StatusNotFound, "reservation.unknown", "there is no such reservation of yours")
}

// isParty tells whether a reservation is the caller's to see.
func isParty(id auth.Identity, customerID, groomerID string) bool {
	switch id.Role {
	case "customer":
		return id.Sub == customerID
	case "groomer":
		return id.Sub == groomerID
	case "admin":
		return true
	}
	return false
}

// reservation opens a row's personal texts.
func (s screens) reservation(ctx context.Context, r reservations.Row) (Reservation, error) {
	out := Reservation{
		ReservationID: r.ReservationID,
		Status:        r.Status,
		GroomerID:     r.GroomerID,
		CustomerID:    r.CustomerID,
		Start:         r.StartAt,
		End:           r.EndAt,
		Minutes:       r.Minutes,
		Mode:          r.Mode,
		Dogs:          []Dog{},
		PriceKRW:      r.PriceKRW,
		RefundPercent: r.RefundPercent,
		RoomID:        r.ReservationID,
		Cancellation:  list(r.Cancellation),
		CreatedAt:     r.CreatedAt,
		UpdatedAt:     r.UpdatedAt,
		Revision:      r.Revision,
	}
	o := opening{ctx: ctx, texts: s.Texts}
	for i, d := range r.Dogs {
		out.Dogs = append(out.Dogs, Dog{o.open(d.Name, fmt.Sprintf("dogs[%d].name", i)), d.Size, list(d.Services)})
	}
	out.VisitAddress = o.open(r.VisitAddress, "visit_address")
	out.Phone = o.open(r.Phone, "phone")
	out.Note = o.open(r.Note, "note")
	out.Erased = o.erased
	return out, o.err
}

// opening opens several texts and remembers which are erased, and the first failure.
type opening struct {
	ctx    context.Context
	texts  Texts
	erased []string
	err    error
}

// open is nil for a text that was never given or was erased.
func (o *opening) open(s Sealed, field string) *string {
	if o.err != nil || s.IsZero() {
		return nil
	}
	plain, erased, err := o.texts.Open(o.ctx, s)
	switch {
	case err != nil:
		o.err = fmt.Errorf("open %s: %w", field, err)
		return nil
	case erased:
		o.erased = append(o.erased, field)
		return nil
	}
	return &plain
}
