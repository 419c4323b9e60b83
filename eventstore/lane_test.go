package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// disk commits when it is told to. It runs inside a synctest bubble, where "everybody waits" is a state one can wait for.
type disk struct {
	lane   *eventstore.Lane
	groups chan []string // the streams of each group, when its commit begins
	answer chan error    // ends the commit that has begun
	asked  sync.WaitGroup
	ended  map[string]error
	mu     sync.Mutex
}

func newDisk() *disk { return newDisks(1) }

// newDisks commits so many groups at once.
func newDisks(flights int) *disk {
	d := &disk{groups: make(chan []string, 100), answer: make(chan error), ended: map[string]error{}}
	d.lane = eventstore.NewLane(flights, d.commit)
	return d
}

var errConflict = &eventstore.ConflictError{Stream: "odd"}

func (d *disk) commit(ctx context.Context, group []eventstore.Append) ([]eventstore.Result, error) {
	streams := make([]string, len(group))
	results := make([]eventstore.Result, len(group))
	for i, a := range group {
		streams[i] = a.Stream
		results[i].Appended.Position = uint64(len(a.Metadata))
		if a.Stream == "odd" {
			results[i].Err = errConflict
		}
	}
	d.groups <- streams
	select {
	case err := <-d.answer:
		return results, err
	case <-ctx.Done():
		return nil, fmt.Errorf("the commit was called off: %w", ctx.Err())
	}
}

// ask appends in a goroutine of its own, and returns when that one waits.
func (d *disk) ask(ctx context.Context, name string, a eventstore.Append) {
	d.asked.Go(func() {
		done, err := d.lane.Append(ctx, a)
		if err == nil && done.Position != uint64(len(a.Metadata)) {
			err = errors.New("got another's answer")
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ended[name] = err
	})
	synctest.Wait()
}

// settle ends commits, each with the next of errs, until nobody waits.
func (d *disk) settle(errs ...error) map[string]error {
	all := make(chan struct{})
	go func() { d.asked.Wait(); close(all) }()
	for i := 0; ; i++ {
		var err error
		if i < len(errs) {
			err = errs[i]
		}
		select {
		case d.answer <- err:
			synctest.Wait()
		case <-all:
			return d.ended
		}
	}
}

func (d *disk) close() {
	d.lane.Close()
	close(d.groups)
}

func to(stream string) eventstore.Append {
	return eventstore.Append{
		Stream: stream, Key: "key", Expected: eventstore.AnyRevision, Metadata: make([]byte, len(stream)),
		Command: eventstore.Command{ID: uuid.New(), Actor: "customer:kim"},
	}
}

func check(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) || errors.Is(b, a) })); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func (d *disk) seen() [][]string {
	var out [][]string
	for g := range d.groups {
		out = append(out, g)
	}
	return out
}

func TestThoseWhoWaitGoTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		for _, stream := range []string{"first", "b", "odd", "dd"} {
			d.ask(t.Context(), stream, to(stream))
		}
		check(t, "answers", map[string]error{"first": nil, "b": nil, "odd": errConflict, "dd": nil}, d.settle())
		d.close()
		check(t, "groups", [][]string{{"first"}, {"b", "odd", "dd"}}, d.seen())
	})
}

func TestAGroupHoldsEachStreamAndEachCommandOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.ask(t.Context(), "0", to("first"))
		same := to("b")
		d.ask(t.Context(), "1", same)
		d.ask(t.Context(), "2", to("b"))
		same.Stream, same.Metadata = "c", []byte("c")
		d.ask(t.Context(), "3", same) // the same command on another stream
		d.ask(t.Context(), "4", to("b"))
		d.ask(t.Context(), "5", to("d"))
		check(t, "answers", map[string]error{"0": nil, "1": nil, "2": nil, "3": nil, "4": nil, "5": nil}, d.settle())
		d.close()
		check(t, "groups", [][]string{{"first"}, {"b", "d"}, {"b", "c"}, {"b"}}, d.seen())
	})
}

func TestAGroupIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		for i := range 601 {
			d.ask(t.Context(), fmt.Sprint(i), to(fmt.Sprint("s", i)))
		}
		for i := range 10 { // 800 KiB each: 4 MiB hold five
			a := to(fmt.Sprint("big", i))
			a.Metadata = nil
			for e := range 4 {
				a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(a.Command.ID, a.Stream, e), Type: "t", Data: make([]byte, 200<<10)})
			}
			d.ask(t.Context(), a.Stream, a)
		}
		for i := range 30 { // 100 events each: 2,560 are 25 of them
			a := to(fmt.Sprint("many", i))
			for e := range 100 {
				a.Events = append(a.Events, eventstore.NewEvent{ID: eventstore.EventID(a.Command.ID, a.Stream, e), Type: "t"})
			}
			d.ask(t.Context(), a.Stream, a)
		}
		for name, err := range d.settle() {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		d.close()
		var sizes []int
		for _, g := range d.seen() {
			sizes = append(sizes, len(g))
		}
		check(t, "sizes of the groups", []int{1, 256, 256, 88 + 5 + 25, 5 + 5}, sizes)
	})
}

func TestWhoGivesUpBeforeTheGroupIsFormedChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		ctx, cancel := context.WithCancel(t.Context())
		d.ask(ctx, "being written", to("first"))
		d.ask(ctx, "waiting", to("second"))
		d.ask(t.Context(), "patient", to("third"))
		cancel()
		synctest.Wait()
		check(t, "who was answered at once", map[string]error{"waiting": context.Canceled}, d.ended)
		d.ask(ctx, "too late", to("fourth"))
		check(t, "answers", map[string]error{"being written": nil, "waiting": context.Canceled, "patient": nil, "too late": context.Canceled}, d.settle())
		d.close()
		check(t, "groups", [][]string{{"first"}, {"third"}}, d.seen())
	})
}

func TestWhatFailsAGroupIsToldToEachOfItAndToNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		for _, stream := range []string{"first", "b", "c"} {
			d.ask(t.Context(), stream, to(stream))
		}
		d.ask(t.Context(), "later", to("b"))
		lost := fmt.Errorf("connection lost: %w", eventstore.ErrOutcomeUnknown)
		check(t, "answers", map[string]error{"first": nil, "b": lost, "c": lost, "later": nil}, d.settle(nil, lost))
		d.close()
	})
}

func TestCloseFinishesWhatIsBeingWrittenAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.ask(t.Context(), "being written", to("first"))
		d.ask(t.Context(), "waiting", to("second"))
		closed := make(chan struct{})
		go func() { d.lane.Close(); close(closed) }()
		synctest.Wait()
		d.ask(t.Context(), "afterwards", to("third"))
		select {
		case <-closed:
			t.Error("Close did not wait for the commit")
		default:
		}
		ended := d.settle()
		<-closed
		d.close()
		check(t, "answers", map[string]error{"being written": nil, "afterwards": eventstore.ErrUnavailable}, without(ended, "waiting"))
		// It may have been in time for a last group; then it was written.
		if err := ended["waiting"]; err != nil && !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("waiting: %v", err)
		}
	})
}

func without(m map[string]error, name string) map[string]error {
	out := map[string]error{}
	for n, err := range m {
		if n != name {
			out[n] = err
		}
	}
	return out
}

// With the disk hanging, callers wait as long as they like and no longer, however many there are.
func TestAHangingDiskHoldsNobodyWhoGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		d.ask(t.Context(), "first", to("first"))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		for i := range 3000 {
			d.asked.Go(func() {
				if _, err := d.lane.Append(ctx, to(fmt.Sprint("s", i))); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("caller %d: want the context's error, got: %v", i, err)
				}
			})
		}
		<-ctx.Done()
		synctest.Wait()
		check(t, "waited", 3*time.Second, time.Since(began))
		check(t, "answers", map[string]error{"first": nil}, d.settle())
		d.close()
		check(t, "groups", [][]string{{"first"}}, d.seen())
	})
}

// A second group goes beside the first once a crowd waits, and never a third; the others join the next.
func TestACrowdGoesBesideTheGroupThatIsBeingWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisks(2)
		d.ask(t.Context(), "first", to("first"))
		for n := range 63 {
			name := fmt.Sprint("crowd-", n)
			d.ask(t.Context(), name, to(name))
		}
		check(t, "groups on their way while 63 wait", 1, len(d.groups))
		for n := 63; n < 200; n++ {
			name := fmt.Sprint("crowd-", n)
			d.ask(t.Context(), name, to(name))
		}
		check(t, "groups on their way while many wait", 2, len(d.groups))
		for name, err := range d.settle() {
			check(t, name, nil, err)
		}
		d.close()
		sizes := make([]int, 0, 3)
		for _, g := range d.seen() {
			sizes = append(sizes, len(g))
		}
		check(t, "the groups' sizes", []int{1, 64, 136}, sizes)
	})
}
