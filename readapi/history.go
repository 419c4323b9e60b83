package readapi

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/history"
)

// Happening is one thing that happened to a reservation.
type Happening struct {
	Revision      uint64     `json:"revision"`
	What          string     `json:"what" enum:"requested,confirmed,declined,expired,cancelled,rescheduled,checked_in,completed,no_show"`
	At            time.Time  `json:"at"`
	By            Person     `json:"by"`
	Start         *time.Time `json:"start,omitempty" doc:"The start from here on"`
	FromStart     *time.Time `json:"from_start,omitempty" doc:"The start until then"`
	PriceKRW      *int64     `json:"price_krw,omitempty"`
	RefundPercent *int       `json:"refund_percent,omitempty"`
	Reason        *string    `json:"reason,omitempty"`
	Erased        []string   `json:"erased,omitempty"`
	Parked        bool       `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

// Person is who did something. The system itself expires requests.
type Person struct {
	ID   string `json:"id"`
	Role string `json:"role" enum:"customer,groomer,admin,analyst,system"`
}

type historyInput struct {
	ReadHeaders
	Paging
	ReservationID string `path:"reservation_id"`
}

func (s screens) registerHistory(api huma.API) {
	huma.Register(api, operation("reservation-history", "/v1/reservations/{reservation_id}/history",
		"Who did what when, oldest first", "customer", "groomer", "admin"), s.history)
}

func (s screens) history(ctx context.Context, in *historyInput) (*answer[Page[Happening]], error) {
	salon, err := salonOf(in.ReservationID)
	if err != nil {
		return nil, err
	}
	var after int64 = -1
	if _, err := decodeCursor(in.Cursor, &after); err != nil {
		return nil, err
	}
	var rows []history.Row
	var parked bool
	err = s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{history.Projection()}, Keys: []string{salon}},
		func(ctx context.Context, snap Snapshot) error {
			parked = snap.Parked("history")[salon]
			version := snap.Version("history")
			first, err := engine.Query(ctx, snap, history.Table, version,
				"WHERE reservation_id = ? ORDER BY revision LIMIT 1", in.ReservationID)
			if err != nil {
				return err
			}
			if len(first) == 0 || !isParty(caller(ctx), first[0].CustomerID, first[0].GroomerID) {
				return unknownReservation()
			}
			rows, err = engine.Query(ctx, snap, history.Table, version,
				"WHERE reservation_id = ? AND revision > ? ORDER BY revision LIMIT ?", in.ReservationID, after, in.Limit+1)
			return err
		})
	if err != nil {
		return nil, err
	}
	var out answer[Page[Happening]]
	out.note(parked)
	out.Body, err = page(rows, in.Limit,
		func(r history.Row) (Happening, error) {
			item, err := s.happening(ctx, r)
			item.Parked = parked
			return item, err
		},
		func(r history.Row) any { return r.Revision })
	return &out, err
}

func (s screens) happening(ctx context.Context, r history.Row) (Happening, error) {
	o := opening{ctx: ctx, texts: s.Texts}
	return Happening{
		Revision:      r.Revision,
		What:          r.What,
		At:            r.At,
		By:            Person{r.ActorID, r.ActorRole},
		Start:         given(r.StartAt),
		FromStart:     given(r.FromStartAt),
		PriceKRW:      r.PriceKRW,
		RefundPercent: r.RefundPercent,
		Reason:        o.open(r.Reason, "reason"),
		Erased:        o.erased,
	}, o.err
}

func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
