package commands

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/domain/chat"
	"github.com/dangdangsalon/salon/eventstore"
)

func TestEnterTellsWhoIsInARoomNow(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, open func() eventstore.Store) {
		w := newWorldOn(t, open()).salon("instant")
		room := strings.TrimPrefix(w.reserved(at(2, 10, 0)), "/v1/reservations/")
		path := "/v1/chat/rooms/" + room
		both := chat.Members{CustomerID: "kim", GroomerID: "mong"}
		node, _ := w.node() // another process: it learns of what this one did by reading on
		enter := func(when string, want Entered) {
			t.Helper()
			for name, x := range map[string]*Executor{"the writer": w.x, "another node": node} {
				got, err := x.Enter(t.Context(), room)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%s, %s: %v (-want +got)\n%s", when, name, err, diff)
				}
			}
		}
		enter("before the first message", Entered{Members: both, Revision: -1})
		w.must(201, kimToken, "POST", path+"/messages", map[string]any{"client_message_id": "a", "text": "안녕하세요"})
		enter("after the first", Entered{Members: both, Seq: 1, Revision: 1})
		w.must(201, mongToken, "POST", path+"/messages", map[string]any{"client_message_id": "b", "text": "네"})
		w.must(204, kimToken, "POST", path+"/leave", nil)
		enter("after kim left", Entered{Members: both, Seq: 2, CustomerLeft: chat.Left{Gone: true, Seq: 2}, Revision: 3})
		w.must(201, mongToken, "POST", path+"/messages", map[string]any{"client_message_id": "c", "text": "?"})
		enter("after a word to nobody", Entered{Members: both, Seq: 3, CustomerLeft: chat.Left{Gone: true, Seq: 2}, Revision: 4})

		for _, none := range []string{"", "x", pastID(1), "nobody." + strings.Repeat("0", 26), room + "0", "../" + room, strings.ToUpper(room)} {
			if got, err := node.Enter(t.Context(), none); !errors.Is(err, chat.ErrRoomUnknown) || got != (Entered{}) {
				t.Errorf("room %q: %+v, %v", none, got, err)
			}
		}

		// A reservation that is over, and that its book let go of, still has its room.
		w.must(200, kimToken, "POST", "/v1/reservations/"+room+"/cancel", nil)
		enter("after the reservation", Entered{Members: both, Seq: 3, CustomerLeft: chat.Left{Gone: true, Seq: 2}, Revision: 4})
	})
}

// away is a store whose streams of one kind cannot be read.
type away struct {
	eventstore.Store
	kind string
}

func (a away) ReadStream(ctx context.Context, stream string, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	if strings.HasPrefix(stream, a.kind) {
		return func(yield func(eventstore.Recorded, error) bool) {
			yield(eventstore.Recorded{}, eventstore.ErrUnavailable)
		}
	}
	return a.Store.ReadStream(ctx, stream, from)
}

// A store that is away is no room that is unknown: whoever asks would be told so for good.
func TestEnterOfAStoreThatIsAwaySaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	room := strings.TrimPrefix(w.reserved(at(2, 10, 0)), "/v1/reservations/")
	for _, kind := range []string{"chat-", "groomer-"} {
		w.x.store = away{w.store, kind}
		if _, err := w.x.Enter(t.Context(), room); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, chat.ErrRoomUnknown) {
			t.Errorf("without %s: %v", kind, err)
		}
	}
}
