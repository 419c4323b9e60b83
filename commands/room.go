package commands

import (
	"context"

	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
)

var roomKind = Kind[chat.Room]{Evolve: chat.Evolve, FoldVersion: chat.FoldVersion, Rewind: chat.Rewind}

// entry is a room on the way to a decision: its target, and the members as the reservation names them.
//
// Once the room is opened it knows its members itself. Before, a decision is refused without them; then, and only
// then, the groomer's stream is asked.
type entry struct {
	Target[chat.Room]
	members chat.Members
}

func (x *Executor) enter(room string) (*entry, error) {
	if !bookID.MatchString(room) {
		return nil, chat.ErrRoomUnknown
	}
	e := &entry{Target: Target[chat.Room]{Kind: roomKind, Stream: eventstore.ChatStream(room), Key: room}}
	e.Recall = func(ctx context.Context, r chat.Room) (chat.Room, bool, error) {
		if r.RoomID != "" || e.members != (chat.Members{}) {
			return r, false, nil
		}
		var err error
		e.members, err = x.membersOf(ctx, room)
		return r, err == nil && e.members != (chat.Members{}), err
	}
	return e, nil
}

// Entered is a room as it stands in the store: who may read what of it.
type Entered struct {
	Members                   chat.Members
	Seq                       uint64 // of the last message; 0 for none
	CustomerLeft, GroomerLeft chat.Left
	// Revision is of the room's stream; what the log brings after it is news. -1 when nobody has posted or left yet: then
	// the members are the reservation's.
	Revision int64
}

// Enter reads who is in a room, on from what is remembered of it to the end of its stream. It is refused with
// chat.ErrRoomUnknown when there is no such reservation. Whether the caller is one of the members is the caller's to tell.
func (x *Executor) Enter(ctx context.Context, room string) (Entered, error) {
	entry, err := x.enter(room)
	if err != nil {
		return Entered{}, err
	}
	r, err := Load(ctx, x, entry.Target)
	if err != nil {
		return Entered{}, err
	}
	if r.State.RoomID == "" {
		_, found, err := entry.Recall(ctx, r.State)
		if err != nil {
			return Entered{}, err
		}
		if !found {
			return Entered{}, chat.ErrRoomUnknown
		}
		return Entered{Members: entry.members, Revision: int64(r.Revision)}, nil
	}
	s := r.State
	return Entered{s.Members, s.Seq, s.CustomerLeft, s.GroomerLeft, int64(r.Revision)}, nil
}

// membersOf is the parties of a reservation: of one that there is not, nobody.
func (x *Executor) membersOf(ctx context.Context, reservationID string) (chat.Members, error) {
	target, ok := bookOf(reservationID)
	if !ok {
		return chat.Members{}, nil
	}
	b, err := Load(ctx, x, target)
	if err != nil {
		return chat.Members{}, err
	}
	r, found := b.State.FindReservation(reservationID)
	if !found && b.State.Registered() {
		if r, found, err = x.pastReservation(ctx, b.State, reservationID); err != nil {
			return chat.Members{}, err
		}
	}
	if !found {
		return chat.Members{}, nil
	}
	return chat.Members{CustomerID: r.CustomerID, GroomerID: b.State.GroomerID}, nil
}
