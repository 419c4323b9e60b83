package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

func personChecks() []check {
	return []check{
		{"an erased person has no key, on any instance, and gets another one", erased},
		{"an erasure takes what a request could be compared with, and nothing else", erasedHashes},
		{"keys are wrapped again while others are added and erased", rewrapped},
	}
}

func persons(s eventstore.Store) (eventstore.Persons, error) {
	p, ok := s.(eventstore.Persons)
	if !ok {
		return nil, errors.New("the store erases nobody")
	}
	return p, nil
}

func erased(ctx context.Context, k *kit) error {
	p, err := persons(k.store())
	if err != nil {
		return err
	}
	for round := range 3 { // somebody may come back, and be erased again
		id := fmt.Sprintf("key-%d", round)
		for _, subject := range []string{"customer:kim", "groomer:kim"} {
			if standing, _, err := k.store().AddPersonKey(ctx, subject, id, []byte{byte(round)}); err != nil || subject == "customer:kim" && standing != id {
				return fmt.Errorf("add a key: %s, %v", standing, err)
			}
		}
		for range 2 { // again, it does nothing
			if err := p.ErasePerson(ctx, "customer:kim"); err != nil {
				return err
			}
		}
		for _, s := range k.stores {
			_, _, found, err := s.PersonKey(ctx, "customer:kim")
			_, byID, err2 := s.PersonKeyByID(ctx, "customer:kim", id)
			_, _, other, err3 := s.PersonKey(ctx, "groomer:kim")
			if err := errors.Join(err, err2, err3, same("an erased key, by its ID, and another's", []bool{false, false, true}, []bool{found, byID, other})); err != nil {
				return err
			}
		}
	}
	return p.ErasePerson(ctx, "customer:nobody")
}

func erasedHashes(ctx context.Context, k *kit) error {
	s := k.store()
	p, err := persons(s)
	if err != nil {
		return err
	}
	of := func(subject, stream string, data ...string) eventstore.Append {
		a := request(stream, eventstore.NoStream, data...)
		a.Command.Actor = subject
		return a
	}
	kims, lees, silent := of("customer:kim", "one", "x", "y"), of("customer:lee", "two", "x"), of("customer:kim", "three")
	all := []eventstore.Append{kims, lees, silent}
	before := map[uuid.UUID]eventstore.Command{}
	for _, a := range all {
		if _, err := append1(ctx, s, a); err != nil {
			return err
		}
		if before[a.Command.ID], _, err = s.Command(ctx, a.Command.ID); err != nil {
			return err
		}
	}
	events, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	for range 2 {
		if err := p.ErasePerson(ctx, "customer:kim"); err != nil {
			return err
		}
	}
	after, err := readAll(ctx, s, 0)
	if err := errors.Join(err, same("the events", events, after)); err != nil {
		return err
	}
	for _, a := range all {
		want := before[a.Command.ID]
		if want.Actor == "customer:kim" && k.Dense { // EventStoreDB changes no event
			want.RequestHash = eventstore.ErasedRequestHash(want.RequestHash)
		}
		got, found, err := s.Command(ctx, a.Command.ID)
		if err := errors.Join(err, same("a command", want, got), same("its hash, and that it is there", []any{eventstore.CommandHash(before[a.Command.ID]), true}, []any{eventstore.CommandHash(got), found})); err != nil {
			return err
		}
		if err := duplicates(ctx, s, a, want); err != nil {
			return err
		}
	}
	return nil
}

func rewrapped(ctx context.Context, k *kit) error {
	p, err := persons(k.store())
	if err != nil {
		return err
	}
	const people = 1200 // more than a page of any store
	want := map[string]string{}
	for i := range people {
		subject := fmt.Sprintf("customer:%04d", i)
		if _, _, err := k.store().AddPersonKey(ctx, subject, "key-of-"+subject, []byte("old "+subject)); err != nil {
			return err
		}
		want[subject] = "new " + subject
	}
	met := 0
	for key, err := range p.PersonKeys(ctx) {
		if err != nil {
			return err
		}
		if met++; met == 1 { // the page that is yielded has both of them
			for _, gone := range []string{"customer:0300", "customer:0301"} {
				if err := p.ErasePerson(ctx, gone); err != nil {
					return err
				}
				delete(want, gone)
			}
			if _, _, err := k.store().AddPersonKey(ctx, "customer:0301", "another", []byte("of today")); err != nil {
				return err
			}
			want["customer:0301"] = "of today"
		}
		old, isOld := bytes.CutPrefix(key.Wrapped, []byte("old "))
		if !isOld {
			continue
		}
		done, err := p.RewrapPersonKey(ctx, key, append([]byte("new "), old...))
		if err != nil || done == (key.Subject == "customer:0300" || key.Subject == "customer:0301") {
			return fmt.Errorf("rewrap the key of %s: %t, %v", key.Subject, done, err)
		}
		if again, err := p.RewrapPersonKey(ctx, key, []byte("stale")); err != nil || again {
			return fmt.Errorf("rewrap the key of %s as it was before: %t, %v", key.Subject, again, err)
		}
	}
	got := map[string]string{}
	for key, err := range p.PersonKeys(ctx) {
		if err != nil {
			return err
		}
		if _, twice := got[key.Subject]; twice {
			return fmt.Errorf("%s has two keys", key.Subject)
		}
		got[key.Subject] = string(key.Wrapped)
		wrapped, found, err := k.store().PersonKeyByID(ctx, key.Subject, key.KeyID)
		if err := errors.Join(err, same("a key by its ID", []any{key.Wrapped, true}, []any{wrapped, found})); err != nil {
			return err
		}
	}
	return same("the keys", want, got)
}
