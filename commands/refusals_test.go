package commands

import (
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/admin"
	"github.com/dangdangsalon/salon/eventstore"
)

// refusalsOf are the operations and how often they were refused, over all notes.
func refusalsOf(t *testing.T, s eventstore.Store, stream string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for r, err := range s.ReadStream(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := eventstore.Catalog().Decode(r.Type, r.Data)
		if err != nil {
			t.Fatal(err)
		}
		if n, is := e.(admin.Refused); is {
			out[n.Operation] += n.Times
		}
	}
	return out
}

func TestRefusalsAreNotedOnceAMinuteAndNoneIsLost(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, open func() eventstore.Store) {
		s := open()
		broken := &answers{Store: s}
		r := &Refusals{Store: broken, Log: slog.New(slog.DiscardHandler)}
		kim, lee := domain.Actor{ID: "kim", Role: domain.Customer}, domain.Actor{ID: "lee", Role: domain.Groomer}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { r.Add(kim, "list-events") })
			all.Go(func() { r.Add(kim, "get-state") })
			all.Go(func() { r.Add(lee, "list-events") })
		}
		all.Wait()
		broken.lost = 1000 // the store answers nothing
		r.note(t.Context())
		r.Add(kim, "list-events")
		broken.lost, broken.written, broken.away = 1, true, true // it has the note, and then it is away
		r.note(t.Context())
		broken.away = false
		r.note(t.Context())
		r.note(t.Context()) // nothing is left to note
		for stream, want := range map[string]map[string]int{
			"admin-customer-kim": {"get-state": 50, "list-events": 51}, "admin-groomer-lee": {"list-events": 50},
		} {
			if got := refusalsOf(t, s, stream); !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", stream, got, want)
			}
		}
		for i := range 3 * mostRefusals {
			r.Add(domain.Actor{ID: fmt.Sprint("n", i), Role: domain.Customer}, "list-events")
		}
		if len(r.counts) != mostRefusals || r.more != 2*mostRefusals {
			t.Errorf("%d kept, %d more", len(r.counts), r.more)
		}
	})
}
