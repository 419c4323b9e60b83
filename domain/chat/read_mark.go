package chat

import "github.com/dangdangsalon/salon/domain"

// ReadMark is how far one member has read. It stands in a stream of its own, so that reading never makes posting wait.
type ReadMark struct {
	Seq uint64 `json:"seq"`
}

// EvolveRead folds a fact into the mark.
func EvolveRead(m ReadMark, f domain.Fact) ReadMark {
	if e, ok := f.Event.(ReadMarked); ok {
		m.Seq = e.Seq
	}
	return m
}

// Mark moves the mark forward to seq. One that is there already stays, without an event. head is the last message that
// the member may read ([Room.Head], which also says whether they are one): nobody has read what was not posted.
func (m ReadMark) Mark(roomID string, by domain.Actor, seq, head uint64) ([]domain.Event, error) {
	if seq > head {
		return nil, domain.Refuse("request.invalid", "seq: the room ends at %d", head)
	}
	if seq <= m.Seq {
		return nil, nil
	}
	return []domain.Event{ReadMarked{RoomID: roomID, Reader: by, Seq: seq}}, nil
}

// RewindRead gives the mark right after a fact of its own.
func RewindRead(_ ReadMark, f domain.Fact) (ReadMark, bool) { return EvolveRead(ReadMark{}, f), true }
