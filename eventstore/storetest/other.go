package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dangdangsalon/salon/eventstore"
)

func otherChecks() []check {
	return []check{
		{"recorded_at never goes back", timeAscends},
		{"a person has one key, whoever made it first", personKeys},
		{"waiting ends when there is more", waits},
		{"opened again, everything is as it was", reopened},
		{"one store has one incarnation", incarnation},
	}
}

func timeAscends(ctx context.Context, k *kit) error {
	var last time.Time
	for i := range 100 {
		done, err := append1(ctx, k.instance(i), request("stream", eventstore.Revision(i-1), "x"))
		if err != nil {
			return err
		}
		if done.RecordedAt.Before(last) {
			return fmt.Errorf("append %d was recorded at %v, the one before at %v", i, done.RecordedAt, last)
		}
		last = done.RecordedAt
	}
	head, err := k.store().Head(ctx)
	return errors.Join(err, same("the head's time", last, head.RecordedAt))
}

func personKeys(ctx context.Context, k *kit) error {
	const rivals = 24
	for round := range 5 {
		subject := fmt.Sprintf("customer:kim-%d", round)
		ids, keys := make([]string, rivals), make([][]byte, rivals)
		errs := make([]error, rivals)
		var all sync.WaitGroup
		for i := range rivals {
			all.Go(func() {
				ids[i], keys[i], errs[i] = k.instance(i).AddPersonKey(ctx, subject, fmt.Sprintf("key-%d", i), []byte{0, 0xff, byte(i)})
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		for _, s := range k.stores {
			id, key, found, err := s.PersonKey(ctx, subject)
			if err != nil || !found {
				return fmt.Errorf("find the key: %t, %v", found, err)
			}
			for i := range rivals {
				if err := errors.Join(same("the key's ID", id, ids[i]), same("the key", key, keys[i])); err != nil {
					return err
				}
			}
			byID, found, err := s.PersonKeyByID(ctx, subject, id)
			if err := errors.Join(err, same("found", true, found), same("the key by its ID", key, byID)); err != nil {
				return err
			}
			for _, other := range [][2]string{{subject, id + "x"}, {subject + "x", id}} {
				if _, found, err := s.PersonKeyByID(ctx, other[0], other[1]); err != nil || found {
					return fmt.Errorf("key %v: found %t, %v", other, found, err)
				}
			}
		}
	}
	return nil
}

func waits(ctx context.Context, k *kit) error {
	s := k.store()
	for round := range 5 {
		head, err := s.Head(ctx)
		if err != nil {
			return err
		}
		woken := make(chan error, 40)
		for i := range cap(woken) {
			go func() { woken <- k.instance(i).Wait(ctx, head.Position) }()
		}
		// The append comes through another instance every second time.
		done, err := append1(ctx, k.instance(round), request("stream", eventstore.AnyRevision, "x", "y"))
		if err != nil {
			return err
		}
		for range cap(woken) {
			if err := <-woken; err != nil {
				return fmt.Errorf("wait for more than %d: %w", head.Position, err)
			}
		}
		for _, s := range k.stores {
			for after := range done.Position {
				if err := s.Wait(ctx, after); err != nil {
					return fmt.Errorf("wait for what is there: %w", err)
				}
			}
			short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
			err := s.Wait(short, done.Position)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("wait for what is not there: %v", err)
			}
		}
	}
	return nil
}

func reopened(ctx context.Context, k *kit) error {
	s := k.store()
	a := request("stream", eventstore.NoStream, "x", "y")
	done, err := append1(ctx, s, a)
	if err != nil {
		return err
	}
	id, key, err := s.AddPersonKey(ctx, "customer:kim", "k1", []byte{1, 2, 3})
	if err != nil {
		return err
	}
	before, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	s = k.Reopen(k.t, s)
	after, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	headAfter, err := s.Head(ctx)
	if err != nil {
		return err
	}
	idAfter, keyAfter, found, err := s.PersonKey(ctx, "customer:kim")
	if err := errors.Join(err, same("the events", before, after), same("the head", head, headAfter),
		same("a key", []any{id, key, true}, []any{idAfter, keyAfter, found}), duplicates(ctx, s, a, remembered(a, done)),
		conflicts(ctx, s, request("stream", 0, "x"), 1)); err != nil {
		return err
	}
	next, err := append1(ctx, s, request("stream", 1, "z"))
	if err != nil {
		return err
	}
	if k.Dense {
		err = same("the next position", done.Position+1, next.Position)
	}
	if next.RecordedAt.Before(done.RecordedAt) {
		err = errors.Join(err, fmt.Errorf("recorded at %v, before the restart at %v", next.RecordedAt, done.RecordedAt))
	}
	return err
}

func incarnation(ctx context.Context, k *kit) error {
	first, err := k.store().Head(ctx)
	if err != nil {
		return err
	}
	for i := range 6 {
		if _, err := append1(ctx, k.instance(i), request("stream", eventstore.AnyRevision, "x")); err != nil {
			return err
		}
		head, err := k.instance(i).Head(ctx)
		if err := errors.Join(err, same("the incarnation", first.Incarnation, head.Incarnation)); err != nil {
			return err
		}
	}
	return nil
}
