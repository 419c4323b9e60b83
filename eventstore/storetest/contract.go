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

func contractChecks() []check {
	return []check{
		{"an empty store has nothing", emptyStore},
		{"events come back as they were appended", comeBack},
		{"reads begin where they are asked to", readFrom},
		{"pages join without a seam", manyPages},
		{"an append verifies its expectation", expectations},
		{"any bytes come back", anyBytes},
		{"limits are refused cleanly", limits},
		{"text that a database refuses hurts its own append alone", poisonedText},
		{"stream names are told apart byte by byte", names},
		{"a decision has an age", decisionAge},
	}
}

func emptyStore(ctx context.Context, k *kit) error {
	s := k.store()
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	if head.Position != 0 || head.Incarnation == "" {
		return fmt.Errorf("head of an empty store: %+v", head)
	}
	all, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	stream, err := readStream(ctx, s, "nobody", 0)
	if err != nil {
		return err
	}
	_, command, err := s.Command(ctx, uuid.New())
	if err != nil {
		return err
	}
	_, _, key, err := s.PersonKey(ctx, "customer:nobody")
	if err != nil {
		return err
	}
	if len(all) > 0 || len(stream) > 0 || command || key {
		return fmt.Errorf("an empty store has %d events, %d in a stream, a command: %t, a key: %t", len(all), len(stream), command, key)
	}
	return nil
}

func comeBack(ctx context.Context, k *kit) error {
	s := k.store()
	var want []eventstore.Recorded
	last := map[string]eventstore.Revision{"one": eventstore.NoStream, "two": eventstore.NoStream}
	for i := range 12 {
		stream := []string{"one", "two"}[i%2]
		var data []string
		for n := range 1 + i%4 {
			data = append(data, fmt.Sprintf(`{"i":%d,"n":%d}`, i, n))
		}
		a := request(stream, last[stream], data...)
		done, err := append1(ctx, s, a)
		if err != nil {
			return err
		}
		if done.LastRevision != last[stream]+eventstore.Revision(len(data)) {
			return fmt.Errorf("append of %d events after revision %d ended at %d", len(data), last[stream], done.LastRevision)
		}
		if got := done.RecordedAt; got.Location() != time.UTC || !got.Equal(got.Truncate(time.Microsecond)) || time.Since(got).Abs() > time.Minute {
			return fmt.Errorf("recorded at %v: want UTC, microseconds, now", got)
		}
		last[stream] = done.LastRevision
		want = append(want, recorded(a, done)...)
		command, found, err := s.Command(ctx, a.Command.ID)
		if err != nil || !found {
			return fmt.Errorf("find the command: %t, %v", found, err)
		}
		if err := same("the command", remembered(a, done), command); err != nil {
			return err
		}
	}
	var errs []error
	for i, r := range want {
		if k.Dense && r.Position != uint64(i+1) || i > 0 && r.Position <= want[i-1].Position {
			errs = append(errs, fmt.Errorf("event %d stands at position %d", i+1, r.Position))
		}
	}
	for _, s := range k.stores {
		all, err := readAll(ctx, s, 0)
		errs = append(errs, err, same("all events", want, all))
		for _, stream := range []string{"one", "two"} {
			var of []eventstore.Recorded
			for _, r := range want {
				if r.Stream == stream {
					of = append(of, r)
				}
			}
			got, err := readStream(ctx, s, stream, 0)
			errs = append(errs, err, same("the stream", of, got))
		}
		head, err := s.Head(ctx)
		errs = append(errs, err, same("head", want[len(want)-1].Position, head.Position), same("head's time", want[len(want)-1].RecordedAt, head.RecordedAt))
	}
	return errors.Join(errs...)
}

func readFrom(ctx context.Context, k *kit) error {
	s := k.store()
	a := request("stream", eventstore.NoStream, "0", "1", "2", "3", "4")
	done, err := append1(ctx, s, a)
	if err != nil {
		return err
	}
	want := recorded(a, done)
	var errs []error
	for from := range eventstore.Revision(7) {
		got, err := readStream(ctx, s, "stream", from)
		errs = append(errs, err, same(fmt.Sprintf("from revision %d", from), len(want[min(int(from), 5):]), len(got)))
		if from < 5 && len(got) > 0 {
			errs = append(errs, same("the first read", want[from], got[0]))
		}
	}
	for _, from := range []eventstore.Revision{eventstore.NoStream, eventstore.AnyRevision, math.MinInt64} {
		got, err := readStream(ctx, s, "stream", from)
		errs = append(errs, err, same("from before the beginning", want, got))
	}
	for i, r := range want {
		got, err := readAll(ctx, s, r.Position)
		errs = append(errs, err, same(fmt.Sprintf("after position %d", r.Position), append([]eventstore.Recorded(nil), want[i+1:]...), got))
	}
	for _, after := range []uint64{done.Position + 1, 1 << 62, math.MaxInt64, math.MaxUint64} {
		got, err := readAll(ctx, s, after)
		errs = append(errs, err, same(fmt.Sprintf("after position %d, past the end", after), 0, len(got)))
	}
	got, err := readStream(ctx, s, "stream", math.MaxInt64)
	return errors.Join(append(errs, err, same("from revision 2^63-1", 0, len(got)))...)
}

// manyPages reads more than any page holds, with the other streams' events between.
func manyPages(ctx context.Context, k *kit) error {
	s := k.store()
	const appends, each = 26, 100
	last := eventstore.NoStream
	for range appends {
		done, err := append1(ctx, s, request("long", last, strings.Split(strings.Repeat("x,", each-1)+"x", ",")...))
		if err != nil {
			return err
		}
		last = done.LastRevision
		if _, err := append1(ctx, s, request("short", eventstore.AnyRevision, "y")); err != nil {
			return err
		}
	}
	long, err := readStream(ctx, s, "long", 0)
	if err != nil {
		return err
	}
	for i, r := range long {
		if r.Revision != eventstore.Revision(i) {
			return fmt.Errorf("event %d of the stream has revision %d", i, r.Revision)
		}
	}
	all, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	for i := range all[1:] {
		if all[i+1].Position <= all[i].Position || k.Dense && all[i+1].Position != uint64(i+2) {
			return fmt.Errorf("position %d after %d", all[i+1].Position, all[i].Position)
		}
	}
	return errors.Join(same("events of the long stream", appends*each, len(long)), same("all events", appends*(each+1), len(all)))
}

func expectations(ctx context.Context, k *kit) error {
	s := k.store()
	const none, any = eventstore.NoStream, eventstore.AnyRevision
	for i, step := range []struct {
		expected eventstore.Revision
		events   int
		actual   eventstore.Revision // of the conflict; 99 when the append must succeed
		last     eventstore.Revision
	}{
		{0, 1, none, 0}, {7, 1, none, 0}, // nothing is there yet
		{none, 2, 99, 1},
		{none, 1, 1, 0}, {0, 1, 1, 0}, {2, 1, 1, 0}, {math.MaxInt64, 1, 1, 0},
		{1, 1, 99, 2}, {any, 1, 99, 3}, {2, 1, 3, 0},
		{3, 0, 99, 3}, {2, 0, 3, 0}, {any, 0, 99, 3}, // without events the expectation is verified all the same
		{3, 3, 99, 6},
	} {
		data := make([]string, step.events)
		a := request("stream", step.expected, data...)
		if step.actual != 99 {
			if err := conflicts(ctx, k.instance(i), a, step.actual); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
			// The refusal is forgotten: the same command may succeed later.
			continue
		}
		done, err := append1(ctx, k.instance(i), a)
		if err := errors.Join(err, same(fmt.Sprintf("step %d: last revision", i), step.last, done.LastRevision)); err != nil {
			return err
		}
	}
	a := request("another", 0, "x")
	if err := conflicts(ctx, s, a, none); err != nil {
		return err
	}
	a.Expected = none
	if _, err := append1(ctx, s, a); err != nil {
		return fmt.Errorf("a command that met a conflict, decided again: %w", err)
	}
	// Without events on a stream without events there is no position to tell.
	a = request("third", none)
	done, err := append1(ctx, s, a)
	if err != nil {
		return err
	}
	return errors.Join(same("last revision", none, done.LastRevision), same("position", uint64(0), done.Position), duplicates(ctx, s, a, remembered(a, done)))
}

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
		want = append(want, recorded(a, done)...)
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
