package storetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

// place is where a writer was told that its event stands.
type place struct {
	stream   string
	revision eventstore.Revision
}

// sight is an event as a follower met it.
type sight struct {
	place
	position uint64
}

const lastStream = "last"

// Counted is what followers met, held against what the store has in the end and what the writers were told.
type Counted struct {
	Events    int // in the store
	Acked     int // told to this process's writers
	Followers int
	Missed    int
	Doubled   int
	Swapped   int
	Elsewhere int // than the writer was told
}

func (c Counted) wrong() error {
	if c.Missed+c.Doubled+c.Swapped+c.Elsewhere == 0 {
		return nil
	}
	return fmt.Errorf("of %d events %d missed, %d doubled, %d swapped, %d elsewhere than their writer was told", c.Events, c.Missed, c.Doubled, c.Swapped, c.Elsewhere)
}

// Side is one process's part in Follow.
type Side struct {
	Name    string // tells the writers of several processes apart
	Writers int
	Each    int             // appends of each writer; 0: until Enough
	Enough  <-chan struct{} // ends the writing; nil: Each does
	Seed    uint64
	Dense   bool
	// TimeByStream is Features.TimeByStream.
	TimeByStream bool
	// Written, when set, is called when this side has written all. The last event, at which every follower stops, is
	// appended by the side whose Written answers true: by then all others must have written theirs.
	Written func(ctx context.Context) (ends bool, err error)
}

// Follow lets many append, to streams of their own and to shared ones, while one follower for each of the stores
// (instances on the same data) reads along. It counts what those missed, met twice or out of order; any of it is an
// error, too.
func Follow(ctx context.Context, stores []eventstore.Store, side Side) (Counted, error) {
	acked, err := map[place]uint64(nil), error(nil)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if acked, err = write(gctx, stores, side); err != nil {
			return err
		}
		if side.Written != nil {
			if ends, err := side.Written(gctx); err != nil || !ends {
				return err
			}
		}
		done, err := append1(gctx, stores[0], request(lastStream, eventstore.AnyRevision, "end"))
		acked[place{lastStream, done.LastRevision}] = done.Position
		return err
	})
	seen := make([][]sight, len(stores))
	for i, s := range stores {
		g.Go(func() (err error) {
			if seen[i], err = follow(gctx, s); err != nil {
				return fmt.Errorf("follower %d: %w", i, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Counted{}, err
	}
	order := order{dense: side.Dense, byStream: side.TimeByStream}
	all, err := sights(order.watch(stores[0].ReadAll(ctx, 0, eventstore.Filter{})))
	if err != nil {
		return Counted{}, err
	}
	total := Counted{Events: len(all), Acked: len(acked), Followers: len(seen)}
	var errs []error
	for i, s := range append(seen, all) {
		c := tally(all, acked, s)
		if err := c.wrong(); err != nil {
			errs = append(errs, fmt.Errorf("follower %d: %w", i, err))
		}
		total.Missed, total.Doubled = total.Missed+c.Missed, total.Doubled+c.Doubled
		total.Swapped, total.Elsewhere = total.Swapped+c.Swapped, total.Elsewhere+c.Elsewhere
	}
	return total, errors.Join(errs...)
}

// write is the writers' part: it answers where they were told that their events stand.
func write(ctx context.Context, stores []eventstore.Store, side Side) (map[place]uint64, error) {
	var mu sync.Mutex
	acked := map[place]uint64{}
	g, gctx := errgroup.WithContext(ctx)
	for w := range side.Writers {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(side.Seed, uint64(w))) //nolint:gosec // a test's dice
			s, own := stores[w%len(stores)], eventstore.NoStream
			for i := 0; side.Each == 0 || i < side.Each; i++ {
				select {
				case <-side.Enough:
					return nil
				default:
				}
				data := make([]string, 1+random.IntN(3))
				a := request(fmt.Sprintf("own-%s-%d", side.Name, w), own, data...)
				if i%3 == 2 {
					a = request(fmt.Sprintf("shared-%d", random.IntN(4)), eventstore.AnyRevision, data...)
				}
				done, err := append1(gctx, s, a)
				if err != nil {
					return err
				}
				if i%3 != 2 {
					own = done.LastRevision
				}
				mu.Lock()
				for n := range a.Events {
					if n > 0 && !side.Dense {
						break // the last one's position alone is told
					}
					acked[place{a.Stream, done.LastRevision - eventstore.Revision(n)}] = done.Position - uint64(n) //nolint:gosec // a small number
				}
				mu.Unlock()
			}
			return nil
		})
	}
	return acked, g.Wait()
}

// follow reads along until it meets the last event.
func follow(ctx context.Context, s eventstore.Store) ([]sight, error) {
	var seen []sight
	after := uint64(0)
	for {
		for r, err := range s.ReadAll(ctx, after, eventstore.Filter{}) {
			if err != nil {
				return seen, fmt.Errorf("was not told of all: %w", err)
			}
			after = r.Position
			seen = append(seen, sight{place{r.Stream, r.Revision}, r.Position})
			if r.Stream == lastStream {
				return seen, nil
			}
		}
		if err := s.Wait(ctx, after); err != nil {
			return seen, fmt.Errorf("was not told of all: %w", err)
		}
	}
}

func sights(events func(func(eventstore.Recorded, error) bool)) ([]sight, error) {
	var out []sight
	for r, err := range events {
		if err != nil {
			return out, err
		}
		out = append(out, sight{place{r.Stream, r.Revision}, r.Position})
	}
	return out, nil
}

// tally counts what a follower missed, saw twice or in another order than the store's.
func tally(all []sight, acked map[place]uint64, seen []sight) Counted {
	c := Counted{Events: len(all)}
	at, last := make(map[place]uint64, len(seen)), map[string]eventstore.Revision{}
	for i, s := range seen {
		if _, twice := at[s.place]; twice {
			c.Doubled++
		}
		at[s.place] = s.position
		if i > 0 && s.position <= seen[i-1].position {
			c.Swapped++
		}
		if before, ok := last[s.stream]; ok && s.revision <= before {
			c.Swapped++
		}
		last[s.stream] = s.revision
	}
	missed := map[place]bool{}
	for _, s := range all {
		missed[s.place] = at[s.place] == 0
	}
	for p, position := range acked {
		missed[p] = at[p] == 0
		if at[p] != 0 && at[p] != position {
			c.Elsewhere++
		}
	}
	maps.DeleteFunc(missed, func(_ place, is bool) bool { return !is })
	c.Missed = len(missed)
	return c
}

// Endure is Follow for as long as [Long] says: half of the writers are the child's, a process of its own that does
// FollowBeside on the same store, unless it is nil.
func Endure(t *testing.T, s eventstore.Store, child *exec.Cmd, writers int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+2*Long(t))
	defer cancel()
	side := Side{Name: "parent", Writers: writers, Seed: rand.Uint64(), Dense: true}
	t.Logf("seed %d", side.Seed)
	var said *bufio.Reader
	if child != nil {
		side.Writers /= 2
		child.Args = append(child.Args, fmt.Sprint(writers-side.Writers))
		in, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		said = bufio.NewReader(out)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := said.ReadString('\n'); err != nil {
			t.Fatalf("the other process is not ready: %v", err)
		}
		side.Written = func(context.Context) (bool, error) {
			if err := in.Close(); err != nil { // it is enough
				return false, err
			}
			_, err := said.ReadString('\n') // it has written all
			return true, err
		}
	}
	side.Enough = After(t, Long(t))
	counted, err := Follow(ctx, []eventstore.Store{s}, side)
	if err != nil {
		cancel()
		t.Error(err)
		if child != nil {
			_ = child.Process.Kill() // it may wait for the last event
		}
	}
	t.Logf("this process: %+v", counted)
	if child == nil {
		return
	}
	told, err := io.ReadAll(said)
	if err := errors.Join(err, child.Wait()); err != nil {
		t.Errorf("the other process: %v", err)
	}
	t.Logf("the other process: %s", strings.TrimSpace(string(told)))
}

// FollowBeside is the child of Endure.
func FollowBeside(ctx context.Context, s eventstore.Store, writers string, in io.Reader, out io.Writer) error {
	side := Side{Name: "child", Seed: rand.Uint64(), Dense: true}
	if _, err := fmt.Sscan(writers, &side.Writers); err != nil {
		return fmt.Errorf("number of writers: %w", err)
	}
	enough := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in) // until the parent closes it, or dies
		close(enough)
	}()
	side.Enough = enough
	side.Written = func(context.Context) (bool, error) {
		_, err := fmt.Fprintln(out, "written")
		return false, err
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	counted, err := Follow(ctx, []eventstore.Store{s}, side)
	told, merr := json.Marshal(counted)
	_, werr := fmt.Fprintf(out, "seed %d: %s\n", side.Seed, told)
	return errors.Join(err, merr, werr)
}
