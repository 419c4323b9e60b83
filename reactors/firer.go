package reactors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/projections/reads"
)

// Commands is what a Firer issues; *commands.Executor is one.
type Commands interface {
	// ReactMeta is the same for the same command, cause and reservation, but for its traceparent.
	ReactMeta(ctx context.Context, command string, because commands.Cause, reservationID string) (commands.Meta, error)
	// Expire and Remind refuse with a domain.Refusal what is not, or not yet, to be done.
	Expire(ctx context.Context, m commands.Meta, reservationID string) (commands.Result[commands.Book], error)
	Remind(ctx context.Context, m commands.Meta, reservationID string) (commands.Result[commands.Book], error)
}

// Firer issues the command of every row whose time has come.
//
// It never deletes a row: the command's own event does, through the log. Until that is folded the row is fired again now
// and then, which has no effect. Several nodes may run one each. They elect nobody: an election would add a way to stand
// still, and what it saves is a look-up by command ID when two nodes happen to look within the few milliseconds that a
// command takes to come back as a row less. Each looks at a moment of its own.
type Firer struct {
	Reads    *reads.DB
	Commands Commands
	Log      *slog.Logger
	// Now is the clock by which a row is due. The command decides by its own. Defaults to time.Now.
	Now func() time.Time
	// Pace is how often it looks, so how late it is at most while all goes well. Defaults to a second; less costs the
	// reads database a look each time.
	Pace time.Duration

	mu     sync.Mutex
	status Status
	tried  map[row]attempt // rows that were fired and are still there
	said   bool            // that it cannot go on
}

// Status is what a Firer saw when it looked last.
type Status struct {
	At     time.Time // zero: it has not looked yet
	Due    int       // rows whose time had come, those that wait to be tried again with them
	Oldest time.Time // when the first of them was due
	Error  string    // why it could not look, or what the store said
}

// Late is how long the oldest of what was due has been.
func (s Status) Late(now time.Time) time.Duration {
	if s.Due == 0 {
		return 0
	}
	return now.Sub(s.Oldest)
}

type row struct{ id, kind, cause string }

// attempt is how often a row was fired in vain.
type attempt struct {
	times  int
	next   time.Time // not before
	failed bool      // the last time, by an error that is no refusal
	told   bool      // of an error of its
	seen   bool      // in this pass
}

const (
	page       = 500 // rows read at once
	concurrent = 8   // commands in flight: they share the store's group commits, and leave it to people otherwise
	// giveUp is how many rows may fail for the first time with none between them that got through: then it is the store,
	// and the rest of the pass would only wait for it. Of those that failed before, a pass tries as many again.
	giveUp = 2 * concurrent
)

// Run fires until ctx ends. It returns nil: what fails is tried again.
func (f *Firer) Run(ctx context.Context) error {
	pace := cmp.Or(f.Pace, time.Second)
	for failures := 0; ; {
		err := f.Pass(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // asked to stop
		}
		// With dice: nodes that one deployment started would look in step, and each issue every command.
		wait := pace/2 + rand.N(pace)
		if err != nil {
			failures++
			wait += min(5*time.Second, pace<<min(failures, 10))
		} else {
			failures = 0
		}
		f.tell(ctx, err)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// tell logs that it cannot go on, and that it can again: once each.
func (f *Firer) tell(ctx context.Context, err error) {
	if err != nil && !f.said {
		f.Log.ErrorContext(ctx, "timers do not fire; trying again", "error", err)
	} else if err == nil && f.said {
		f.Log.InfoContext(ctx, "timers fire again")
	}
	f.said = err != nil
}

// Status is what the last look saw.
func (f *Firer) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Pass looks once and fires what is due. Its error is one of the reads database or of the event store; that of a single
// row is told and leaves the others alone. One pass at a time.
func (f *Firer) Pass(ctx context.Context) error {
	if f.tried == nil {
		f.tried = map[row]attempt{}
	}
	p := &pass{Firer: f, status: Status{At: f.now()}}
	var err error
	for _, kind := range []string{Expire, Remind} {
		if err = p.over(ctx, kind); err != nil {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && p.got == 0 && p.tries >= giveUp {
		err = fmt.Errorf("all of %d commands failed: %w", p.tries, p.last)
	}
	if err != nil {
		p.status.Error = err.Error()
	}
	f.status = p.status
	for r, a := range f.tried {
		if err == nil && !a.seen { // a pass that saw everything knows which rows are gone
			delete(f.tried, r)
			continue
		}
		a.seen = false
		f.tried[r] = a
	}
	return err
}

func (f *Firer) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

// pass is one look at what is due. The Firer's lock holds what its goroutines share.
type pass struct {
	*Firer
	status  Status
	retries int // of rows that failed before
	failed  int // rows that failed now and not before, since the last that did not
	tries   int // commands issued
	got     int // of them, those that the store answered
	last    error
}

// over fires what is due of one kind, the longest due first, a page at a time: rows that nothing helps must not hide
// those behind them.
func (p *pass) over(ctx context.Context, kind string) error {
	s := &p.status
	for after := (Due{}); ; {
		rows, err := dueAfter(ctx, p.Reads, kind, s.At, after, page)
		if err != nil {
			return err
		}
		if len(rows) > 0 && (s.Oldest.IsZero() || rows[0].DueAt.Before(s.Oldest)) {
			s.Oldest = rows[0].DueAt
		}
		s.Due += len(rows)
		if err := p.fireAll(ctx, rows); err != nil {
			return err
		}
		if len(rows) < page {
			return nil
		}
		after = rows[len(rows)-1]
	}
}

// fireAll fires those of the rows whose turn it is. An error means that one after the other failed.
func (p *pass) fireAll(ctx context.Context, rows []Due) error {
	group := new(errgroup.Group)
	group.SetLimit(concurrent)
	for _, d := range rows {
		fire, stop := p.turn(d)
		if stop || ctx.Err() != nil {
			break
		}
		if fire {
			group.Go(func() error { p.fire(ctx, d); return nil })
		}
	}
	_ = group.Wait() // each tells its own
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed >= giveUp {
		return fmt.Errorf("%d commands failed one after the other: %w", p.failed, p.last)
	}
	return nil
}

// turn notes that the row is there, and tells whether to fire it now, or nothing more in this pass.
func (p *pass) turn(d Due) (fire, stop bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed >= giveUp {
		return false, true
	}
	a, tried := p.tried[d.row()]
	if !tried {
		return true, false
	}
	a.seen = true
	p.tried[d.row()] = a
	if p.now().Before(a.next) {
		return false, false
	}
	if a.failed {
		if p.retries >= giveUp {
			return false, false
		}
		p.retries++
	}
	return true, false
}

// fire issues the command of one row and notes what became of it.
func (p *pass) fire(ctx context.Context, d Due) {
	err := p.issue(ctx, d)
	if ctx.Err() != nil {
		return // the row is still there for who comes next
	}
	var refusal domain.Refusal
	refused := errors.As(err, &refusal)
	p.mu.Lock()
	a := p.tried[d.row()]
	p.tries++
	switch {
	case err == nil || refused:
		p.failed, p.got = 0, p.got+1
	case !a.failed:
		p.failed, p.last = p.failed+1, err
	default:
		p.last = err
	}
	// What is refused is not true any more, or not yet by the store's clock. Any other refusal is a fault of ours.
	strange := err != nil && (!refused || !expected(refusal.Code))
	tell := strange && !a.told
	// Longer each time: what was done comes back as an event soon, or the projection is late and this does not help it.
	a = attempt{times: a.times + 1, failed: err != nil && !refused, told: a.told || strange, seen: true}
	a.next = p.now().Add(min(time.Minute, 2*time.Second<<min(a.times, 6)))
	p.tried[d.row()] = a
	p.mu.Unlock()
	if tell {
		p.Log.ErrorContext(ctx, "timer not fired; trying again", "kind", d.Kind, "reservation", d.ReservationID, "due_at", d.DueAt, "error", err)
	}
}

func expected(code string) bool {
	switch code {
	case "reservation.wrong_state", "reservation.unknown", "request.not_due", "reminder.not_due":
		return true
	}
	return false
}

func (f *Firer) issue(ctx context.Context, d Due) error {
	command, do := "expire", f.Commands.Expire
	if d.Kind == Remind {
		command, do = "remind", f.Commands.Remind
	}
	m, err := f.Commands.ReactMeta(ctx, command, commands.Cause{EventID: d.CauseID, CorrelationID: d.CorrelationID}, d.ReservationID)
	if err != nil {
		return err
	}
	_, err = do(ctx, m, d.ReservationID)
	return err
}

func (d Due) row() row { return row{d.ReservationID, d.Kind, d.CauseID} }
