package readapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/internal/problem"
	"github.com/dangdangsalon/salon/internal/token"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Replica is a second copy of the reads database that takes reads off the primary: a replica of it, or the server that was
// one before a fail-over.
//
// A read with a token may be answered by it whatever it lacks: the token is checked in the snapshot that the rows come
// from, and rows are the fold of the events up to their offset on any copy. A read without one may be answered by it
// while it is at most MaxAge older than the primary: every Every the primary is asked where each partition stands and
// which versions serve, and the replica whether it has come that far. While the primary does not answer, nothing new can
// come to be: a replica that was that near when it was last seen, or has come to have all that it had then, answers as it is.
//
// Without Run it is not used.
type Replica struct {
	DB      *reads.DB
	Primary *reads.DB
	// MaxAge is how much older than the primary a read without a token may be. Defaults to 2 s.
	MaxAge time.Duration
	// Every is how long it is between two looks. Defaults to 250 ms; an age is known to within one.
	Every time.Duration
	Log   *slog.Logger

	mu      sync.Mutex
	answers bool      // to the last look
	alone   bool      // the primary did not answer the last look
	near    bool      // it was near enough when the primary was last seen, or has come that far since
	as      time.Time // it has all that the primary had then; zero: not known
	asked   time.Time // when the primary was first seen
	said    string    // the same trouble is told once
}

const (
	replicaLookPeriod = 250 * time.Millisecond
	replicaLookFor    = time.Second
	// askReplica is how long the replica may take for a read before the primary is asked: one that froze between two looks
	// must not cost its readers their time.
	askReplica = time.Second
	// replicaHeld is how many states of the primary are remembered as they come: under steady writes a replica is always a little
	// behind the newest. As many older ones are, the older the fewer, so that one that is far behind is found by what it reaches.
	replicaHeld = 16
)

// state is what the primary had at one moment.
type state struct {
	at      time.Time
	serving map[string]int
	places  []engine.Place
}

// Run looks until ctx ends. A database that is away is no error.
func (r *Replica) Run(ctx context.Context) error {
	var held []state // oldest first
	tick := time.NewTicker(cmp.Or(r.Every, replicaLookPeriod))
	defer tick.Stop()
	for {
		held = r.look(ctx, held)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks both, and answers which states of the primary are worth remembering.
func (r *Replica) look(ctx context.Context, held []state) []state {
	began := time.Now() // before the question: what is written while it is asked may be missing from the answer
	primary, away := stateOf(ctx, r.Primary)
	if away == nil {
		primary.at = began
		held = append(held, primary)
	}
	here, err := stateOf(ctx, r.DB)
	if ctx.Err() != nil {
		return held
	}
	reached := -1
	if err == nil {
		for i, h := range held {
			if h.within(here) {
				reached = i
			}
		}
	}
	r.note(ctx, held, reached, away, err)
	return thin(held[max(0, reached):])
}

// thin forgets every second one of the older states when there are too many; never the oldest, which was reached.
func thin(held []state) []state {
	if len(held) <= 2*replicaHeld {
		return held
	}
	var out []state
	for i := 0; i < replicaHeld; i += 2 {
		out = append(out, held[i])
	}
	return append(out, held[replicaHeld:]...)
}

func (r *Replica) note(ctx context.Context, held []state, reached int, away, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alone, r.answers = away != nil, err == nil
	if r.asked.IsZero() && len(held) > 0 {
		r.asked = held[0].at
	}
	if reached >= 0 {
		r.as = held[reached].at
	}
	all := reached >= 0 && reached == len(held)-1
	r.near = time.Since(r.as) <= r.maxAge() || away != nil && (r.near || all)
	trouble := ""
	switch {
	case err != nil:
		trouble = fmt.Sprintf("it does not answer: %v", err)
	case !r.near:
		trouble = "it is too far behind"
	}
	if trouble == r.said || r.Log == nil {
		return
	}
	r.said = trouble
	if trouble != "" {
		r.Log.WarnContext(ctx, "reads go to the primary alone, not to the replica", "why", trouble)
		return
	}
	r.Log.InfoContext(ctx, "reads go to the replica")
}

func (r *Replica) maxAge() time.Duration {
	if r.MaxAge <= 0 {
		return 2 * time.Second
	}
	return r.MaxAge
}

// Serves reports whether reads may be answered by the replica now.
func (r *Replica) Serves() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers && (r.alone && r.near || time.Since(r.as) <= r.maxAge())
}

// Age is how much older than the primary the replica may be; known is false before it was in step for the first time.
func (r *Replica) Age() (age time.Duration, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.as), !r.as.IsZero()
}

// Behind is how old what the replica has is at most; of one that has been late since the first look, at least. known is false while
// the primary or the replica does not answer.
func (r *Replica) Behind() (age time.Duration, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	as := r.as
	if as.IsZero() {
		as = r.asked
	}
	return time.Since(as), r.answers && !r.alone && !as.IsZero()
}

// stateOf reads where every partition stands and which versions serve, in one snapshot.
func stateOf(ctx context.Context, db *reads.DB) (s state, err error) {
	ctx, cancel := context.WithTimeout(ctx, replicaLookFor)
	defer cancel()
	err = db.Snapshot(ctx, func(ctx context.Context, q reads.Queryer) error {
		if s.serving, err = engine.AllActiveVersions(ctx, q); err != nil {
			return err
		}
		s.places, err = engine.Places(ctx, q)
		return err
	})
	return s, err
}

// within reports whether another copy has all that this one had. A newer epoch of a partition stands for all commits of
// the ones before it, since its owner goes on where they ended.
func (s state) within(copy state) bool {
	type part struct {
		projection, topic string
		part              int32
	}
	there := make(map[part]engine.Place, len(copy.places))
	for _, p := range copy.places {
		there[part{p.Projection, p.Topic, p.Part}] = p
	}
	for _, p := range s.places {
		c, found := there[part{p.Projection, p.Topic, p.Part}]
		if !found || c.Incarnation != p.Incarnation || c.LastPos < p.LastPos || c.Epoch < p.Epoch || c.Epoch == p.Epoch && c.Seq < p.Seq {
			return false
		}
	}
	return maps.Equal(s.serving, copy.serving)
}

// Copy is which copy of the reads database answered.
type Copy string

// The copies.
const (
	OnPrimary Copy = "primary"
	OnReplica Copy = "replica"
)

// Why the primary was asked although there is a replica.
const (
	passedLate   = "late"   // it was too far behind, or did not answer the last look
	passedBehind = "behind" // it lacked what the token asks for
	passedFailed = "failed" // it did not answer this read
)

// onReplica lets the replica answer, and says why the primary has to, "" when not.
func (c *Consistency) onReplica(ctx context.Context, tokens []token.Token, scope Scope, fn func(ctx context.Context, s Snapshot) error) (why string, err error) {
	if !c.replica.Serves() {
		return passedLate, nil
	}
	asking, giveUp := context.WithTimeout(ctx, askReplica)
	defer giveUp()
	lag, err := c.on(asking, c.replica.DB, tokens, scope, fn)
	var p *problem.Problem
	switch {
	case len(lag) > 0:
		return passedBehind, nil
	case err != nil && (!errors.As(err, &p) || p.Status >= 500): // a key may be parked there that the primary has mended
		return passedFailed, nil
	}
	c.count(OnReplica, "")
	return "", err
}

func (c *Consistency) count(by Copy, why string) {
	if c.answered != nil {
		c.answered(by, why)
	}
}
