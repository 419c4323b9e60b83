package audit

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// The kinds of what an event is found by. They are part of what is stored: never changed.
const (
	byType        = "type"
	byActor       = "actor"
	byCommand     = "command"
	byCorrelation = "correlation"
	byCausation   = "causation"
	byID          = "id"
)

// lookupsOf are what an event is found by. An event whose metadata cannot be read is found by its ID and type. A correlation
// or a cause that is the command itself is found by the command: most are.
func lookupsOf(r eventstore.Recorded) []eventstore.Lookup {
	out := make([]eventstore.Lookup, 0, 6)
	add := func(kind, text string) {
		out = append(out, eventstore.Lookup{Value: eventstore.LookupValue(kind, text), Position: r.Position})
	}
	add(byID, r.ID.String())
	add(byType, r.Type)
	m, err := eventstore.DecodeMetadata(r.Metadata)
	if err != nil {
		return out
	}
	add(byActor, m.Actor.Subject())
	add(byCommand, m.CommandID.String())
	if m.CorrelationID != m.CommandID.String() {
		add(byCorrelation, m.CorrelationID)
	}
	if m.CausationID != m.CommandID.String() {
		add(byCausation, m.CausationID)
	}
	return out
}

// Indexer follows the store and notes what its events are found by. Any number may run: whoever is behind another has
// nothing to do. Killed anywhere, it goes on from where the index ends.
type Indexer struct {
	Store   eventstore.Store
	Lookups eventstore.Lookups
	Log     *slog.Logger
}

const (
	// indexEach is how long it lets events gather: what is not in the index yet is looked for in the events themselves, and
	// each addition costs the store a commit.
	indexEach = 500 * time.Millisecond
	// indexAtOnce is how many events an addition is about: SQLite's appends wait for it.
	indexAtOnce = 256
)

// Run follows until ctx ends. A store that is away, or busy, is tried again. While others append it rests three times as long as
// each addition took: they come first, and what is not in the index is found without it.
func (x *Indexer) Run(ctx context.Context) error {
	tick := time.NewTicker(indexEach)
	defer tick.Stop()
	said := ""
	for {
		through, err := x.through(ctx, x.rest)
		if err == nil {
			said = ""
			err = x.Store.Wait(ctx, through)
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			x.Log.WarnContext(ctx, "events are not being made ready to be looked up; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Through brings the index to the store's end, and answers where that is.
func (x *Indexer) Through(ctx context.Context) (uint64, error) {
	return x.through(ctx, func(context.Context, time.Time) error { return nil })
}

// rest waits when the store's last event is new.
func (x *Indexer) rest(ctx context.Context, began time.Time) error {
	took := time.Since(began)
	head, err := x.Store.Head(ctx)
	if err != nil || time.Since(head.RecordedAt) > time.Second {
		return err
	}
	timer := time.NewTimer(3 * took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// through calls rest after each addition of many, with the time when it began.
func (x *Indexer) through(ctx context.Context, rest func(ctx context.Context, began time.Time) error) (uint64, error) {
	for {
		from, err := x.Lookups.LookupsThrough(ctx)
		if err != nil {
			return 0, err
		}
		through, n, add := from, 0, []eventstore.Lookup{}
		for r, err := range x.Store.ReadAll(ctx, from, eventstore.Filter{}) {
			if err != nil {
				return from, err
			}
			through, add = r.Position, append(add, lookupsOf(r)...)
			if n++; n < indexAtOnce {
				continue
			}
			began := time.Now()
			moved, err := x.Lookups.AddLookups(ctx, from, through, add)
			if err == nil && moved {
				err = rest(ctx, began)
			}
			if err != nil {
				return from, err
			}
			if !moved {
				break // another follower was here: go on from where it is
			}
			from, n, add = through, 0, add[:0]
		}
		if n == 0 {
			return through, nil
		}
		if n < indexAtOnce {
			moved, err := x.Lookups.AddLookups(ctx, from, through, add)
			if err != nil || moved {
				return through, err
			}
		}
	}
}

// commandText is a command's ID as it is noted.
func commandText(id string) (string, bool) {
	u, err := uuid.Parse(id)
	return u.String(), err == nil
}
