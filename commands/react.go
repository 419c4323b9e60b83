package commands

import (
	"context"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/eventstore"
)

// Cause is the event that makes the system act by itself.
type Cause struct {
	EventID       string
	CorrelationID string // of that event; "" is the command's own
}

// timers is who acts when a time has come.
var timers = domain.Actor{ID: "timers", Role: domain.System}

// ReactMeta is the metadata of a command on a reservation that an event made due. The command's ID derives from the event:
// issued twice, by one process or by two, it has one effect.
func (x *Executor) ReactMeta(ctx context.Context, command string, because Cause, reservationID string) (Meta, error) {
	id := eventstore.CommandID(string(timers.Role), timers.ID, "EVENT", command, because.EventID)
	m, err := x.NewMeta(ctx, timers, command, id, struct {
		ReservationID string `json:"reservation_id"`
	}{reservationID})
	if err != nil {
		return m, err
	}
	m.CausationID = because.EventID
	if because.CorrelationID != "" {
		m.CorrelationID = because.CorrelationID
	}
	return m, nil
}
