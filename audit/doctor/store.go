package doctor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/wire"
)

// Store is an event store as it is examined; the contract is that of eventstore.Store.
type Store interface {
	ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error]
	Head(ctx context.Context) (eventstore.Head, error)
	eventstore.Timeline
}

const (
	// tailEvents is how many of the last events are held to their hashes and places.
	tailEvents = 1000
	// tailBytes is that of a store whose positions are places in a log.
	tailBytes = 1 << 20
)

// Tail is the end of a store: its last events, which are sound.
type Tail struct {
	Head   eventstore.Head
	Events []eventstore.Recorded // ascending
}

// ReadTail reads the last events and holds each to its hash, its place in its stream and its position. dense says that
// positions may have no holes.
func ReadTail(ctx context.Context, s Store, dense bool) (t Tail, err error) {
	if t.Head, err = s.Head(ctx); err != nil {
		return t, fmt.Errorf("does not answer: %w", err)
	}
	after, err := before(ctx, s, t.Head, dense)
	if err != nil {
		return t, err
	}
	back, err := eventstore.LoadedBack(ctx, s)
	if err != nil {
		return t, err
	}
	last := after
	check := eventstore.Check{Dense: dense, Back: back, Whole: after == 0}
	for r, err := range s.ReadAll(ctx, after, eventstore.Filter{}) {
		if err == nil && dense && r.Position != last+1 {
			err = fmt.Errorf("%w: position %d is followed by %d", eventstore.ErrDamaged, last, r.Position)
		}
		if err == nil {
			err = check.Next(r)
		}
		if err != nil {
			return t, damaged(err)
		}
		last = r.Position
		t.Events = append(t.Events, r)
	}
	if last < t.Head.Position {
		return t, damaged(fmt.Errorf("%w: the last position is %d, the head says %d", eventstore.ErrDamaged, last, t.Head.Position))
	}
	return t, nil
}

// before is a position that has about the last events behind it.
func before(ctx context.Context, s Store, head eventstore.Head, dense bool) (uint64, error) {
	far := uint64(tailEvents)
	if !dense {
		far = tailBytes
	}
	if head.Position <= far {
		return 0, nil
	}
	if dense {
		return head.Position - far, nil
	}
	place, err := s.LastPlace(ctx, head.Position-far, head.RecordedAt)
	return place.Position, err
}

// damaged says what to do about damage.
func damaged(err error) error {
	if errors.Is(err, eventstore.ErrDamaged) {
		return fmt.Errorf("%w; `salon events verify` names the first event that is not as it was sealed; then restore the store", err)
	}
	return err
}

// EveryEvent holds every event of a store to its hash, its place in its stream and its position, and its type to those
// that are known. say is told how far it is, about once a second.
func EveryEvent(ctx context.Context, s Store, known []string, dense bool, say func(position, head uint64)) (string, error) {
	head, err := s.Head(ctx)
	if err != nil {
		return "", err
	}
	back, err := eventstore.LoadedBack(ctx, s)
	if err != nil {
		return "", err
	}
	check, knows := eventstore.Check{Dense: dense, Back: back, Whole: true}, map[string]bool{}
	for _, name := range known {
		knows[name] = true
	}
	said := time.Now()
	for r, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
		if err == nil {
			err = check.Next(r)
		}
		if err != nil {
			return "", damaged(err)
		}
		if !knows[r.Type] {
			return "", unknownType(r)
		}
		if now := time.Now(); now.Sub(said) > time.Second {
			say(r.Position, head.Position)
			said = now
		}
	}
	if check.Last() < head.Position {
		return "", damaged(fmt.Errorf("%w: the last position is %d, the head says %d", eventstore.ErrDamaged, check.Last(), head.Position))
	}
	return fmt.Sprintf("%d events, each in its place and as it was stored", check.Events()), nil
}

func unknownType(r eventstore.Recorded) error {
	return fmt.Errorf("%s (position %d, %s) is not in the catalogue of this release: a newer one wrote it, and projections that meet it stop; "+
		"deploy that release; `salon events list --type %s` shows who wrote", r.Type, r.Position, r.Stream, r.Type)
}

// Types looks for an event whose type is not known: in the whole store where that is soon done, else, in stores with
// dense positions, among as many of the last events as there is time for.
func Types(ctx context.Context, s Store, known []string, dense bool) (string, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	head, err := s.Head(ctx)
	if err != nil {
		return "", err
	}
	looked := uint64(0) // of the last positions
	for window := uint64(10_000); looked < head.Position; window *= 10 {
		if window = min(window, head.Position); !dense {
			window = head.Position
		}
		for r, err := range s.ReadAll(ctx, head.Position-window, eventstore.Filter{Without: known}) {
			switch {
			case err == nil:
				return "", unknownType(r)
			case ctx.Err() == nil:
				return "", err
			case looked == 0:
				return "not all looked at in time: `salon doctor --full` looks at each event", nil
			}
			return fmt.Sprintf("the types of the last %d events are all known; there was no time for older ones, which `salon doctor --full` looks at", looked), nil
		}
		looked = window
	}
	return "the type of every stored event is known", nil
}

// within leaves a quarter of the time to whoever is to answer something when most of it is over.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	at, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, at.Add(-time.Until(at)/4))
}

// Key is an ordering key and the topic that its events go to.
type Key struct{ Topic, Key string }

// Draw draws up to n ordering keys whose events go to topics: half of them those of the last events, of whom rows were
// changed last, the others from places spread evenly over the store, each at a random one. dense as above: else only the
// last are drawn.
func Draw(ctx context.Context, s Store, t Tail, dense bool, n int, random func(n uint64) uint64) (keys []Key, err error) {
	drawn := map[Key]bool{}
	take := func(r eventstore.Recorded) bool {
		k := Key{wire.TopicOf(r.Stream), r.Key}
		if k.Topic == "" || drawn[k] {
			return false
		}
		drawn[k] = true
		keys = append(keys, k)
		return true
	}
	half := (n + 1) / 2
	if !dense || t.Head.Position <= tailEvents {
		half = n // there is nothing else
	}
	for i := len(t.Events) - 1; i >= 0 && len(keys) < half; i-- {
		take(t.Events[i])
	}
	if half == n {
		return keys, nil
	}
	share := t.Head.Position / uint64(n-half) //nolint:gosec // a few
	for i := range uint64(n - half) {         //nolint:gosec // a few
		looked := 0
		for r, err := range s.ReadAll(ctx, i*share+random(share), eventstore.Filter{}) {
			if err != nil {
				return keys, err
			}
			if looked++; take(r) || looked == tailEvents {
				break
			}
		}
	}
	return keys, nil
}

// Behind tells how far a follower that has come to a position is behind the store's head, in positions, and for how long the
// first event behind it has waited.
func Behind(ctx context.Context, s Store, at uint64, now time.Time) (positions uint64, waits time.Duration, err error) {
	head, err := s.Head(ctx)
	if err != nil || head.Position <= at {
		return 0, 0, err
	}
	for r, err := range s.ReadAll(ctx, at, eventstore.Filter{}) {
		if err != nil {
			return 0, 0, err
		}
		return head.Position - at, max(0, now.Sub(r.RecordedAt)), nil
	}
	return 0, 0, nil
}
