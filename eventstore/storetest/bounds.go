package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
)

// What an append may be: bytes, sizes, names and age.

func anyBytes(ctx context.Context, k *kit) error {
	s := k.store()
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	noise := make([]byte, eventstore.MaxEventBytes-len(metadata))
	for i := range noise {
		noise[i] = byte(k.random.Uint32())
	}
	var want []eventstore.Recorded
	for i, data := range []string{
		"", "\x00", "null", "{}", `{"b":1, "a" :2,"a":3}`, "\xff\xfe not UTF-8 \x80", string(everyByte), string(noise), "댕댕살롱 🐶", "NaN", strings.Repeat("[", 10_000),
	} {
		a := request("bytes", eventstore.AnyRevision, data, data)
		if len(data) < 1000 {
			a.Metadata = []byte(data) // bytes too
		}
		if i == 0 {
			a.Metadata, a.Events[0].Data, a.Command.RequestHash, a.Command.Actor = nil, nil, nil, ""
		}
		done, err := append1(ctx, s, a)
		if err != nil {
			return err
		}
		events, err := k.recorded(ctx, a, done)
		if err != nil {
			return err
		}
		want = append(want, events...)
	}
	got, err := readStream(ctx, s, "bytes", 0)
	return errors.Join(err, same("the events", want, got))
}

func limits(ctx context.Context, k *kit) error {
	s := k.store()
	split := func(n, size int) []string {
		return strings.Split(strings.Repeat(strings.Repeat("x", size)+",", n-1)+strings.Repeat("x", size), ",")
	}
	long := strings.Repeat("s", eventstore.MaxNameBytes)
	sized := func(events, size int) eventstore.Append {
		return request("big", eventstore.AnyRevision, split(events, size)...)
	}
	with := func(change func(a *eventstore.Append)) eventstore.Append {
		a := request("big", eventstore.AnyRevision, "x")
		change(&a)
		return fill(a, "x")
	}
	typed := with(func(*eventstore.Append) {})
	typed.Events[0].Type = long + "t"
	noEvents := request("big", eventstore.AnyRevision)
	noEvents.Metadata = make([]byte, eventstore.MaxEventBytes+1)
	var errs []error
	for name, a := range map[string]eventstore.Append{
		"an event of 256 KiB and a byte":       sized(1, eventstore.MaxEventBytes-len(metadata)+1),
		"101 events":                           sized(101, 1),
		"an append of more than 900 KiB":       sized(10, eventstore.MaxAppendBytes/10-len(metadata)+1),
		"metadata too large, without events":   noEvents,
		"a stream name too long for an index":  with(func(a *eventstore.Append) { a.Stream = long + "s" }),
		"an ordering key too long":             with(func(a *eventstore.Append) { a.Key = long + "k" }),
		"an actor too long":                    with(func(a *eventstore.Append) { a.Command.Actor = long + "a" }),
		"a request hash that is not a hash":    with(func(a *eventstore.Append) { a.Command.RequestHash = make([]byte, 65) }),
		"an event type that nobody would give": typed,
	} {
		if err := refused(ctx, s, a, eventstore.ErrTooLarge); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	for name, a := range map[string]eventstore.Append{
		"256 KiB":    sized(1, eventstore.MaxEventBytes-len(metadata)),
		"100 events": sized(100, 1),
		"900 KiB":    sized(10, eventstore.MaxAppendBytes/10-len(metadata)),
		"long names": with(func(a *eventstore.Append) { a.Stream, a.Key, a.Command.Actor = long, long, long }),
	} {
		if _, err := append1(ctx, s, a); err != nil {
			errs = append(errs, fmt.Errorf("exactly %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// poisonedText appends what one member of a group could fail all others with, beside many that are well.
func poisonedText(ctx context.Context, k *kit) error {
	s := k.store()
	known := request("known", eventstore.NoStream, "x")
	if _, err := append1(ctx, s, known); err != nil {
		return err
	}
	var poisons []eventstore.Append
	for _, text := range []string{"nul \x00", "not UTF-8 \xff", "half \xed\xa0\x80"} {
		for _, change := range []func(a *eventstore.Append){
			func(a *eventstore.Append) { a.Stream = text },
			func(a *eventstore.Append) { a.Key = text },
			func(a *eventstore.Append) { a.Command.Actor = text },
		} {
			a := request("poison", eventstore.AnyRevision)
			change(&a)
			poisons = append(poisons, fill(a, "x"))
		}
		a := request("poison", eventstore.AnyRevision, "x")
		a.Events[0].Type = text
		poisons = append(poisons, a)
	}
	// An ID that is not the command's own could be another event's.
	a := request("poison", eventstore.AnyRevision, "x", "y")
	a.Events[1].ID = a.Events[0].ID
	b := request("poison", eventstore.AnyRevision, "x")
	b.Events[0].ID = known.Events[0].ID
	poisons = append(poisons, a, b)
	for _, broken := range []func(a *eventstore.Append){
		func(a *eventstore.Append) { a.Stream = "" },
		func(a *eventstore.Append) { a.Key = "" },
		func(a *eventstore.Append) { a.Command.ID = uuid.Nil },
		func(a *eventstore.Append) { a.Expected = -3 },
		func(a *eventstore.Append) { a.Events[0].Type = "" },
	} {
		a := request("poison", eventstore.AnyRevision, "x")
		broken(&a)
		poisons = append(poisons, a)
	}
	var all sync.WaitGroup
	errs := make([]error, 2*len(poisons))
	for i, p := range poisons {
		all.Go(func() {
			if _, err := s.Append(ctx, p); !errors.Is(err, eventstore.ErrInvalid) {
				errs[i] = fmt.Errorf("poison %d: want ErrInvalid, got: %v", i, err)
			}
		})
		all.Go(func() {
			_, errs[len(poisons)+i] = append1(ctx, s, request(fmt.Sprintf("well-%d", i), eventstore.NoStream, "x"))
		})
	}
	all.Wait()
	// A name that no stream can have is an empty stream, not a fault.
	for _, name := range []string{"", "nul \x00", "\xff", strings.Repeat("s", 10_000)} {
		got, err := readStream(ctx, s, name, 0)
		errs = append(errs, err, same("events of an impossible stream", 0, len(got)))
		_, _, found, err := s.PersonKey(ctx, name)
		errs = append(errs, err, same("a key of an impossible person", false, found))
		_, found, err = s.PersonKeyByID(ctx, "customer:kim", name)
		errs = append(errs, err, same("an impossible key", false, found))
	}
	return errors.Join(errs...)
}

func names(ctx context.Context, k *kit) error {
	s := k.store()
	streams := []string{
		"groomer-댕댕", "groomer-댕댕 ", "chat-🐶.🐩", "é", "e\u0301", "A", "a", "ß", "ss", "ﬁ", "fi", "%", "_", "a%", "a_", "'; DROP TABLE events; --", `"`, `\`, "\n", "\u202e",
		"0", "00", "1e3", "1000", "null", strings.Repeat("가", eventstore.MaxNameBytes/3-len("key of ")),
	}
	for _, stream := range streams {
		if _, err := append1(ctx, s, request(stream, eventstore.NoStream, stream)); err != nil {
			return err
		}
	}
	var errs []error
	for _, stream := range streams {
		got, err := readStream(ctx, s, stream, 0)
		errs = append(errs, err)
		if len(got) != 1 || got[0].Stream != stream || string(got[0].Data) != stream {
			errs = append(errs, fmt.Errorf("stream %q has %d events", stream, len(got)))
		}
	}
	return errors.Join(errs...)
}

func decisionAge(ctx context.Context, k *kit) error {
	s := k.store()
	var errs []error
	for _, at := range []time.Time{
		{}, time.Now().Add(-eventstore.MaxDecisionAge - time.Second), time.Now().Add(eventstore.MaxDecisionAge + 10*time.Second),
		time.Unix(0, 0), time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-10_000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Unix(math.MaxInt64/4, 0), time.Unix(math.MinInt64/4, 0),
	} {
		a := request("stream", eventstore.AnyRevision, "x")
		a.DecidedAt = at
		if err := refused(ctx, s, a, eventstore.ErrDecisionTooOld); err != nil {
			errs = append(errs, fmt.Errorf("decided at %v: %w", at, err))
		}
		a.DecidedAt = time.Now()
		if _, err := append1(ctx, s, a); err != nil {
			errs = append(errs, fmt.Errorf("decided again: %w", err))
		}
	}
	for _, age := range []time.Duration{eventstore.MaxDecisionAge - 3*time.Second, -eventstore.MaxDecisionAge + 3*time.Second} {
		a := request("stream", eventstore.AnyRevision, "x")
		a.DecidedAt = time.Now().Add(-age)
		if _, err := append1(ctx, s, a); err != nil {
			errs = append(errs, fmt.Errorf("decided %v ago: %w", age, err))
		}
	}
	return errors.Join(errs...)
}
