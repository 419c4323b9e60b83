package notify

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/domain"
)

// Body is what an endpoint gets. Fields are only ever added.
type Body struct {
	ID            uuid.UUID    `json:"id"` // also in the header, where it is not signed
	Kind          string       `json:"kind"`
	Receiver      domain.Actor `json:"receiver"`
	ReservationID string       `json:"reservation_id,omitempty"`
	RoomID        string       `json:"room_id,omitempty"`
	Start         time.Time    `json:"start,omitzero"`
	Text          Text         `json:"text"`
	At            time.Time    `json:"at"` // of the event
	Event         About        `json:"event"`
}

// Text is the notification in both languages: whose device it is for, the endpoint knows.
type Text struct {
	Korean  string `json:"ko"`
	English string `json:"en"`
}

// About is the event behind a notification.
type About struct {
	ID   uuid.UUID `json:"id"`
	Type string    `json:"type"`
}

func bodyOf(k key, e Event, n Notice) []byte {
	b, err := json.Marshal(Body{
		ID: k.id(), Kind: n.Kind, Receiver: n.Receiver, ReservationID: n.ReservationID, RoomID: n.RoomID, Start: n.Start,
		Text: Text{n.Korean, n.English}, At: e.At, Event: About{e.ID, e.Type},
	})
	if err != nil {
		panic("notify: " + err.Error()) // strings, UUIDs and times
	}
	return b
}
