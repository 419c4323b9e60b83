package reactors_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/commands"
	"github.com/dangdangsalon/salon/domain"
	"github.com/dangdangsalon/salon/domain/groomer"
	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/foldtest"
	"github.com/dangdangsalon/salon/projections/reads"
	"github.com/dangdangsalon/salon/reactors"
)

// expected is the metadata of what a timer does because of an event: the command's ID is the event's, derived.
func expected(cause uuid.UUID, correlation, command string) eventstore.Metadata {
	return eventstore.Metadata{
		CommandID: eventstore.CommandID("system", "timers", "EVENT", command, cause.String()), Command: command,
		Actor: domain.Actor{ID: "timers", Role: domain.System}, CorrelationID: correlation, CausationID: cause.String(),
	}
}

// TestWhatIsDueHappensOnceBesideTheOtherNode lets two nodes with clocks of their own run while requests expire and
// visits come near.
func TestWhatIsDueHappensOnceBesideTheOtherNode(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(testing.TB) string{"MySQL": harness.MySQL, "MariaDB": harness.MariaDB, "SQLite": onSQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, url)
			w.project()
			for range 2 {
				w.start(w.firer(w.node()).Run)
			}
			want := map[string][]eventstore.Metadata{}
			cause := map[string]uuid.UUID{}
			for i := range 30 {
				salon := []string{"kim", "lee", "mong"}[i%3]
				if i < 3 {
					w.open(salon)
				}
				after := time.Since(w.began) + time.Duration(i%10)*200*time.Millisecond
				id := reservation(salon, 2*i)
				cause[id+" reservation.expired.v1"] = w.requested(salon, id, after)
				id = reservation(salon, 2*i+1)
				cause[id+" reservation.reminded.v1"] = w.booked(salon, id, after+3*time.Second) // one recorded later than that would have no reminder
			}
			w.requested("kim", reservation("kim", 100), time.Hour)
			w.booked("kim", reservation("kim", 101), time.Hour)
			answered := reservation("kim", 102)
			w.requested("kim", answered, time.Hour)
			w.happened("kim", groomer.Declined{ReservationID: answered})

			w.awaitDone(len(cause))
			w.caughtUp()
			correlation := map[uuid.UUID]string{}
			for _, r := range w.events() {
				m, err := eventstore.DecodeMetadata(r.Metadata)
				if err != nil {
					t.Fatal(err)
				}
				correlation[r.ID] = m.CorrelationID
			}
			for what, id := range cause {
				command := "expire"
				if strings.HasSuffix(what, "reminded.v1") {
					command = "remind"
				}
				want[what] = []eventstore.Metadata{expected(id, correlation[id], command)}
			}
			if diff := cmp.Diff(want, w.done()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			var left []string
			for _, d := range w.left() {
				left = append(left, d.ReservationID+" "+d.Kind)
			}
			if diff := cmp.Diff([]string{reservation("kim", 100) + " expire", reservation("kim", 101) + " remind"}, left); diff != "" {
				t.Errorf("rows left (-want +got)\n%s", diff)
			}
		})
	}
}

// counting counts the commands, and those that were answered from what the first one did.
type counting struct {
	reactors.Commands
	issued, replayed atomic.Int64
}

func (c *counting) Expire(ctx context.Context, m commands.Meta, id string) (commands.Result[commands.Book], error) {
	c.issued.Add(1)
	r, err := c.Commands.Expire(ctx, m, id)
	if r.Replayed {
		c.replayed.Add(1)
	}
	return r, err
}

// TestACrashBetweenCommandAndFoldRepeatsTheCommand stops the projection, so that no row leaves: each of two nodes that
// remember nothing fires everything again, and nothing happens again.
func TestACrashBetweenCommandAndFoldRepeatsTheCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, harness.MySQL)
	stop := w.project()
	w.open("kim")
	const n = 20
	for i := range n {
		w.requested("kim", reservation("kim", i), 0)
	}
	w.caughtUp()
	stop()
	head := uint64(0)
	for life := range 3 {
		c := &counting{Commands: w.node()}
		f := w.firer(c)
		clock := time.Now()
		f.Now = func() time.Time { return clock } // a slow machine would come to the second try
		for range 2 {                             // the second look finds them tried
			if err := f.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if s := f.Status(); s.Due != n || s.Late(s.At) <= 0 || c.issued.Load() != n {
			t.Errorf("life %d: %d due, late %v, %d commands issued; want %d and %d", life, s.Due, s.Late(s.At), c.issued.Load(), n, n)
		}
		now, err := w.store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if life > 0 && (now.Position != head || c.replayed.Load() != n) {
			t.Errorf("life %d: the store grew from %d to %d; %d of %d commands were known", life, head, now.Position, c.replayed.Load(), n)
		}
		head = now.Position
	}
	if got := len(w.done()); got != n {
		t.Errorf("%d of %d expired", got, n)
	}
	w.project()
	w.caughtUp()
	if rows := w.left(); len(rows) != 0 {
		t.Errorf("rows left: %+v", rows)
	}
	if count, _, err := w.overdue(); err != nil || count != 0 {
		t.Errorf("%d overdue, %v", count, err)
	}
}

func (w *world) overdue() (count int, oldest time.Time, err error) {
	err = w.db.Snapshot(w.Context(), func(ctx context.Context, q reads.Queryer) error {
		count, oldest, err = reactors.Overdue(ctx, q, time.Now())
		return err
	})
	return count, oldest, err
}

// table is a due table on SQLite, folded from a made-up log: for what the Firer does with rows, without servers.
func table(t *testing.T, requests int) (*reads.DB, *foldtest.Log) {
	t.Helper()
	db, err := reads.Open(t.Context(), onSQLite(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := foldtest.NewLog()
	s := log.Open("kim", "Asia/Seoul")
	for i := range requests {
		s.Request("c1", log.Now.Add(time.Duration(i)*time.Microsecond)) // expires at its start
	}
	p := reactors.Timers()
	if err := engine.EnsureTables(t.Context(), db, p); err != nil {
		t.Fatal(err)
	}
	part := engine.PartitionOf("kim", 1)
	if err := engine.Apply(t.Context(), db, p, p.Topics[0], part, 1, "i", log.Events); err != nil {
		t.Fatal(err)
	}
	return db, log
}

// fake answers by its function.
type fake func(id string) error

func (f fake) ReactMeta(_ context.Context, command string, because commands.Cause, _ string) (commands.Meta, error) {
	return commands.Meta{Command: command, CausationID: because.EventID}, nil
}

func (f fake) Expire(_ context.Context, _ commands.Meta, id string) (commands.Result[commands.Book], error) {
	return commands.Result[commands.Book]{}, f(id)
}

func (f fake) Remind(_ context.Context, _ commands.Meta, id string) (commands.Result[commands.Book], error) {
	return commands.Result[commands.Book]{}, f(id)
}

// TestRowsThatFailHideNobody puts more rows than a page at the head that fail whatever happens: the one behind them is
// fired all the same, and each failing one is told of once.
func TestRowsThatFailHideNobody(t *testing.T) {
	t.Parallel()
	const poison = 520
	db, log := table(t, poison+1)
	last := reservation("kim", poison+1)
	var output bytes.Buffer
	var got, tries atomic.Int64
	now := log.Now.Add(time.Hour)
	f := &reactors.Firer{
		Reads: db, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&output, nil)),
		Commands: fake(func(id string) error {
			tries.Add(1)
			if id == last {
				got.Add(1)
				return nil
			}
			return errors.New("a stream that cannot be folded")
		}),
	}
	passes := 0
	for ; got.Load() == 0 && passes < 100; passes++ {
		_ = f.Pass(t.Context()) // gives up now and then
		now = now.Add(time.Second)
	}
	if got.Load() != 1 {
		t.Fatalf("not fired in %d passes", passes)
	}
	before := tries.Load()
	const more = 90
	for range more { // from now on it is a few a pass
		_ = f.Pass(t.Context())
		now = now.Add(time.Second)
	}
	if often := tries.Load() - before; often > more*20 {
		t.Errorf("%d tries in %d passes", often, more)
	}
	if told := strings.Count(output.String(), "timer not fired"); told != poison {
		t.Errorf("%d of %d told of", told, poison)
	}
	if s := f.Status(); s.Due != poison+1 {
		t.Errorf("%d due, want %d", s.Due, poison+1)
	}
}

// TestAStoreThatIsAwayIsAskedLittle: a pass gives up soon and says so, and everything is fired once it is back.
func TestAStoreThatIsAwayIsAskedLittle(t *testing.T) {
	t.Parallel()
	const n = 200
	db, log := table(t, n)
	now := log.Now.Add(time.Hour)
	var away atomic.Bool
	away.Store(true)
	var tries atomic.Int64
	fired := map[string]bool{}
	lock := make(chan struct{}, 1)
	f := &reactors.Firer{
		Reads: db, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Commands: fake(func(id string) error {
			tries.Add(1)
			if away.Load() {
				return errors.New("away")
			}
			lock <- struct{}{}
			fired[id] = true
			<-lock
			return nil
		}),
	}
	for range 20 {
		before := tries.Load()
		if err := f.Pass(t.Context()); err == nil || f.Status().Error == "" {
			t.Error("a pass in which everything failed was a good one")
		}
		if often := tries.Load() - before; often > 50 {
			t.Errorf("%d tries in a pass", often)
		}
		now = now.Add(10 * time.Second)
	}
	away.Store(false)
	for range 100 {
		if err := f.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Second)
	}
	if len(fired) != n {
		t.Errorf("%d of %d fired", len(fired), n)
	}
}

// TestWhatIsNotTrueAnyMoreIsLeftAlone: a refusal is no failure, and a visit that has begun is not reminded of.
func TestWhatIsNotTrueAnyMoreIsLeftAlone(t *testing.T) {
	t.Parallel()
	db, log := table(t, 3)
	now := log.Now.Add(time.Hour)
	var output bytes.Buffer
	f := &reactors.Firer{
		Reads: db, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&output, nil)),
		Commands: fake(func(string) error { return groomer.ErrWrongState }),
	}
	if err := f.Pass(t.Context()); err != nil || f.Status().Due != 3 || output.Len() != 0 {
		t.Errorf("%v, %+v, told %q", err, f.Status(), output.String())
	}
	s := log.Open("lee", "Asia/Seoul")
	start := log.Now.Add(48 * time.Hour)
	v := s.Request("c1", start)
	s.Confirm(v)
	p := reactors.Timers()
	if err := engine.Apply(t.Context(), db, p, p.Topics[0], 0, 1, "i", log.Events); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at  time.Time
		due int
	}{{start.Add(-24*time.Hour - time.Second), 3}, {start.Add(-24 * time.Hour), 4}, {start.Add(-time.Second), 4}, {start.Add(time.Second), 3}} {
		now = c.at
		if err := f.Pass(t.Context()); err != nil || f.Status().Due != c.due {
			t.Errorf("at %v: %v, %d due, want %d", c.at, err, f.Status().Due, c.due)
		}
	}
}
