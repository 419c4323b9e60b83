package readapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/internal/token"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Consistency makes reads see the caller's own writes. Make it with NewConsistency; it is safe for concurrent use and
// starts no goroutine: while somebody waits, one of those who wait looks for all of them.
type Consistency struct {
	db      *reads.DB
	waiting *waiting
}

// How long a server may take to answer, apart from the wait that the caller asked for. One whose host is gone says
// nothing at all; then the tables answer for a view, and a problem for the tables.
const (
	askDatabase = 5 * time.Second
	askView     = 500 * time.Millisecond
)

// NewConsistency reads from db.
func NewConsistency(db *reads.DB) *Consistency {
	c := &Consistency{db: db}
	c.waiting = newWaiting(c.places)
	return c
}

// Snapshot is the read models at one moment: what a screen queries.
type Snapshot struct {
	reads.Queryer
	versions map[string]int
}

// Version is the version of a projection that serves at this moment: the one whose tables to read.
func (s Snapshot) Version(projection string) int { return s.versions[projection] }

// Scope is what a screen reads. A token's entries outside of it are not waited for.
type Scope struct {
	Of   []engine.Projection // whose tables it queries; topics that they do not consume are ignored
	Keys []string            // the ordering keys of its rows; none means that it may read any key's
}

func (s Scope) covers(p engine.Projection, e token.Entry) bool {
	return slices.Contains(p.Topics, e.Topic) && (len(s.Keys) == 0 || slices.Contains(s.Keys, e.Key))
}

// Read runs fn on one snapshot of the reads database in which everything that the caller's token asks for is applied,
// as far as scope has part in it. It waits for that, up to the caller's Prefer: wait. fn may run only once.
//
// The errors are problems: 400 for a malformed token, 412 store.restored for one of another life of the store,
// 503 read_model.behind when the wait was over, 503 read_model.unavailable when the database is away; or fn's own.
func (c *Consistency) Read(ctx context.Context, h ReadHeaders, scope Scope, fn func(ctx context.Context, s Snapshot) error) error {
	tok, err := token.Parse(h.ConsistencyToken)
	if err != nil {
		return err
	}
	wait, stop := context.WithTimeout(ctx, h.wait())
	defer stop()
	asking, giveUp := context.WithTimeout(ctx, h.wait()+askDatabase)
	defer giveUp()
	for {
		var lag lags
		err := c.db.Snapshot(asking, func(ctx context.Context, q reads.Queryer) error {
			s, err := open(ctx, q, scope)
			if err != nil {
				return err
			}
			if lag, err = s.lagging(ctx, tok, scope); err != nil || len(lag) > 0 {
				return err
			}
			return fn(ctx, s)
		})
		if err != nil || len(lag) == 0 {
			return unavailable(ctx, err)
		}
		if err := c.waiting.until(wait, lag.mayBeOver); err != nil && (wait.Err() == nil || ctx.Err() != nil) {
			return unavailable(ctx, err)
		}
		if wait.Err() == nil {
			continue
		}
		places, err := c.places(asking)
		if err != nil {
			return unavailable(ctx, err)
		}
		if lag = lag.behind(places); len(lag) > 0 {
			return lag.problem(time.Now())
		}
	}
}

// open reads which version of each projection serves. One that has no pointer yet is the one this release makes.
func open(ctx context.Context, q reads.Queryer, scope Scope) (Snapshot, error) {
	s := Snapshot{q, make(map[string]int, len(scope.Of))}
	for _, p := range scope.Of {
		v, found, err := engine.ActiveVersion(ctx, q, p.Name)
		if err != nil {
			return s, err
		}
		if !found {
			v = p.Version
		}
		s.versions[p.Name] = v
	}
	return s, nil
}

// lagging lists what the token asks for and this snapshot lacks.
func (s Snapshot) lagging(ctx context.Context, t token.Token, scope Scope) (lags, error) {
	var out lags
	for _, e := range t.Entries {
		for _, p := range scope.Of {
			if !scope.covers(p, e) {
				continue
			}
			p.Version = s.versions[p.Name]
			l := lag{projection: p.ID(), topic: e.Topic, part: unknownPart, want: e.Position, incarnation: t.Incarnation}
			partitions, err := engine.Partitions(ctx, s, e.Topic)
			if err != nil {
				return nil, err
			}
			if partitions > 0 {
				l.part = engine.PartitionOf(e.Key, partitions)
				if l.place.Progress, _, err = engine.Offset(ctx, s, l.projection, l.topic, l.part); err != nil {
					return nil, err
				}
			}
			if !l.met() {
				out = append(out, l)
			}
		}
	}
	return out, nil
}

// lag is one partition of one projection that must be somewhere.
type lag struct {
	projection, topic string
	part              int32
	want              uint64
	incarnation       string
	place             engine.Place // where it was found; zero when it has not started
}

func (l lag) met() bool { return l.place.Incarnation == l.incarnation && l.place.LastPos >= l.want }

// unknownPart is the partition of a key in a topic that no projector has seen yet.
const unknownPart = -1

type lags []lag

// behind lists those that are not met by these places.
func (ls lags) behind(places []engine.Place) lags {
	var out lags
	for _, l := range ls {
		i := slices.IndexFunc(places, func(p engine.Place) bool {
			return p.Projection == l.projection && p.Topic == l.topic && p.Part == l.part
		})
		l.place = engine.Place{}
		if i >= 0 {
			l.place = places[i]
		}
		if !l.met() {
			out = append(out, l)
		}
	}
	return out
}

// mayBeOver tells whether another snapshot is worth its while.
func (ls lags) mayBeOver(places []engine.Place) bool {
	for _, l := range ls.behind(places) {
		topicSeen := slices.ContainsFunc(places, func(p engine.Place) bool { return p.Topic == l.topic })
		if l.part != unknownPart || !topicSeen {
			return false
		}
	}
	return true
}

// stalled is how long a partition may stand still behind a token before the answer says that it does not move.
const stalled = 5 * time.Second

// problem says how far behind, and why. A token of another life of the store is told only now, after the wait: right
// after a fail-over the write side is in its new life a moment before the partition saw the first record of it.
func (ls lags) problem(now time.Time) error {
	l := ls[0]
	if l.place.Incarnation == "" {
		return problem.New(http.StatusServiceUnavailable, "read_model.behind",
			fmt.Sprintf("%s has read nothing of %s yet: it was just set up, or its projector is not running", l.projection, l.topic)).RetryAfter(2)
	}
	if l.place.Incarnation != l.incarnation {
		return problem.New(http.StatusPreconditionFailed, "store.restored",
			"the event store was restored since this token was given; start again without it")
	}
	far := fmt.Sprintf("%s stands at position %d, %d before the one asked for; what it shows is %d s old",
		l.projection, l.place.LastPos, l.want-l.place.LastPos, seconds(now.Sub(l.place.LastRecordedAt)))
	if still := now.Sub(l.place.UpdatedAt); still > stalled {
		return problem.New(http.StatusServiceUnavailable, "read_model.behind",
			fmt.Sprintf("%s, and it has not moved for %d s: its projector is away or stuck", far, seconds(still))).RetryAfter(5)
	}
	return problem.New(http.StatusServiceUnavailable, "read_model.behind", far+", and it is catching up").RetryAfter(1)
}

func seconds(d time.Duration) int { return int(max(d, 0).Seconds()) }

// places is one look at every partition.
func (c *Consistency) places(ctx context.Context) (places []engine.Place, err error) {
	err = c.db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		places, err = engine.Places(ctx, q)
		return err
	})
	return places, err
}

// unavailable turns a failure of the database into 503 read_model.unavailable, a code of its own beside
// read_model.behind: the read model is not late, it cannot be asked. Problems of the screens pass.
func unavailable(ctx context.Context, err error) error {
	var p *problem.Problem
	if err == nil || errors.As(err, &p) || ctx.Err() != nil {
		return err
	}
	return problem.New(http.StatusServiceUnavailable, "read_model.unavailable", "the read models cannot be reached").
		RetryAfter(2).Because(err)
}

// ViewReader reads one ordering key of a Redis projection: engine.View.
type ViewReader interface {
	Read(ctx context.Context, topic, orderingKey string) (engine.ViewRows, error)
}

// ReadView answers from a Redis view when that is whole and at the caller's token, else from the SQL projection behind
// it, where it waits as Read does. Only rows of one ordering key of one topic can be read so: entries of other keys
// cannot change them and are ignored.
//
// A Redis that is away is no failure: the tables behind it hold the same rows.
func (c *Consistency) ReadView(ctx context.Context, h ReadHeaders, view ViewReader, topic, key string,
	fn func(rows engine.ViewRows) error,
	behind []engine.Projection, fallback func(ctx context.Context, s Snapshot) error,
) error {
	tok, err := token.Parse(h.ConsistencyToken)
	if err != nil {
		return err
	}
	if view != nil {
		asking, giveUp := context.WithTimeout(ctx, askView)
		defer giveUp()
		if rows, err := view.Read(asking, topic, key); err == nil && rows.Whole && at(rows, tok, topic, key) {
			return fn(rows)
		}
	}
	return c.Read(ctx, h, Scope{Of: behind, Keys: []string{key}}, fallback)
}

func at(rows engine.ViewRows, t token.Token, topic, key string) bool {
	for _, e := range t.Entries {
		if e.Topic == topic && e.Key == key && (rows.Incarnation != t.Incarnation || rows.Position < e.Position) {
			return false
		}
	}
	return true
}
