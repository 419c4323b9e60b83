package commands

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/dangdangsalon/salon/eventstore"
)

func TestAFailedWriteTellsTheKeyThatWasMadeForIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("instant")
	w.must(201, kimToken, "POST", "/v1/reservations", wish(at(2, 10, 0)))
	r := w.send(leeToken, "POST", "/v1/reservations", wish(at(2, 10, 0)))
	want(t, "status", r.status, 409)
	if r.header.Get("Idempotency-Key") == "" {
		t.Error("a failure without a key: had its outcome been unknown, nobody could settle it")
	}
}

// keysAway is a store whose person keys cannot be read once an append has happened.
type keysAway struct {
	eventstore.Store
	away bool
}

func (k *keysAway) Append(ctx context.Context, a eventstore.Append) (eventstore.Appended, error) {
	done, err := k.Store.Append(ctx, a)
	k.away = k.away || err == nil
	return done, err
}

func (k *keysAway) PersonKeyByID(ctx context.Context, subject, id string) ([]byte, bool, error) {
	if k.away {
		return nil, false, fmt.Errorf("%w: gone", eventstore.ErrUnavailable)
	}
	return k.Store.PersonKeyByID(ctx, subject, id)
}

func TestAnAcceptedWriteWhoseAnswerIsLostIsNotCalledUndone(t *testing.T) {
	t.Parallel()
	w := newWorld(t).salon("request")
	id := fmt.Sprint(w.must(201, kimToken, "POST", "/v1/reservations", wish(at(2, 10, 0))).body["reservation_id"])
	w.store = &keysAway{Store: w.store}
	w.restart() // a node that has no key in memory
	r := w.send(mongToken, "POST", "/v1/reservations/"+id+"/confirm", nil)
	want(t, "status and code", fmt.Sprint(r.status, " ", r.problem.Code), "503 outcome.unknown")
}

func TestOnlyAStoreThatIsAwayLosesAnAnswer(t *testing.T) {
	t.Parallel()
	damage := errors.New("damage")
	if err := happened(damage); !errors.Is(err, damage) || errors.Is(err, eventstore.ErrOutcomeUnknown) {
		t.Errorf("damage became %v", err)
	}
}
