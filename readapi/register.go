package readapi

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// Sealed is a personal text as rows carry it.
type Sealed = reservations.Sealed

// Texts opens personal texts: sealed.Keys. One that was never given is "", one whose key was destroyed is erased.
type Texts interface {
	Open(ctx context.Context, s Sealed) (plain string, erased bool, err error)
}

// Deps is what the screens need.
type Deps struct {
	Reads *reads.DB
	// Replica answers what it can in the place of Reads. Nil: there is none.
	Replica *Replica
	// Answered is told which copy was asked for each read of tables and, of the primary where there is a replica, why: "late",
	// "behind" or "failed". Nil: nobody counts.
	Answered func(by Copy, why string)
	Texts    Texts
	// Lives tells how the event store's lives follow one another, the oldest first. Nil: tokens of another life are
	// refused.
	Lives func(ctx context.Context) ([]Life, error)
	// Slots and Rooms are the Redis views of the calendar and of chat rooms. Nil answers from the tables behind them.
	Slots *engine.View
	Rooms *engine.View
	// Now is the clock by which free slots and live holds are told. Defaults to time.Now.
	Now func() time.Time
}

// screens is what every screen's handler hangs on.
type screens struct {
	Deps
	*Consistency
	watching *watching
	streams  *streams
}

// Register adds every screen to the API.
func Register(api huma.API, deps Deps) { newScreens(deps).register(api) }

func newScreens(deps Deps) screens {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := NewConsistency(deps.Reads, deps.Lives)
	c.replica, c.answered = deps.Replica, deps.Answered
	return screens{deps, c, newWatching(deps.Reads), newStreams()}
}

func (s screens) register(api huma.API) {
	s.registerMe(api)
	s.registerGroomers(api)
	s.registerReservations(api)
	s.registerHistory(api)
	s.registerEvents(api)
	s.registerStats(api)
	s.registerCalendar(api)
	s.registerChat(api)
	s.registerNotifications(api)
}
