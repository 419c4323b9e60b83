package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
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
		{"an append verifies the event it expects", expectedEvent},
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
		events, err := k.recorded(ctx, a, done)
		if err != nil {
			return err
		}
		want = append(want, events...)
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
	want, err := k.recorded(ctx, a, done)
	if err != nil {
		return err
	}
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

// expectedEvent is about a stream that lost its end and got another one of the same length.
func expectedEvent(ctx context.Context, k *kit) error {
	s := k.store()
	a := request("stream", eventstore.NoStream, "x", "y")
	if _, err := append1(ctx, s, a); err != nil {
		return err
	}
	next := request("stream", 1, "z")
	next.ExpectedID = a.Events[1].ID
	if _, err := append1(ctx, s, next); err != nil {
		return fmt.Errorf("naming the event that is there: %w", err)
	}
	if !k.ChecksExpectedID {
		return nil
	}
	for _, id := range []uuid.UUID{a.Events[1].ID, uuid.New()} {
		lost := request("stream", 2, "z")
		lost.ExpectedID = id
		if err := conflicts(ctx, s, lost, 2); err != nil {
			return fmt.Errorf("naming another event: %w", err)
		}
	}
	return nil
}
