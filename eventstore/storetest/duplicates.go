package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

func duplicateChecks() []check {
	return []check{
		{"a command has one effect, whenever it comes again", comesAgain},
		{"a command without events is remembered too", withoutEvents},
		{"a command that comes many times at once has one effect", atOnce},
	}
}

func comesAgain(ctx context.Context, k *kit) error {
	a := request("stream", eventstore.NoStream, "x", "y")
	done, err := append1(ctx, k.store(), a)
	if err != nil {
		return err
	}
	first := remembered(a, done)
	again := func(when string, a eventstore.Append) error {
		for _, s := range k.stores {
			if err := duplicates(ctx, s, a, first); err != nil {
				return fmt.Errorf("%s: %w", when, err)
			}
		}
		return nil
	}
	errs := []error{again("at once", a)}
	for range 3 {
		if _, err := append1(ctx, k.store(), request("stream", eventstore.AnyRevision, "z")); err != nil {
			return err
		}
	}
	errs = append(errs, again("after the stream moved on", a))
	// Known is known, before anything else is looked at: the first answer may have been lost.
	old, conflicting, other, body := a, a, a, a
	old.DecidedAt = time.Now().Add(-time.Hour)
	conflicting.Expected = 77
	other.Stream = "another"
	body.Command.RequestHash, body.Command.Actor = make([]byte, 32), "groomer:kim"
	return errors.Join(append(errs,
		again("with an old decision", old),
		again("with an expectation that would conflict", conflicting),
		again("on another stream", fill(other, "x")),
		again("with another body, by another actor", body),
		again("without its events", fill(a)))...)
}

func withoutEvents(ctx context.Context, k *kit) error {
	s := k.store()
	made, err := append1(ctx, s, request("stream", eventstore.NoStream, "x", "y", "z"))
	if err != nil {
		return err
	}
	a := request("stream", 2)
	done, err := append1(ctx, s, a)
	if err != nil {
		return err
	}
	if err := errors.Join(same("last revision", eventstore.Revision(2), done.LastRevision), same("position", made.Position, done.Position)); err != nil {
		return err
	}
	if err := duplicates(ctx, s, a, remembered(a, done)); err != nil {
		return err
	}
	if _, err := append1(ctx, s, request("stream", 2, "more")); err != nil {
		return fmt.Errorf("after a command without events: %w", err)
	}
	return duplicates(ctx, s, fill(a, "now with an event"), remembered(a, done))
}

func atOnce(ctx context.Context, k *kit) error {
	const rivals, rounds = 24, 20
	for round := range rounds {
		stream := fmt.Sprintf("stream-%d", round%3)
		command := uuid.New()
		results := make([]error, rivals)
		appended := make([]eventstore.Appended, rivals)
		var all sync.WaitGroup
		for i := range rivals {
			all.Go(func() {
				a := request(stream, eventstore.AnyRevision)
				a.Command.ID = command
				appended[i], results[i] = k.instance(i).Append(ctx, fill(a, "x", "y"))
			})
		}
		all.Wait()
		a := request(stream, eventstore.AnyRevision)
		a.Command.ID = command
		first, winners := eventstore.Command{}, 0
		for i, err := range results {
			if err == nil {
				first = remembered(a, appended[i])
				winners++
			}
		}
		if winners != 1 {
			return fmt.Errorf("round %d: %d of %d rivals were told that they appended: %w", round, winners, rivals, errors.Join(results...))
		}
		for _, err := range results {
			var duplicate *eventstore.DuplicateError
			if err == nil {
				continue
			}
			if !errors.As(err, &duplicate) {
				return fmt.Errorf("round %d: want a duplicate, got: %w", round, err)
			}
			if err := same("the duplicate", first, duplicate.Command); err != nil {
				return err
			}
		}
	}
	all, err := readAll(ctx, k.store(), 0)
	return errors.Join(err, same("events", 2*rounds, len(all)))
}
