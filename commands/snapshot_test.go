package commands

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
)

// FuzzSnapshot: whatever bytes a snapshot holds, it gives a state that folds on and shows, or none.
func FuzzSnapshot(f *testing.F) {
	for _, history := range [][]told{bookHistory, roomHistory, markHistory} {
		s := Folded[Book]{}
		for _, fact := range facts(f, history) {
			s.State = evolveBook(s.State, fact)
		}
		frozen, err := freeze(bookKind, "s", s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frozen.State)
	}
	f.Add([]byte(`{"state":{"holds":[null],"reservations":[{}],"kept":[{},{}],"latest":{},"ids":{"from":[0],"sums":"AAAAAA=="}}}`))
	f.Add([]byte(`{"state":{"seq":-1},"at":"x","last":""}`))
	next := domain.Fact{Event: groomer.Cancelled{ReservationID: "x"}, Revision: 1, At: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)}
	f.Fuzz(func(t *testing.T, state []byte) {
		store := newMemory()
		x := newExecutor(t, store)
		try(t, x, store, bookKind, state, next)
		try(t, x, store, roomKind, state, next)
		try(t, x, store, markKind, state, next)
	})
}

func try[S any](t *testing.T, x *Executor, store eventstore.Store, k Kind[S], state []byte, next domain.Fact) {
	t.Helper()
	s := eventstore.Snapshot{Stream: "s", FoldVersion: k.FoldVersion, State: state}
	s.Hash = s.Sum()
	if err := store.SaveSnapshot(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	f := thaw(t.Context(), x, k, "s", latest)
	if f.State = k.Evolve(f.State, next); k.size(f.State) <= 0 {
		t.Errorf("a state of %d bytes", k.size(f.State))
	}
	if _, err := json.Marshal(f.State); err != nil {
		t.Errorf("read, it cannot be shown: %v", err)
	}
}
