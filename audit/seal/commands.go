package seal

import (
	"context"
	"iter"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// commandReader finds the commands of a walk's events. Where the history has them in about the order of its events
// (eventstore.Orderly), it reads along beside the walk; what does not come by there is looked up by its ID, as everything is
// elsewhere. By ID each costs a walk down an index of random keys, which for ten million commands is not in memory.
type commandReader struct {
	h     History
	next  func() (eventstore.Accepted, error, bool) // nil before the reading has begun, and when there is no more
	stop  func()
	begun bool
	ahead map[uuid.UUID]eventstore.Accepted // read, and not asked for yet
}

// mostAhead bounds what is kept that nobody asked for: silent commands, and those whose turn comes.
const mostAhead = 16_384

func (l *commandReader) close() {
	if l.stop != nil {
		l.stop()
	}
}

// pull is the next one as they lie.
func (l *commandReader) pull() (c eventstore.Accepted, more bool, err error) {
	if l.next == nil {
		return c, false, nil
	}
	if c, err, more = l.next(); !more {
		l.next = nil
	}
	return c, more, err
}

// of finds those that there are.
func (l *commandReader) of(ctx context.Context, ids []uuid.UUID, through uint64) (map[uuid.UUID]eventstore.Accepted, error) {
	found := make(map[uuid.UUID]eventstore.Accepted, len(ids))
	if orderly, is := l.h.(eventstore.Orderly); is && !l.begun {
		l.begun, l.ahead = true, map[uuid.UUID]eventstore.Accepted{}
		l.next, l.stop = iter.Pull2(orderly.CommandsFrom(ctx, ids[0]))
	}
	missing := map[uuid.UUID]bool{}
	take := func(c eventstore.Accepted) {
		switch {
		case missing[c.ID]:
			found[c.ID] = c
			delete(missing, c.ID)
		case len(l.ahead) == mostAhead:
			clear(l.ahead) // they were passed by, or will be looked up
			fallthrough
		default:
			l.ahead[c.ID] = c
		}
	}
	for _, id := range ids {
		if _, twice := found[id]; twice || missing[id] { // another's events are between its own
			continue
		}
		if c, there := l.ahead[id]; there {
			found[id] = c
			delete(l.ahead, id)
			continue
		}
		c, more, err := l.pull()
		if err != nil {
			return nil, err
		}
		if more && c.ID == id { // nearly always
			found[id] = c
			continue
		}
		if missing[id] = true; more {
			take(c)
		}
	}
	for looked := 0; len(missing) > 0 && looked < len(ids); looked++ {
		c, more, err := l.pull()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		take(c)
	}
	if len(missing) == 0 {
		return found, nil
	}
	rest := make([]uuid.UUID, 0, len(missing))
	for _, id := range ids { // in the order of the walk: a file has them in that alone
		if missing[id] {
			rest = append(rest, id)
			delete(missing, id)
		}
	}
	all, err := l.h.CommandsOf(ctx, rest, through)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		found[c.ID] = c
	}
	return found, nil
}
