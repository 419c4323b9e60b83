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

func (m *moving) look(context.Context, []string) ([]engine.Place, error) {
	m.most.Store(max(m.most.Load(), m.looking.Add(1)))
	defer m.looking.Add(-1)
	<-time.After(time.Millisecond)                                        // a query; this is the bubble's time
	return []engine.Place{place("moving", uint64(m.looks.Add(1)))}, m.err //nolint:gosec // counts up
}

func place(projection string, n uint64) engine.Place {
	return engine.Place{Projection: projection, Topic: booking, Progress: engine.Progress{LastPos: n, Incarnation: life}}
}

func reaches(n uint64) lags { return lags{missing("moving", n)} }

func missing(projection string, n uint64) lag {
	return lag{projection: projection, topic: booking, want: n, incarnation: life}
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

// stands is where projections are, for as long as a test says.
type stands struct {
	mu     sync.Mutex
	places []engine.Place
	looks  int
	asked  []string
}

func (s *stands) look(_ context.Context, projections []string) ([]engine.Place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	s.asked = projections
	return s.places, nil
}

func (s *stands) at(places ...engine.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places = places
}

func TestWhoMissesSeveralThingsWaitsForAllOfThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s stands
		w := newWaiting(s.look)
		unknown := missing("chatrooms_v1", 1)
		unknown.part = unknownPart
		done := make(chan error)
		go func() {
			done <- w.until(t.Context(), lags{missing("reservations_v1", 7), missing("groomers_v1", 9), unknown})
		}()
		elsewhere := place("reservations_v1", 100)
		elsewhere.Incarnation = "before"
		for _, places := range [][]engine.Place{
			{},
			{elsewhere, place("groomers_v1", 9)},
			{place("reservations_v1", 7), place("groomers_v1", 8)},
			{place("reservations_v1", 7), place("groomers_v1", 9)},
		} {
			s.at(places...)
			<-time.After(time.Second)
			select {
			case err := <-done:
				t.Fatalf("over at %v: %v", places, err)
			default:
			}
		}
		s.at(place("chatrooms_v1", 0))
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(w.queues) != 0 || len(w.wanted) != 0 || w.count != 0 {
			t.Errorf("left behind: %v, %v, %d", w.queues, w.wanted, w.count)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.asked) != 3 {
			t.Errorf("looked at %v", s.asked)
		}
	})
}

func TestLooksGetRarerUntilSomebodyComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s stands
		w := newWaiting(s.look)
		long, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = w.until(long, lags{missing("reservations_v1", 1000)}) })
		<-time.After(20 * time.Second)
		s.mu.Lock()
		looks := s.looks
		s.mu.Unlock()
		if looks > 320 {
			t.Errorf("%d looks in 20 s for one who waits that long", looks)
		}
		s.at(place("reservations_v1", 5))
		began := time.Now()
		if err := w.until(t.Context(), lags{missing("reservations_v1", 5)}); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*shortestPeriod {
			t.Errorf("a newcomer's wish was seen after %v", took)
		}
		cancel()
		wg.Wait()
		if len(w.queues) != 0 || len(w.wanted) != 0 {
			t.Errorf("left behind: %v, %v", w.queues, w.wanted)
		}
	})
}

// What a look costs must not depend on how many wait for something else.
func TestALookTouchesOnlyThoseWhoseTimeHasCome(t *testing.T) {
	t.Parallel()
	w := newWaiting(nil)
	const crowd = 10_000
	wishes := make([]*wish, crowd)
	for i := range wishes {
		l := lags{missing("reservations_v1", uint64(i+1))} //nolint:gosec // counts up
		wishes[i] = &wish{left: l, named: l, met: make(chan struct{}), index: -1}
		w.join(wishes[i])
	}
	places := []engine.Place{place("reservations_v1", 10)}
	w.tell(places)
	met := 0
	for _, one := range wishes {
		select {
		case <-one.met:
			met++
		default:
		}
	}
	if met != 10 {
		t.Errorf("%d wishes were met at position 10", met)
	}
	const looks = 1000
	began := time.Now()
	for range looks {
		w.tell(places)
	}
	if each := time.Since(began) / looks; each > 200*time.Microsecond { // asking 10,000 of them takes more than that
		t.Errorf("a look at one partition takes %v while %d wait", each, crowd)
	}
	for _, one := range wishes {
		w.leave(one)
	}
	if len(w.queues) != 0 || len(w.wanted) != 0 || w.count != 0 {
		t.Error("left behind")
	}
}
