package esdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

var _ eventstore.Loader = (*Store)(nil)

// importStream tells that a history is being loaded, by its first event, and by its second that all of it is there. In
// between nobody but who loads opens the store.
const (
	importStream = ownStream + "import"
	importType   = "salon.import.v1"
)

const (
	importNone = iota
	importBegun
	importDone
)

// loaders is how many claims are written at once, and how many commands ahead of their events.
const (
	loaders   = 16
	loadAhead = 64
)

// importing tells how far a load has come.
func (s *Store) importing(ctx context.Context) (int, error) {
	e, err := s.last(ctx, importStream)
	if err != nil {
		return 0, s.unavailable(ctx, "look for an import", err)
	}
	if e == nil {
		return importNone, nil
	}
	return min(int(e.EventNumber)+1, importDone), nil //nolint:gosec // a small number
}

// imported notes the next of its two events. Another process may have loaded the same meanwhile.
func (s *Store) imported(ctx context.Context, was int) error {
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	if was == importBegun {
		expected = esdb.Revision(0)
	}
	_, err := s.write(ctx, s.namespace+importStream, expected, esdb.EventData{EventID: uuid.New(), EventType: importType, ContentType: esdb.ContentTypeBinary})
	if err != nil && !wrongVersion(err) {
		return s.unavailable(ctx, "note an import", err)
	}
	return nil
}

// Loadable implements eventstore.Loader. A load that was not finished may go on.
func (s *Store) Loadable(ctx context.Context) error {
	_, err := s.loadable(ctx)
	return err
}

func (s *Store) loadable(ctx context.Context) (begun int, err error) {
	switch begun, err = s.importing(ctx); {
	case err != nil || begun == importBegun:
		return begun, err
	case begun == importDone:
		return begun, eventstore.ErrNotEmpty
	}
	for e, err := range s.entries(ctx) {
		if err != nil {
			return begun, err
		}
		name, ok := strings.CutPrefix(e.StreamID, s.namespace)
		_, event := s.ours(e)
		if ok && (event || strings.HasPrefix(name, claimStream) || name == sealStream) {
			return begun, eventstore.ErrNotEmpty
		}
	}
	return begun, nil
}

// entries yields the server's whole log.
func (s *Store) entries(ctx context.Context) iter.Seq2[*esdb.RecordedEvent, error] {
	var from esdb.AllPosition = esdb.Start{}
	begun, at := false, uint64(0)
	return eventstore.Paged(func() (out []*esdb.RecordedEvent, more bool, err error) {
		p, err := s.log(ctx, esdb.Forwards, from, pageSize)
		if err != nil {
			return nil, false, s.unavailable(ctx, "read the log", err)
		}
		for _, e := range p.events {
			if begun && e.Position.Commit <= at {
				continue // the event at from comes, too
			}
			begun, at = true, e.Position.Commit
			from = esdb.Position{Commit: at, Prepare: at}
			out = append(out, e)
		}
		return out, p.more && len(out) > 0, nil
	})
}

// Load implements eventstore.Loader. The server has no transaction that could hold a history: so the store is marked first, and
// nobody but a loader opens it until all is there. One that was ended in the middle goes on: what is there is held to the same
// history, and has to be its beginning. Every write is the same in every byte when it is done again, so one whose answer was
// lost does no harm either.
//
// In the end everything that is there is read, and held to the history once more. Whoever had the store open before it was
// marked, and has appended something, is found out then.
func (s *Store) Load(ctx context.Context, from eventstore.Loaded) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return errClosed
	}
	begun, err := s.loadable(ctx)
	if err == nil && begun == importNone {
		err = s.imported(ctx, importNone)
	}
	if err != nil {
		return err
	}
	l := &loading{s: s, ends: map[string]end{}}
	next, stop := iter.Pull2(steps(from))
	defer stop()
	rest, err := l.match(ctx, next)
	if err == nil && rest != nil {
		err = l.write(ctx, *rest, next)
	}
	if err == nil {
		err = s.finish(ctx, from)
	}
	return err
}

// finish holds what is there to the history, adds the seals, whose places are known now, and opens the store to everybody.
func (s *Store) finish(ctx context.Context, from eventstore.Loaded) error {
	l := &loading{s: s, ends: map[string]end{}}
	for seal, err := range from.Seals {
		if err != nil {
			return err
		}
		l.seals = append(l.seals, eventstore.Seal{Block: seal.Block, Through: seal.Through, SilentThrough: seal.SilentThrough})
	}
	l.place()
	next, stop := iter.Pull2(steps(from))
	defer stop()
	rest, err := l.match(ctx, next)
	switch {
	case err != nil:
		return err
	case rest != nil:
		return fmt.Errorf("%w: what was loaded is not there", eventstore.ErrUnavailable)
	case l.placed() < len(l.seals):
		return damage("seal %d covers more than the history has", l.seals[l.placed()].Block)
	}
	there, err := s.LastSeal(ctx)
	if err != nil {
		return err
	}
	n := 0
	for seal, err := range from.Seals {
		if err != nil {
			return err
		}
		if n == len(l.seals) || seal.Block != l.seals[n].Block {
			return damage("seal %d was another one a moment ago", seal.Block)
		}
		seal.Through, seal.SilentThrough = l.seals[n].Through, l.seals[n].SilentThrough
		if n++; seal.Block <= there.Block {
			continue // which one it is, its verification tells
		}
		if err := s.AddSeal(ctx, seal); err != nil {
			return err
		}
	}
	return s.imported(ctx, importBegun)
}

// loading goes through a history and what of it is in the log, side by side.
type loading struct {
	s    *Store
	ends map[string]end

	// Seals come by how many events and silent commands they go, and get the places of those.
	seals          []eventstore.Seal
	through, quiet int    // so many have got the one, and the other
	events, silent uint64 // how many there were
	at, silentAt   uint64 // where the last of them stands
}

// end is where a stream has come to.
type end struct {
	revision eventstore.Revision
	position uint64
}

// place gives the seals their places that end here.
func (l *loading) place() {
	for ; l.through < len(l.seals) && l.seals[l.through].Through == l.events; l.through++ {
		l.seals[l.through].Through = l.at
	}
	for ; l.quiet < len(l.seals) && l.seals[l.quiet].SilentThrough == l.silent; l.quiet++ {
		l.seals[l.quiet].SilentThrough = l.silentAt
	}
}

// placed is how many seals have both their places.
func (l *loading) placed() int { return min(l.through, l.quiet) }

// match goes on while what is in the log is the history, and answers with the first step that is not there; nil when all is.
func (l *loading) match(ctx context.Context, next func() (step, error, bool)) (*step, error) {
	there, stop := iter.Pull2(l.s.laid(ctx))
	defer stop()
	for {
		t, err, more := next()
		if err != nil {
			return nil, err
		}
		here, err, some := there()
		switch {
		case err != nil:
			return nil, err
		case !more && some:
			return nil, here.foreign()
		case !more:
			return nil, nil
		case !some:
			return &t, nil
		}
		if len(t.events) == 0 {
			if !here.is(t.ID, t.claim(l.ends[t.Stream].position)) {
				return nil, here.foreign()
			}
			l.silent, l.silentAt = l.silent+1, here.position
			l.place()
			continue
		}
		for i, r := range t.events {
			if i > 0 {
				if here, err, some = there(); err != nil || !some {
					return nil, errors.Join(err, damage("command %s has come to the server in part", t.ID))
				}
			}
			if here.event == nil || here.event.Stream != r.Stream || here.event.Revision != r.Revision || here.event.Hash != r.Hash || here.event.Hash != eventstore.ContentHash(here.event.Recorded) {
				return nil, here.foreign()
			}
			l.events, l.at = l.events+1, here.position
			l.place()
		}
		l.ends[t.Stream] = end{t.LastRevision, l.at}
	}
}

// laid is an event of ours in the log, or the claim of a command without events.
type laid struct {
	position uint64
	stream   string
	event    *stored
	claim    claim
}

// laid yields them as they stand there.
func (s *Store) laid(ctx context.Context) iter.Seq2[laid, error] {
	return func(yield func(laid, error) bool) {
		for e, err := range s.entries(ctx) {
			if err != nil {
				yield(laid{}, err)
				return
			}
			name, ours := strings.CutPrefix(e.StreamID, s.namespace)
			here := laid{position: e.Position.Commit, stream: name}
			if _, event := s.ours(e); event {
				r, err := s.read(e)
				if err != nil {
					yield(laid{}, err)
					return
				}
				s.note(r.Position, r.RecordedAt)
				here.event = &r
			} else if !ours || !strings.HasPrefix(name, claimStream) || e.EventType != claimType {
				continue
			} else if err := json.Unmarshal(e.Data, &here.claim); err != nil {
				yield(laid{}, damage("the claim in %s: %v", name, err))
				return
			} else if here.claim.Events > 0 || here.claim.Withdrawn {
				continue
			}
			if !yield(here, nil) {
				return
			}
		}
	}
}

// is reports whether it is a command's claim.
func (h laid) is(id uuid.UUID, c claim) bool {
	same := h.event == nil && h.stream == claimStream+id.String()
	have, err := json.Marshal(h.claim)
	want, err2 := json.Marshal(c)
	return same && err == nil && err2 == nil && string(have) == string(want)
}

func (h laid) foreign() error {
	return fmt.Errorf("%w: position %d, in %s, is not of the history that is loaded", eventstore.ErrNotEmpty, h.position, h.stream)
}

// write puts what is left of the history behind what is there. Claims go ahead, several at once; what readers meet goes in its
// order, one after the other.
func (l *loading) write(ctx context.Context, first step, next func() (step, error, bool)) error {
	ahead := []step{first}
	for more := true; more; ahead = ahead[:0] {
		for len(ahead) < loadAhead && more {
			var t step
			var err error
			if t, err, more = next(); err != nil {
				return err
			}
			if more {
				ahead = append(ahead, t)
			}
		}
		group, within := errgroup.WithContext(ctx)
		group.SetLimit(loaders)
		for _, t := range ahead {
			if len(t.events) > 0 {
				group.Go(func() error { _, err := l.s.load(within, t, 0); return err })
			}
		}
		if err := group.Wait(); err != nil {
			return l.s.loadFailed(ctx, err)
		}
		for _, t := range ahead {
			if err := l.put(ctx, t); err != nil {
				return l.s.loadFailed(ctx, err)
			}
		}
	}
	return nil
}

func (s *Store) loadFailed(ctx context.Context, err error) error {
	if errors.Is(err, eventstore.ErrNotEmpty) || errors.Is(err, eventstore.ErrInvalid) || errors.Is(err, eventstore.ErrTooLarge) {
		return err
	}
	return s.unavailable(ctx, "load", err)
}

// put writes what a reader meets of a step: its events, or a claim.
func (l *loading) put(ctx context.Context, t step) error {
	if len(t.events) == 0 {
		_, err := l.s.load(ctx, t, l.ends[t.Stream].position)
		return err
	}
	events, err := t.proposed()
	if err != nil {
		return err
	}
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	if first := t.events[0].Revision; first > 0 {
		expected = esdb.Revision(uint64(first - 1)) //nolint:gosec // not negative
	}
	done, err := l.s.write(ctx, l.s.namespace+t.Stream, expected, events...)
	if wrongVersion(err) {
		return fmt.Errorf("%w: %s has events that are not of the history that is loaded", eventstore.ErrNotEmpty, t.Stream)
	}
	if err == nil {
		l.ends[t.Stream] = end{t.LastRevision, done.CommitPosition}
		l.s.note(done.CommitPosition, t.events[len(t.events)-1].RecordedAt)
	}
	return err
}

// load writes a step's claim, the first of its stream.
func (s *Store) load(ctx context.Context, t step, position uint64) (*esdb.WriteResult, error) {
	data, err := json.Marshal(t.claim(position))
	if err != nil {
		return nil, fmt.Errorf("encode a claim: %w", err)
	}
	done, err := s.write(ctx, s.namespace+claimStream+t.ID.String(), esdb.NoStream{}, esdb.EventData{
		EventID: uuid.NewSHA1(t.ID, data), EventType: claimType, ContentType: esdb.ContentTypeJson, Data: data,
	})
	if wrongVersion(err) {
		err = fmt.Errorf("%w: command %s is there, and not as it is loaded", eventstore.ErrNotEmpty, t.ID)
	}
	return done, err
}
