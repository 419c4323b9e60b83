package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dangdangsalon/salon/eventstore"
)

func concurrentChecks() []check {
	return []check{
		{"a follower misses nothing while many write", followed},
		{"each stream answers as if its calls came one after the other", linear},
		{"many deciders of one stream lose no update", contended},
		{"a caller who gives up leaves all or nothing", cancelled},
		{"reads and waits end with their context", readsCancelled},
		{"a loop left early gives everything back", leftEarly},
		{"closing under load keeps what was acknowledged", closedUnderLoad},
	}
}

// followed lets many write to streams of their own and to shared ones while two followers of each instance read along.
func followed(ctx context.Context, k *kit) error {
	_, err := Follow(ctx, slices.Concat(k.stores, k.stores), Side{Name: "here", Writers: k.Writers, Each: 60, Seed: k.random.Uint64(), Dense: k.Dense, TimeByStream: k.TimeByStream})
	return err
}

func linear(ctx context.Context, k *kit) error {
	h, err := Linearize(ctx, k.stores, k.Writers, k.random.Uint64(), After(k.t, Long(k.t)/2))
	k.t.Logf("%+v", h)
	return err
}

// contended lets every writer add one to what it read, all on one stream, deciding again at each conflict. They all read
// before the first appends: on a machine with one processor they might else come one after the other.
func contended(ctx context.Context, k *kit) error {
	const each = 8
	g, gctx := errgroup.WithContext(ctx)
	var reading sync.WaitGroup
	reading.Add(k.Writers)
	for w := range k.Writers {
		g.Go(func() error {
			s := k.instance(w)
			for n := range each {
				a := request("counter", 0)
				for first := n == 0; ; first = false {
					events, err := readStream(gctx, s, "counter", 0)
					if first {
						reading.Done()
						reading.Wait()
					}
					if err != nil {
						return err
					}
					a.Expected, a.DecidedAt = eventstore.Revision(len(events)-1), time.Now()
					_, err = s.Append(gctx, fill(a, fmt.Sprint(len(events))))
					var conflict *eventstore.ConflictError
					if err == nil {
						break
					}
					if !errors.As(err, &conflict) || conflict.Actual <= a.Expected {
						return fmt.Errorf("append expecting %d: %w", a.Expected, err)
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	events, err := readStream(ctx, k.store(), "counter", 0)
	if err != nil {
		return err
	}
	for i, r := range events {
		if string(r.Data) != fmt.Sprint(i) {
			return fmt.Errorf("event %d was decided on %s others", i, r.Data)
		}
	}
	return same("events", each*k.Writers, len(events))
}

// cancelled gives up at any moment. What the answer said must be so: an error that leaves the outcome open says it.
func cancelled(ctx context.Context, k *kit) error {
	const each = 40
	g, gctx := errgroup.WithContext(ctx)
	for w := range k.Writers {
		seed := k.random.Uint64()
		g.Go(func() error {
			random := rand.New(rand.NewPCG(seed, uint64(w))) //nolint:gosec // a test's dice
			s := k.instance(w)
			for i := range each {
				a := request(fmt.Sprintf("own-%d", w), eventstore.AnyRevision, "x", "y", "z")
				patience := time.Duration(random.IntN(3000)) * time.Microsecond
				if i%8 == 0 {
					patience = 0 // has given up before it calls
				}
				short, cancel := context.WithTimeout(gctx, patience)
				done, err := s.Append(short, a)
				cancel()
				command, found, ferr := s.Command(gctx, a.Command.ID)
				switch {
				case ferr != nil:
					return ferr
				case err == nil:
					if derr := same("the command", remembered(a, done), command); derr != nil {
						return derr
					}
				case errors.Is(err, eventstore.ErrOutcomeUnknown):
				case found:
					return fmt.Errorf("an append that was said to have done nothing is remembered: %w", err)
				case !errors.Is(err, context.DeadlineExceeded):
					return fmt.Errorf("want the context's error, got: %w", err)
				}
				if !found {
					a.DecidedAt = time.Now()
					if _, err := append1(gctx, s, a); err != nil {
						return fmt.Errorf("again: %w", err)
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	all, err := readAll(ctx, k.store(), 0)
	if err != nil {
		return err
	}
	return errors.Join(same("events, each command once and whole", 3*each*k.Writers, len(all)), k.ordered(all))
}

func readsCancelled(ctx context.Context, k *kit) error {
	s := k.store()
	done, err := append1(ctx, s, request("stream", eventstore.NoStream, "x", "y", "z"))
	if err != nil {
		return err
	}
	over, cancel := context.WithCancel(ctx)
	waiting := make(chan error, 8)
	for i := range cap(waiting) {
		go func() { waiting <- k.instance(i).Wait(over, done.Position) }()
	}
	cancel()
	var errs []error
	for range cap(waiting) {
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("wait: want the context's error, got: %v", err))
		}
	}
	if _, err := readAll(over, s, 0); !errors.Is(err, context.Canceled) {
		errs = append(errs, fmt.Errorf("read all: want the context's error, got: %v", err))
	}
	if _, err := readStream(over, s, "stream", 0); !errors.Is(err, context.Canceled) {
		errs = append(errs, fmt.Errorf("read a stream: want the context's error, got: %v", err))
	}
	if _, err := s.Append(over, request("stream", 2, "x")); !errors.Is(err, context.Canceled) {
		errs = append(errs, fmt.Errorf("append: want the context's error, got: %v", err))
	}
	return errors.Join(errs...)
}

// leftEarly would run out of connections, memory or locks if a loop that ends early kept something.
func leftEarly(ctx context.Context, k *kit) error {
	s := k.store()
	for i := range 6 {
		if _, err := append1(ctx, s, request("stream", eventstore.Revision(100*i-1), make([]string, 100)...)); err != nil {
			return err
		}
	}
	for range 40 { // many times the connections that a store has
		for _, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
			if err != nil {
				return err
			}
			break
		}
		for _, err := range s.ReadStream(ctx, "stream", 0) {
			if err != nil {
				return err
			}
			break
		}
	}
	// A loop's body may use the store, and loops may stand in each other.
	var nest func(depth int) error
	nest = func(depth int) error {
		for r, err := range s.ReadAll(ctx, 0, eventstore.Filter{}) {
			if err != nil {
				return err
			}
			if depth > 0 {
				return nest(depth - 1)
			}
			_, err = append1(ctx, s, request("inside", eventstore.AnyRevision, fmt.Sprint(r.Position)))
			return err
		}
		return errors.New("nothing to read")
	}
	return nest(64)
}

func closedUnderLoad(ctx context.Context, k *kit) error {
	s := k.store()
	closer, ok := s.(io.Closer)
	if !ok {
		return errors.New("the store cannot be closed")
	}
	var mu sync.Mutex
	var acked []eventstore.Append
	begun := make(chan struct{})
	var once sync.Once
	g, gctx := errgroup.WithContext(ctx)
	for w := range 2 * k.Writers {
		g.Go(func() error {
			for i := 0; ; i++ {
				a := request(fmt.Sprintf("own-%d", w), eventstore.AnyRevision, "x", "y")
				_, err := s.Append(gctx, a)
				switch {
				case err == nil:
					mu.Lock()
					acked = append(acked, a)
					mu.Unlock()
					if i == 5 {
						once.Do(func() { close(begun) })
					}
				case errors.Is(err, eventstore.ErrUnavailable):
					return nil
				default:
					return fmt.Errorf("append while the store closes: %w", err)
				}
			}
		})
	}
	g.Go(func() error {
		if err := s.Wait(gctx, 1<<62); !errors.Is(err, eventstore.ErrUnavailable) {
			return fmt.Errorf("wait while the store closes: want ErrUnavailable, got: %w", err)
		}
		return nil
	})
	select {
	case <-begun:
	case <-gctx.Done():
		return errors.Join(g.Wait(), ctx.Err())
	}
	if err := closer.Close(); err != nil {
		return err
	}
	if err := g.Wait(); err != nil {
		return err
	}
	_, read := readAll(ctx, s, 0)
	_, _, command := s.Command(ctx, uuid.New())
	_, head := s.Head(ctx)
	_, _, _, key := s.PersonKey(ctx, "customer:kim")
	for what, err := range map[string]error{"read": read, "command": command, "head": head, "key": key} {
		if !errors.Is(err, eventstore.ErrUnavailable) {
			return fmt.Errorf("%s of a closed store: want ErrUnavailable, got: %w", what, err)
		}
	}
	s = k.Reopen(k.t, s)
	for _, a := range acked {
		if _, found, err := s.Command(ctx, a.Command.ID); err != nil || !found {
			return fmt.Errorf("an acknowledged command: found %t, %v", found, err)
		}
	}
	all, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	if len(all) < 2*len(acked) || len(all)%2 != 0 {
		return fmt.Errorf("%d events of %d acknowledged appends of 2", len(all), len(acked))
	}
	return k.ordered(all)
}
