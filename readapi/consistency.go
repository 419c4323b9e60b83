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
	db       *reads.DB
	replica  *Replica                  // nil: there is none
	answered func(by Copy, why string) // nil: nobody counts
	lineage  *lineage
	waiting  *waiting
	pointers *pointers
}

// How long a server may take to answer, apart from the wait that the caller asked for. One whose host is gone says
// nothing at all; then the tables answer for a view, and a problem for the tables.
const (
	askDatabase = 5 * time.Second
	askView     = 500 * time.Millisecond
)

// NewConsistency reads from db. lives, which may be nil, tells how the event store's lives follow one another, the oldest
// first.
func NewConsistency(db *reads.DB, lives func(ctx context.Context) ([]Life, error)) *Consistency {
	c := &Consistency{db: db, lineage: newLineage(lives)}
	c.waiting, c.pointers = newWaiting(c.places), &pointers{look: c.serving}
	return c
}

// Snapshot is the read models at one moment: what a screen queries.
type Snapshot struct {
	reads.Queryer
	versions map[string]int
	parked   []engine.ParkedFrom // of the versions that serve, as far as the screen reads them
}

// parkedKeys are ordering keys whose rows stand still: one of their events could not be folded (G6).
type parkedKeys map[string]bool

// Parked says of which keys the rows of these projections are older than the rest.
func (s Snapshot) Parked(projections ...string) parkedKeys {
	keys := parkedKeys{}
	for _, p := range s.parked {
		for _, name := range projections {
			if p.Projection == (engine.Projection{Name: name, Version: s.versions[name]}).ID() {
				keys[p.Key] = true
			}
		}
	}
	return keys
}

// Version is the version of a projection that serves at this moment: the one whose tables to read.
func (s Snapshot) Version(projection string) int { return s.versions[projection] }

// Scope is what a screen reads. A token's entries outside of it are not waited for.
type Scope struct {
	// Newest is for who was told of a change by the primary, and has to find it: the replica may lack it.
	Newest bool
	Of     []engine.Projection // whose tables it queries; topics that they do not consume are ignored
	Keys   []string            // the ordering keys of its rows; none means that it may read any key's
}

func (s Scope) covers(p engine.Projection, e token.Entry) bool {
	return slices.Contains(p.Topics, e.Topic) && (len(s.Keys) == 0 || slices.Contains(s.Keys, e.Key))
}

// Read runs fn on one snapshot of the reads database in which everything that the caller's token asks for is applied,
// as far as scope has part in it. It waits for that, up to the caller's Prefer: wait. fn may run a second time, from the
// beginning, when the replica broke off in the first: it sets what it finds, and adds to nothing outside of it.
//
// The errors are problems: 400 for a malformed token, 412 store.restored for one of another life of the store,
// 503 read_model.behind when the wait was over, 503 read_model.parked when the rows stand still before the token,
// 503 read_model.unavailable when the database is away; or fn's own.
func (c *Consistency) Read(ctx context.Context, h ReadHeaders, scope Scope, fn func(ctx context.Context, s Snapshot) error) error {
	tokens, err := token.Parse(h.ConsistencyToken)
	if err != nil {
		return err
	}
	why := ""
	if c.replica != nil && !scope.Newest {
		if why, err = c.onReplica(ctx, tokens, scope, fn); why == "" {
			return err
		}
	}
	c.count(OnPrimary, why)
	wait, stop := context.WithTimeout(ctx, h.wait())
	defer stop()
	asking, giveUp := context.WithTimeout(ctx, h.wait()+askDatabase)
	defer giveUp()
	for over := false; ; {
		lag, err := c.on(asking, c.db, tokens, scope, fn)
		if err != nil || len(lag) == 0 {
			return unavailable(ctx, err)
		}
		if over {
			return lag.problem(time.Now())
		}
		if err := c.waiting.until(wait, lag); err != nil && (wait.Err() == nil || ctx.Err() != nil) {
			return unavailable(ctx, err)
		}
		over = wait.Err() != nil // one more snapshot, which may be the one
	}
}

// on runs fn on one snapshot of one copy of the reads database, unless that lacks what the tokens ask for.
func (c *Consistency) on(ctx context.Context, db *reads.DB, tokens []token.Token, scope Scope,
	fn func(ctx context.Context, s Snapshot) error,
) (lag lags, err error) {
	return lag, db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		s, err := open(ctx, q, scope)
		if err != nil {
			return err
		}
		if lag, err = s.lagging(ctx, c.lineage, tokens, scope); err != nil || len(lag) > 0 {
			return err
		}
		return fn(ctx, s)
	})
}

// open reads which version of each projection serves, and what is parked of it. A projection that has no pointer yet
// serves the version that this release makes.
func open(ctx context.Context, q reads.Queryer, scope Scope) (Snapshot, error) {
	names, ids := make([]string, len(scope.Of)), make([]string, len(scope.Of))
	for i, p := range scope.Of {
		names[i] = p.Name
	}
	versions, err := engine.ActiveVersions(ctx, q, names)
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{Queryer: q, versions: versions}
	for i, p := range scope.Of {
		p = s.serving(p)
		versions[p.Name], ids[i] = p.Version, p.ID()
	}
	s.parked, err = engine.ParkedAmong(ctx, q, ids, scope.Keys)
	return s, err
}

// serving is the version of a projection that serves at this moment. One that this release does not know is taken for one
// with the newest's topics.
func (s Snapshot) serving(p engine.Projection) engine.Projection {
	v, found := s.versions[p.Name]
	if !found {
		return p
	}
	if known, ok := p.At(v); ok {
		return known
	}
	p.Version = v
	return p
}

// lagging lists what the tokens ask for and this snapshot lacks.
func (s Snapshot) lagging(ctx context.Context, lives *lineage, tokens []token.Token, scope Scope) (out lags, err error) {
	for _, t := range tokens {
		some, err := s.behind(ctx, lives, t, scope)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

func (s Snapshot) behind(ctx context.Context, lives *lineage, t token.Token, scope Scope) (lags, error) {
	var out lags
	for _, e := range t.Entries {
		for _, p := range scope.Of {
			if p = s.serving(p); !scope.covers(p, e) {
				continue
			}
			l := lag{projection: p.ID(), topic: e.Topic, part: unknownPart, want: e.Position, incarnation: t.Incarnation}
			partitions, err := engine.Partitions(ctx, s, e.Topic)
			if err != nil {
				return nil, err
			}
			if partitions > 0 {
				l.part = engine.PartitionOf(e.Key, partitions)
				if l.place, _, err = engine.PlaceOf(ctx, s, l.projection, l.topic, l.part); err != nil {
					return nil, err
				}
			}
			if err := l.follow(ctx, lives); err != nil {
				return nil, err
			}
			if !l.met() {
				out = append(out, l)
				continue
			}
			for _, k := range s.parked {
				if k.Projection == l.projection && k.Topic == e.Topic && k.Key == e.Key && k.FromPos <= e.Position {
					return nil, parkedBefore(k, e.Position)
				}
			}
		}
	}
	return out, nil
}

// parkedBefore is a token that no wait can meet: the partition is there, but the key's rows stand still before it until
// somebody has its events retried.
func parkedBefore(k engine.ParkedFrom, want uint64) error {
	return problem.New(http.StatusServiceUnavailable, "read_model.parked",
		fmt.Sprintf("%s could not apply an event of this key at position %d, which is not after the one asked for (%d); an operator has to act (salon projections parked)",
			k.Projection, k.FromPos, want)).RetryAfter(30)
}

// lag is one partition of one projection that must be somewhere.
type lag struct {
	projection, topic string
	part              int32
	want              uint64
	incarnation       string
	place             engine.Place // where it was found; zero when it has not started
	next              bool         // the token is of a life after that of the rows: they will come to it
}

// follow takes a token of an earlier life for one of the life that the rows are in, when what it stands for is in both.
func (l *lag) follow(ctx context.Context, lives *lineage) error {
	if l.place.Incarnation == "" || l.place.Incarnation == l.incarnation {
		return nil
	}
	same, err := lives.carried(ctx, l.incarnation, l.want, l.place.Incarnation)
	if err != nil {
		return fmt.Errorf("ask for the store's lives: %w", err)
	}
	if same {
		l.incarnation = l.place.Incarnation
		return nil
	}
	since, err := lives.since(ctx, l.place.Incarnation, l.incarnation)
	l.next = len(since) > 0
	return err
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
	if l.next {
		return problem.New(http.StatusServiceUnavailable, "read_model.behind",
			fmt.Sprintf("%s has read nothing yet of what the event store holds since it failed over", l.projection)).RetryAfter(1)
	}
	if l.place.Incarnation != l.incarnation {
		return problem.New(http.StatusPreconditionFailed, "store.restored",
			"the event store was restored since this token was given, and its write is lost; start again without it")
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

// places is one look at the partitions that somebody waits for. Each row is one moment; that is all a look has to tell,
// since the snapshot after it decides.
func (c *Consistency) places(ctx context.Context, projections []string) (places []engine.Place, err error) {
	return engine.PlacesOf(ctx, c.db.Reader(), projections)
}

// serving looks which version of a projection serves: none, when it has not begun.
func (c *Consistency) serving(ctx context.Context, projection string) (engine.Serving, error) {
	s, _, err := engine.ServingOf(ctx, c.db.Reader(), projection)
	return s, err
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
	Read(ctx context.Context, serving engine.Serving, topic, orderingKey string) (engine.ViewRows, error)
}

// ReadView answers from a Redis view of the version that serves when that is whole and at the caller's token, else from
// the tables behind it, the first of which names that version; there it waits as Read does. Only rows of one ordering key of one topic can be read so: entries of other keys
// cannot change them and are ignored.
//
// A Redis that is away is no failure: the tables behind it hold the same rows. Of a key that is parked in the view they
// may hold more.
func (c *Consistency) ReadView(ctx context.Context, h ReadHeaders, view ViewReader, topic, key string,
	fn func(rows engine.ViewRows) error,
	behind []engine.Projection, fallback func(ctx context.Context, s Snapshot) error,
) error {
	tokens, err := token.Parse(h.ConsistencyToken)
	if err != nil {
		return err
	}
	if view != nil {
		serving, err := c.pointers.serving(ctx, behind[0].Name)
		asking, giveUp := context.WithTimeout(ctx, askView)
		defer giveUp()
		var rows engine.ViewRows
		if err == nil {
			rows, err = view.Read(asking, serving, topic, key)
		}
		if err == nil && rows.Whole && !rows.Parked && c.at(asking, rows, tokens, topic, key) {
			return fn(rows)
		}
	}
	return c.Read(ctx, h, Scope{Of: behind, Keys: []string{key}}, fallback)
}

// at reports whether rows of a view have what the tokens ask for of their key. What cannot be said is no: the tables
// answer then.
func (c *Consistency) at(ctx context.Context, rows engine.ViewRows, tokens []token.Token, topic, key string) bool {
	for _, t := range tokens {
		for _, e := range t.Entries {
			if e.Topic != topic || e.Key != key {
				continue
			}
			if same, err := c.lineage.carried(ctx, t.Incarnation, e.Position, rows.Incarnation); err != nil || !same || rows.Position < e.Position {
				return false
			}
		}
	}
	return true
}
