package eventstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

func TestACheckFindsWhatIsWrongWithAStore(t *testing.T) {
	t.Parallel()
	sound := func() []eventstore.Recorded {
		var events []eventstore.Recorded
		ends := map[string]eventstore.Revision{}
		for i := range 9 {
			stream := fmt.Sprint("stream-", i%2)
			r := eventstore.Recorded{
				Position: uint64(i + 1), Stream: stream, Revision: ends[stream], ID: uuid.New(), Type: "test.v1", Key: stream,
				RecordedAt: time.UnixMicro(int64(1000 + i/2)).UTC(), Data: []byte("{}"),
			}
			r.Hash = eventstore.ContentHash(r)
			ends[stream]++
			events = append(events, r)
		}
		return events
	}
	rehashed := func(r eventstore.Recorded) eventstore.Recorded {
		r.Hash = eventstore.ContentHash(r)
		return r
	}
	first := func(check eventstore.Check, events []eventstore.Recorded) error {
		for _, r := range events {
			if err := check.Next(r); err != nil {
				return err
			}
		}
		return nil
	}
	whole := eventstore.Check{Dense: true, Whole: true}
	for name, damage := range map[string]func([]eventstore.Recorded) []eventstore.Recorded{
		"an event is gone":             func(e []eventstore.Recorded) []eventstore.Recorded { return append(e[:4], e[5:]...) },
		"the first event is gone":      func(e []eventstore.Recorded) []eventstore.Recorded { return e[1:] },
		"an event stands twice":        func(e []eventstore.Recorded) []eventstore.Recorded { return append(e[:5], e[4:]...) },
		"an event says something else": func(e []eventstore.Recorded) []eventstore.Recorded { e[3].Data = []byte("{ }"); return e },
		"an event is of another stream": func(e []eventstore.Recorded) []eventstore.Recorded {
			e[3].Stream = "stream-0"
			e[3] = rehashed(e[3])
			return e
		},
		"a revision is missing": func(e []eventstore.Recorded) []eventstore.Recorded { e[8].Revision++; e[8] = rehashed(e[8]); return e },
		"time goes back": func(e []eventstore.Recorded) []eventstore.Recorded {
			e[6].RecordedAt = e[0].RecordedAt
			e[6] = rehashed(e[6])
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := first(whole, damage(sound())); !errors.Is(err, eventstore.ErrDamaged) {
				t.Errorf("want ErrDamaged, got: %v", err)
			}
		})
	}
	if err := first(whole, sound()); err != nil {
		t.Errorf("a sound store: %v", err)
	}
	if err := first(eventstore.Check{Dense: true}, sound()[4:]); err != nil {
		t.Errorf("a sound store's end: %v", err)
	}
	sparse := sound()
	for i := range sparse {
		sparse[i].Position *= 10
	}
	if err := first(eventstore.Check{Whole: true}, sparse); err != nil {
		t.Errorf("a sound store that is not dense: %v", err)
	}
}
