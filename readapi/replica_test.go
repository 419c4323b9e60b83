package readapi

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/internal/harness"
	"github.com/dangdangsalon/salon/projections/reads"
)

// copies is a world whose reads have a replica, and counts who answered.
type copies struct {
	*world
	primary, replica *harness.OwnMySQL
	of               *Replica

	mu      sync.Mutex
	answers map[string]int // copy and why
}

func newCopies(t *testing.T) *copies {
	t.Helper()
	c := &copies{primary: harness.NewMySQL(t), answers: map[string]int{}}
	c.replica = c.primary.Replica(t)
	url := c.primary.Database(t)
	c.world = newWorld(t, url)
	db, err := reads.OpenReplica("mysql://root@" + c.replica.Addr + url[len("mysql://root@"+c.primary.Addr):])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	c.of = &Replica{DB: db, Primary: c.db, MaxAge: 500 * time.Millisecond}
	c.screens = newScreens(Deps{Reads: c.db, Replica: c.of, Texts: c.texts, Answered: func(by Copy, why string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answers[string(by)+" "+why]++
	}})
	c.serve()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.of.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(running.Wait)
	t.Cleanup(stop)
	return c
}

// answered tells how many reads a copy has answered for one reason.
func (c *copies) answered(by string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[by]
}

// await waits until something holds.
func (c *copies) await(what string, holds func() bool) {
	c.t.Helper()
	limit := time.After(time.Minute)
	for tick := time.NewTicker(5 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("%s: not within a minute; answered: %v", what, c.answers)
		}
	}
}

// Whatever is done to the replica, no read fails and none is older than its token; and while it is in step, it answers.
func TestTheReplicaAnswersWhatItHasAndThePrimaryTheRest(t *testing.T) {
	harness.NeedsServers(t)
	t.Parallel()
	c := newCopies(t)
	salon := c.log.Open("kim", "Asia/Seoul")
	visit := salon.Request("c1", tenth)
	c.project()

	// One person writes and reads their write all the while; another one reads without a token.
	type write struct {
		token    string
		revision uint64
	}
	var last atomic.Pointer[write]
	last.Store(&write{c.token(), visit.Revision})
	move := func() {
		salon.Move(visit, tenth.Add(time.Duration(visit.Revision)*time.Hour))
		c.project()
		last.Store(&write{c.token(), visit.Revision})
	}
	path := "/v1/reservations/" + visit.ID
	get := func(headers ...string) (revision uint64) {
		t.Helper()
		return want[Reservation](c.get("customer:c1", path, headers...), http.StatusOK).Revision
	}
	own := func() {
		t.Helper()
		w := last.Load()
		if got := get("Consistency-Token", w.token, "Prefer", "wait=30"); got < w.revision {
			t.Errorf("revision %d with a token of %d", got, w.revision)
		}
	}
	enough, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for _, read := range []func(){own, own, func() { get() }} {
		readers.Go(func() {
			for enough.Err() == nil {
				read()
			}
		})
	}
	defer readers.Wait()
	defer stop()

	serves := func() {
		t.Helper()
		c.await("the replica answers", c.of.Serves)
		before := c.answered("replica ")
		c.await("it answers reads", func() bool { own(); return c.answered("replica ") > before+10 })
	}
	serves()
	for _, harm := range []struct {
		what   string
		do     []string
		mend   []string
		passed string // why the primary is asked
	}{
		{"it applies nothing", []string{"STOP REPLICA SQL_THREAD"}, []string{"START REPLICA SQL_THREAD"}, "primary behind"},
		{"it hears nothing", []string{"STOP REPLICA IO_THREAD"}, []string{"START REPLICA IO_THREAD"}, "primary behind"},
		{
			"it is late on purpose", []string{"STOP REPLICA SQL_THREAD", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 3600", "START REPLICA SQL_THREAD"},
			[]string{"STOP REPLICA SQL_THREAD", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 0", "START REPLICA SQL_THREAD"}, "primary behind",
		},
	} {
		c.replica.Execute(t, harm.do...)
		move()
		before := c.answered(harm.passed)
		c.await(harm.what+": the primary is asked", func() bool { own(); return c.answered(harm.passed) > before || !c.of.Serves() })
		c.await(harm.what+": it is found to be late", func() bool { return !c.of.Serves() })
		if got := get(); got < visit.Revision {
			t.Errorf("%s: without a token, revision %d of %d is shown by a replica that is known to be late", harm.what, got, visit.Revision)
		}
		move()
		c.replica.Execute(t, harm.mend...)
		serves()
	}

	c.replica.Freeze()
	c.await("it is frozen: the primary is asked", func() bool { return !c.of.Serves() })
	move()
	own()
	c.replica.Thaw()
	serves()
	c.replica.Kill()
	own()
	move()
	own()
	c.replica.Start(t)
	serves()
	stop()
	readers.Wait()

	c.replica.Execute(t, "STOP REPLICA SQL_THREAD")
	move()
	c.await("it is late", func() bool { // to a look, not by the clock between two: only a look tells what was so when the primary was last seen
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		return !c.of.near
	})
	c.primary.Kill()
	c.await("the primary is missed", func() bool {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		return c.of.alone
	})
	if c.of.Serves() {
		t.Error("a replica that was late when the primary was last seen answers reads")
	}
	refused(c.get("customer:c1", path), http.StatusServiceUnavailable, "read_model.unavailable")
	c.replica.Execute(t, "START REPLICA SQL_THREAD")
	c.await("it has all that the primary had", c.of.Serves)
	own()
	if got := get(); got != visit.Revision {
		t.Errorf("without a primary, revision %d of %d is shown", got, visit.Revision)
	}
}
