package readapi

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/reads"
)

// watchPeriod is the time between two looks while somebody watches; what a look takes is at most a tenth of it
// (lookShare), however many watch. Nobody waits for a write of theirs here: it may be longer than that of waiting.
const watchPeriod = 100 * time.Millisecond

// watchAway is the time to the next look after one that failed.
const watchAway = time.Second

// atOnce is how many reservations one query of a look asks about.
const atOnce = 500

// watching tells any number of streams that their reservation has changed, with one of those who wait looking for all.
//
// The baton is that of waiting. A look reads one small row for each partition of the history; only of partitions that moved
// since the last look does it ask for the newest revisions of those reservations that are watched. So nobody looks while
// nobody watches, and while nothing happens a thousand streams cost what one costs.
type watching struct {
	db    *reads.DB
	baton chan struct{}

	mu      sync.Mutex
	watched map[string][]*watch // by reservation

	// Whoever has the baton may touch these.
	next       time.Time // when to look
	version    int       // of the last look, as is
	places     map[int32]engine.Progress
	partitions int // of the topic; 0 until a projector noted them. They never change.
}

// watch is one stream's interest in a reservation.
type watch struct {
	reservation string
	known       atomic.Uint64 // the revisions below it are known to the stream
	changed     chan struct{} // one token: there may be something at or above known
}

func newWatching(db *reads.DB) *watching {
	w := &watching{db: db, baton: make(chan struct{}, 1), watched: map[string][]*watch{}}
	w.baton <- struct{}{}
	return w
}

// add begins to watch. What was there before is for the caller to read afterwards; what comes after that read is told.
func (w *watching) add(reservation string) *watch {
	one := &watch{reservation: reservation, changed: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched[reservation] = append(w.watched[reservation], one)
	return one
}

func (w *watching) remove(one *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := slices.DeleteFunc(w.watched[one.reservation], func(o *watch) bool { return o == one })
	if w.watched[one.reservation] = left; len(left) == 0 {
		delete(w.watched, one.reservation)
	}
}

// until waits until the reservation may have changed, which it reports, or a beat, or the end of ctx, whose error it returns.
// A database that is away is waited for.
func (w *watching) until(ctx context.Context, one *watch, beat <-chan time.Time) (changed bool, err error) {
	select {
	case <-one.changed:
		return true, nil
	case <-beat:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-w.baton:
		defer func() { w.baton <- struct{}{} }()
	}
	for {
		t := time.NewTimer(time.Until(w.next))
		select {
		case <-one.changed:
			t.Stop()
			return true, nil
		case <-beat:
			t.Stop()
			return false, nil
		case <-ctx.Done():
			t.Stop()
			return false, ctx.Err()
		case <-t.C:
		}
		began := time.Now()
		asking, giveUp := context.WithTimeout(ctx, askDatabase)
		err := w.look(asking)
		giveUp()
		w.next = time.Now().Add(max(watchPeriod, lookShare*time.Since(began)))
		if err != nil && ctx.Err() == nil {
			w.next = time.Now().Add(watchAway)
		}
	}
}

// look tells those whose reservation has changed.
func (w *watching) look(ctx context.Context) error {
	return w.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		at := history.Projection()
		serving, found, err := engine.ServingOf(ctx, q, at.Name)
		if err != nil {
			return err
		}
		if found {
			at.Version = serving.Version
		}
		places, err := engine.PlacesOf(ctx, q, []string{at.ID()})
		if err != nil {
			return err
		}
		if w.partitions == 0 {
			if w.partitions, err = engine.Partitions(ctx, q, at.Topics[0]); err != nil || w.partitions == 0 {
				return err
			}
		}
		now, moved := map[int32]engine.Progress{}, map[int32]bool{}
		for _, p := range places {
			// Not by the position: what was parked comes later, without one.
			now[p.Part], moved[p.Part] = p.Progress, at.Version != w.version || p.Progress != w.places[p.Part]
		}
		for some := range slices.Chunk(w.in(moved), atOnce) {
			if err := w.ask(ctx, q, at.Version, some); err != nil {
				return err
			}
		}
		w.version, w.places = at.Version, now
		return nil
	})
}

// in lists the watched reservations of some partitions.
func (w *watching) in(moved map[int32]bool) (out []any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for reservation := range w.watched {
		if salon, err := salonOf(reservation); err == nil && moved[engine.PartitionOf(salon, w.partitions)] {
			out = append(out, reservation)
		}
	}
	return out
}

// ask reads the newest revision of each of these reservations, and tells whoever does not know it.
func (w *watching) ask(ctx context.Context, q reads.Queryer, version int, reservations []any) error {
	rows, err := q.QueryContext(ctx, "SELECT reservation_id, MAX(revision) FROM "+history.Table.Def().Name(version)+
		" WHERE reservation_id IN (?"+strings.Repeat(",?", len(reservations)-1)+") GROUP BY reservation_id", reservations...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var reservation string
		var newest uint64
		if err := rows.Scan(&reservation, &newest); err != nil {
			return err
		}
		w.tell(reservation, newest)
	}
	return rows.Err()
}

func (w *watching) tell(reservation string, newest uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.watched[reservation] {
		if newest < one.known.Load() {
			continue
		}
		select {
		case one.changed <- struct{}{}:
		default: // told already, and not yet looked
		}
	}
}
