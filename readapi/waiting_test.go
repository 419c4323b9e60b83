package readapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
)

// moving is a projection that moves on by one position at each look.
type moving struct {
	looks, looking, most atomic.Int64
	err                  error
}

func (m *moving) look(context.Context) ([]engine.Place, error) {
	m.most.Store(max(m.most.Load(), m.looking.Add(1)))
	defer m.looking.Add(-1)
	<-time.After(time.Millisecond)                                                             // a query; this is the bubble's time
	return []engine.Place{{Progress: engine.Progress{LastPos: uint64(m.looks.Add(1))}}}, m.err //nolint:gosec // counts up
}

func reaches(n uint64) func([]engine.Place) bool {
	return func(places []engine.Place) bool { return places[0].LastPos >= n }
}

func TestOneLooksForAllWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m moving
		w := newWaiting(m.look)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if err := w.until(t.Context(), reaches(uint64(i+1))); err != nil { //nolint:gosec // small
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if m.most.Load() != 1 {
			t.Errorf("%d looked at once, want 1", m.most.Load())
		}
		// Each who hands the baton on may cause one look more than needed.
		if n := m.looks.Load(); n < 100 || n > 200 {
			t.Errorf("%d looks for 100 positions", n)
		}
		before := m.looks.Load()
		<-time.After(time.Minute)
		if m.looks.Load() != before {
			t.Error("somebody looks while nobody waits")
		}
	})
}

func TestWhoLooksMayLeaveWithoutHarmToTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m moving
		w := newWaiting(m.look)
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.until(short, reaches(1000)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one who looks: %v, want its deadline", err)
			}
		})
		synctest.Wait() // it looks
		wg.Go(func() {
			if err := w.until(t.Context(), reaches(30)); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
	})
}

func TestAFailedLookIsToldToEveryone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		m := moving{err: away}
		w := newWaiting(m.look)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := w.until(t.Context(), reaches(1)); !errors.Is(err, away) {
					t.Errorf("%v, want %v", err, away)
				}
			})
		}
		wg.Wait()
	})
}
