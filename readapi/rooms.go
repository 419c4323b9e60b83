package readapi

import (
	"cmp"
	"context"
	"slices"

	"github.com/dangdangsalon/salon/internal/auth"
	"github.com/dangdangsalon/salon/projections/chatrooms"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// Room is a chat room as one of its members sees it.
type Room struct {
	RoomID      string   `json:"room_id" doc:"Also its reservation's ID"`
	CustomerID  string   `json:"customer_id"`
	GroomerID   string   `json:"groomer_id"`
	LastMessage *Message `json:"last_message" doc:"null before the first"`
	HeadSeq     uint64   `json:"head_seq" doc:"The last message that the caller may read; 0: none"`
	Unread      uint64   `json:"unread" doc:"How many of the other side's messages the caller has not read"`
	ReadSeq     uint64   `json:"read_seq" doc:"How far the other side has read"`
	OwnReadSeq  uint64   `json:"own_read_seq" doc:"How far the caller has read"`
	Left        bool     `json:"left" doc:"Whether the caller has left"`
	Parked      bool     `json:"parked,omitempty" doc:"true: older than the rest, since an event of it could not be applied yet"`
}

type roomsInput struct {
	ReadHeaders
	Paging
}

// activeBefore is where a page of rooms begins: below this one, latest activity first.
type activeBefore struct {
	At int64  `json:"t"` // microseconds since 1970
	ID string `json:"i"`
}

// listRooms joins two lists that are in the same order: rooms with messages by their last one, and reservations in
// whose room nobody has posted by when they were made. Each is a walk along an index, no longer than the page.
func (s screens) listRooms(ctx context.Context, in *roomsInput) (*answer[Page[Room]], error) {
	id := caller(ctx)
	var below *activeBefore
	var at activeBefore
	if more, err := decodeCursor(in.Cursor, &at); err != nil || more && !reservationID.MatchString(at.ID) {
		return nil, badCursor()
	} else if more {
		below = &at
	}
	var rooms []chatrooms.Room
	var talks, visits parkedKeys
	older := map[string]chatrooms.Message{} // by room: the last message that one who left may read
	err := s.Read(ctx, in.ReadHeaders, Scope{Of: []engine.Projection{chatrooms.Projection(), reservations.Projection()}},
		func(ctx context.Context, snap Snapshot) (err error) {
			talks, visits = snap.Parked("chatrooms"), snap.Parked("reservations")
			if rooms, err = snap.roomsOf(ctx, id, below, in.Limit+1); err != nil {
				return err
			}
			for _, r := range rooms {
				own, _ := r.Sides(id.Role)
				end := own.End(r.LastSeq)
				if end == r.LastSeq {
					continue
				}
				last, err := engine.Query(ctx, snap, chatrooms.Messages, snap.Version("chatrooms"),
					"WHERE room_id = ? AND seq = ?", r.RoomID, int64(end)) //nolint:gosec // seqs stay below 2^63
				if err != nil {
					return err
				}
				for _, m := range last {
					older[r.RoomID] = m
				}
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	var out answer[Page[Room]]
	out.Body, err = page(rooms, in.Limit,
		func(r chatrooms.Room) (Room, error) {
			item, err := s.room(ctx, id.Role, r, older)
			// A room in which nobody has posted yet is its reservation's.
			item.Parked = talks[r.RoomID] || r.LastSeq == 0 && visits[r.GroomerID]
			out.note(item.Parked)
			return item, err
		},
		func(r chatrooms.Room) any { return activeBefore{r.LastAt.UnixMicro(), r.RoomID} })
	return &out, err
}

// roomsOf lists up to n rooms of a member, latest activity first.
func (s Snapshot) roomsOf(ctx context.Context, id auth.Identity, below *activeBefore, n int) ([]chatrooms.Room, error) {
	member := "customer_id = ?"
	if id.Role == "groomer" {
		member = "groomer_id = ?"
	}
	spoken, quiet := conditions{}, conditions{}
	spoken.add(member, id.Sub)
	quiet.add(member, id.Sub)
	if below != nil {
		// Not as an OR at the top: MySQL would not walk the index from there.
		spoken.add("last_at <= ? AND (last_at < ? OR room_id < ?)", below.At, below.At, below.ID)
		quiet.add("created_at <= ? AND (created_at < ? OR reservation_id < ?)", below.At, below.At, below.ID)
	}
	version := s.Version("chatrooms")
	rooms, err := engine.Query(ctx, s, chatrooms.Rooms, version,
		spoken.where()+" ORDER BY last_at DESC, room_id DESC LIMIT ?", append(spoken.args, n)...)
	if err != nil {
		return nil, err
	}
	if len(rooms) == n { // what is older than these has no place on the page: do not walk through it
		quiet.add("created_at >= ?", rooms[n-1].LastAt.UnixMicro())
	}
	quiet.add("NOT EXISTS (SELECT 1 FROM " + chatrooms.Rooms.Def().Name(version) + " c WHERE c.room_id = reservation_id)")
	made, err := engine.Query(ctx, s, reservations.Table, s.Version("reservations"),
		quiet.where()+" ORDER BY created_at DESC, reservation_id DESC LIMIT ?", append(quiet.args, n)...)
	if err != nil {
		return nil, err
	}
	for _, r := range made {
		rooms = append(rooms, silent(r))
	}
	slices.SortFunc(rooms, func(a, b chatrooms.Room) int {
		return cmp.Or(b.LastAt.Compare(a.LastAt), cmp.Compare(b.RoomID, a.RoomID))
	})
	return rooms[:min(n, len(rooms))], nil
}

// room is a room as a member of this role sees it.
func (s screens) room(ctx context.Context, role string, r chatrooms.Room, older map[string]chatrooms.Message) (Room, error) {
	own, other := r.Sides(role)
	unread, _ := own.Unread()
	end := own.End(r.LastSeq)
	out := Room{
		RoomID: r.RoomID, CustomerID: r.CustomerID, GroomerID: r.GroomerID, HeadSeq: end,
		Unread: unread, ReadSeq: min(other.ReadSeq, end), OwnReadSeq: own.ReadSeq, Left: own.Left,
	}
	last, ok := r.Last()
	if end != r.LastSeq {
		last, ok = older[r.RoomID]
	}
	if !ok {
		return out, nil
	}
	m, err := s.message(ctx, last)
	out.LastMessage = &m
	return out, err
}
