package rebuild

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Source is what a rebuild needs of an event store; the contract is that of eventstore.Store.
type Source interface {
	Events
	Head(ctx context.Context) (eventstore.Head, error)
}

// Partition names one partition of a topic, without the prefix.
type Partition struct {
	Topic string
	Part  int32
}

// Worker carries out runs, one at a time, and beside it one of those that only look at, or mend, a version that is live. Any
// number may run, on any nodes: each run has one worker, and when that dies another goes on.
type Worker struct {
	Desk  *Desk
	Store Source
	Codec *eventstore.Codec
	// Scans says that the store reads all it has whichever slices are asked for, as EventStoreDB does: then one reader reads it
	// once for all passes that are made at a time.
	Scans bool
	// Ends tells where each partition of the topics ends in Kafka.
	Ends func(ctx context.Context, topics []string) (map[Partition]int64, error)
	// Log defaults to nowhere.
	Log *slog.Logger
	// Parallel is how many passes over the history are made at once. Defaults to the number of processors, at most 8; more keep
	// the databases busier than a projector should.
	Parallel int
	// MostRows of about 1 KiB that each of them holds in memory. Defaults to 50,000: memory is bounded by Parallel times that,
	// whatever the history is; on SQLite to 10,000, since its only writer waits while they are written. Fewer make more passes
	// and smaller transactions.
	MostRows int
	// Patience is how long a run's worker may be silent before another takes the run over. Defaults to 10 s; less may take
	// it from one that merely waits for a lock.
	Patience time.Duration
	// Seen, when set, is called twice a second with how a run of this worker is, and once when it has ended.
	Seen func(Run)
	// At, when set, is called at each phase of a run, and after each portion of slices: for tests that kill there.
	At func(phase string)
}

type beats struct {
	n  int64
	at time.Time
}

// look is how often a worker looks for runs, and tells how far its own is.
const look = 500 * time.Millisecond

// Run carries out what is asked until ctx ends. Servers that are away are waited for.
func (w *Worker) Run(ctx context.Context) error {
	if w.Log == nil {
		w.Log = slog.New(slog.DiscardHandler)
	}
	var lanes sync.WaitGroup
	for _, aside := range []bool{false, true} {
		lanes.Go(func() { w.lane(ctx, aside) })
	}
	lanes.Wait()
	return nil
}

// lane carries out the runs of one kind.
func (w *Worker) lane(ctx context.Context, aside bool) {
	seen := map[string]beats{}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r, found, err := w.next(ctx, seen, aside)
		if err != nil || !found {
			continue // the database is away: whoever projects says so
		}
		l, taken, err := take(ctx, w.Desk.DB, r)
		if err != nil || !taken {
			continue
		}
		if r, err = getRun(ctx, w.Desk.DB.Writer(), r.ID); err != nil {
			continue
		}
		(&work{Worker: w, lease: l, run: r}).carryOut(ctx)
	}
}

// next finds a run that nobody works on: one that was just asked, or whose worker has been silent for too long by our own
// clock, however the clocks of others go.
func (w *Worker) next(ctx context.Context, seen map[string]beats, aside bool) (Run, bool, error) {
	open, err := queryRuns(ctx, w.Desk.DB.Reader(), "WHERE state IN (?, ?) ORDER BY asked_at, run_id", Asked, Running)
	if err != nil {
		return Run{}, false, err
	}
	now := time.Now()
	for _, r := range open {
		if _, _, err := w.Desk.find(r.VersionID()); err != nil || r.aside() != aside {
			continue // another release's, or lane's
		}
		last, known := seen[r.ID]
		if !known || last.n != r.beats {
			seen[r.ID] = beats{r.beats, now}
		}
		if r.State == Asked || known && last.n == r.beats && now.Sub(last.at) > cmp.Or(w.Patience, 10*time.Second) {
			return r, true, nil
		}
	}
	return Run{}, false, nil
}

// work is one run in the hands of this worker.
type work struct {
	*Worker
	lease lease

	mu       sync.Mutex
	remarked string // the run's Detail unless there is something else to say
	run      Run
	meter    meter
	pacer    *pacer // while loading
}

// errCancelled says that somebody asked for the run to be given up.
var errCancelled = errors.New("cancelled")

// carryOut works on the run until it has ended, another worker has it, or ctx ends.
func (k *work) carryOut(ctx context.Context) {
	log := k.Log.With("run", k.run.ID, "kind", k.run.Kind, "projection", k.id())
	log.InfoContext(ctx, "run begins")
	inner, stop := context.WithCancelCause(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { k.keepTelling(inner, stop) })
	defer telling.Wait()
	defer stop(nil)
	for failures := 1; ; failures++ {
		err := k.step(inner)
		if ctx.Err() != nil {
			return // another worker, or this one's next life, goes on
		}
		if cause := context.Cause(inner); err != nil && (errors.Is(cause, errLost) || errors.Is(cause, errCancelled)) {
			err = cause
		}
		switch {
		case err == nil:
			log.InfoContext(ctx, "run ended", "state", k.run.State)
			return
		case errors.Is(err, errLost):
			log.WarnContext(ctx, "run went to another worker")
			return
		case errors.Is(err, errCancelled), engine.Lasting(err), errors.As(err, new(*RefusedError)):
			stop(nil)
			telling.Wait() // the run's row is ours alone from here on
			k.giveUp(ctx, err)
			return
		}
		log.WarnContext(ctx, "run waits", "error", err)
		k.say(func(r *Run) { r.Detail = "waits, and tries again: " + explained(err) })
		select {
		case <-inner.Done():
		case <-time.After(min(5*time.Second, 100*time.Millisecond<<min(failures, 10))):
		}
	}
}

// explained says why a run cannot go on just now.
func explained(err error) string {
	if reads.Full(err) {
		return "the reads database has no room left (" + engine.Explain(err) + "); what is loaded stays, and goes on when there is room; a cancel removes it"
	}
	return engine.Explain(err)
}

// id names the version that the run is about. Run.VersionID would copy the run, of which others write meanwhile.
func (k *work) id() string {
	return engine.Projection{Name: k.run.Projection, Version: k.run.Version}.ID()
}

// step does what is left of the run.
func (k *work) step(ctx context.Context) error {
	p, _, err := k.Desk.find(k.id())
	if err != nil {
		return err
	}
	switch k.run.Kind {
	case Rebuild:
		return k.rebuild(ctx, p)
	case Verify:
		return k.verify(ctx, p)
	case Drop:
		return k.drop(ctx, p)
	}
	return refused("a worker does not %s", k.run.Kind)
}

// giveUp removes what a rebuild made, and ends the run.
func (k *work) giveUp(ctx context.Context, why error) {
	for failures := 1; ctx.Err() == nil; failures++ {
		err := k.remnants(ctx)
		if err == nil || errors.As(err, new(*RefusedError)) { // what serves by now stays
			err = k.finish(ctx, func(r *Run) {
				if r.State, r.Detail = Failed, engine.Explain(why); errors.Is(why, errCancelled) {
					r.State, r.Detail = Cancelled, ""
				}
			}, nil)
		}
		if err == nil || errors.Is(err, errLost) {
			k.Log.WarnContext(ctx, "run ended", "run", k.run.ID, "state", k.run.State, "error", why)
			return
		}
		k.Log.WarnContext(ctx, "run cannot be ended yet", "run", k.run.ID, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(min(5*time.Second, 100*time.Millisecond<<min(failures, 10))):
		}
	}
}

// finish ends the run; with belongs to the same transaction.
func (k *work) finish(ctx context.Context, set func(*Run), with txFunc) error {
	k.say(set)
	k.mu.Lock()
	r := k.run
	k.mu.Unlock()
	if took := time.Since(r.StartedAt); r.Kind == Rebuild && took > 0 {
		r.Rate = int64(float64(r.Events) / took.Seconds())
	}
	var result []byte
	if r.Report != nil {
		var err error
		if result, err = json.Marshal(r.Report); err != nil {
			return fmt.Errorf("write down the report: %w", err)
		}
	}
	err := k.lease.end(ctx, r, result, with)
	if err == nil && k.Seen != nil {
		k.Seen(r)
	}
	return err
}

func (k *work) say(set func(*Run)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set(&k.run)
}

// at notes a phase.
func (k *work) at(phase string, total int64) {
	k.say(func(r *Run) { r.Phase, r.Total, r.Detail = phase, total, k.remarked })
	k.from(0)
	if k.At != nil {
		k.At(phase)
	}
}

// from notes how much of a phase was done before.
func (k *work) from(done int64) {
	k.say(func(r *Run) {
		r.Done = done
		k.meter.begin(time.Now(), r)
	})
}

// keepTelling writes down how far the run is, which is also the sign of life.
func (k *work) keepTelling(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	k.say(func(r *Run) { k.meter.begin(time.Now(), r) })
	for {
		k.say(func(r *Run) { k.meter.look(time.Now(), r) })
		k.mu.Lock()
		r := k.run
		if k.pacer != nil {
			r.Detail = strings.Trim(r.Detail+"; "+k.pacer.held(), "; ")
		}
		k.mu.Unlock()
		if k.Seen != nil {
			k.Seen(r)
		}
		cancel, err := k.lease.tell(ctx, r)
		switch {
		case errors.Is(err, errLost):
			stop(errLost)
			return
		case err == nil && cancel:
			stop(errCancelled)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *Worker) parallel() int { return cmp.Or(w.Parallel, min(8, runtime.GOMAXPROCS(0))) }

func (w *Worker) mostRows() int {
	if w.Desk.DB.Dialect() == reads.SQLite {
		return cmp.Or(w.MostRows, 10_000)
	}
	return cmp.Or(w.MostRows, 50_000)
}
