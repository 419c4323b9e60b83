package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dangdangsalon/salon/eventstore"
)

func readChecks() []check {
	return []check{
		{"a stream is read backwards too", backwards},
		{"a filter takes what matches and nothing else", filters},
		{"what is rare is found between much else", rare},
		{"a snapshot is kept as it was saved", snapshots},
	}
}

func readBack(ctx context.Context, s eventstore.Store, stream string, from eventstore.Revision) ([]eventstore.Recorded, error) {
	var out []eventstore.Recorded
	for r, err := range s.ReadStreamBack(ctx, stream, from) {
		if err != nil {
			return out, fmt.Errorf("read %.40q backwards: %w", stream, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func filtered(ctx context.Context, s eventstore.Store, after uint64, f eventstore.Filter) ([]eventstore.Recorded, error) {
	var out []eventstore.Recorded
	for r, err := range s.ReadAll(ctx, after, f) {
		if err != nil {
			return out, fmt.Errorf("read all, filtered: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

func backwards(ctx context.Context, k *kit) error {
	s := k.store()
	const appends, each = 22, 100 // more than a page
	for i := range appends {
		if _, err := append1(ctx, s, request("stream", eventstore.Revision(i*each-1), strings.Split(strings.Repeat("x,", each-1)+"x", ",")...)); err != nil {
			return err
		}
		if _, err := append1(ctx, s, request("streams", eventstore.AnyRevision, "another's")); err != nil {
			return err
		}
	}
	forward, err := readStream(ctx, s, "stream", 0)
	if err != nil {
		return err
	}
	slices.Reverse(forward)
	var errs []error
	for _, from := range []eventstore.Revision{eventstore.LastRevision, appends * each, appends*each - 1, 511, 512, 99, 1, 0} {
		got, err := readBack(ctx, s, "stream", from)
		want := forward[max(0, appends*each-1-int(min(from, math.MaxInt32))):]
		errs = append(errs, err, same(fmt.Sprintf("backwards from %d", from), want, got))
	}
	for _, from := range []eventstore.Revision{eventstore.NoStream, eventstore.AnyRevision, math.MinInt64} {
		got, err := readBack(ctx, s, "stream", from)
		errs = append(errs, err, same("from before the beginning", 0, len(got)))
	}
	for _, name := range []string{"nobody", "", "nul \x00", "\xff"} {
		got, err := readBack(ctx, s, name, eventstore.LastRevision)
		errs = append(errs, err, same("events of a stream that is not there", 0, len(got)))
	}
	for last, err := range s.ReadStreamBack(ctx, "stream", eventstore.LastRevision) {
		errs = append(errs, err, same("the last event", forward[0], last))
		break
	}
	return errors.Join(errs...)
}

func filters(ctx context.Context, k *kit) error {
	s := k.store()
	streams := []string{"groomer-kongi", "groomer-bada", "groomers-x", "chat-kongi.1", "chat-댕댕", "chatread-1", "Chat-1", "chat", "%", "_hat-1"}
	types := []string{"a.v1", "b.v1", "a.v2", "A.v1", "a_v1"}
	for range 150 {
		a := request(streams[k.random.IntN(len(streams))], eventstore.AnyRevision, make([]string, 1+k.random.IntN(4))...)
		a.Key = fmt.Sprintf("key-%d", k.random.IntN(5))
		for i := range a.Events {
			a.Events[i].Type = types[k.random.IntN(len(types))]
		}
		if _, err := append1(ctx, s, a); err != nil {
			return err
		}
	}
	all, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	slice, other := eventstore.OneSlice(eventstore.Slice("key-3")), eventstore.OneSlice(eventstore.Slices-1)
	few, many := eventstore.SliceRange{From: max(0, slice.From-50), To: slice.To}, eventstore.SliceRange{From: slice.From, To: eventstore.Slices}
	var errs []error
	for _, f := range []eventstore.Filter{
		{}, {StreamPrefix: "groomer-"}, {StreamPrefix: "chat"}, {StreamPrefix: "chat-"}, {StreamPrefix: "chat-댕"}, {StreamPrefix: "%"}, {StreamPrefix: "_"},
		{StreamPrefix: "nobody-"}, {StreamPrefix: strings.Repeat("x", 3*eventstore.MaxNameBytes)},
		{Types: []string{"a.v1"}}, {Types: []string{"b.v1", "a_v1", "never.v1"}}, {Types: []string{"never.v1"}}, {Types: []string{""}},
		{Key: "key-0"}, {Key: "key-9"}, {Key: "KEY-0"}, {Slices: slice}, {Slices: other}, {Slices: slice, Key: "key-3"}, {Slices: other, Key: "key-3"},
		{Slices: few}, {Slices: many}, {Slices: eventstore.SliceRange{To: eventstore.Slices}}, {Slices: few, Key: "key-1"}, {Slices: many, Without: []string{"a.v1"}},
		{Without: []string{"a.v1", "never.v1"}}, {Without: types}, {Types: []string{"a.v1", "b.v1"}, Without: []string{"a.v1"}}, {Slices: few, Without: []string{"b.v1"}},
		{First: true}, {First: true, StreamPrefix: "groomer-"}, {First: true, Key: "key-1"},
		{StreamPrefix: "chat", Types: []string{"a.v1", "a.v2"}, Key: "key-1"}, {StreamPrefix: "chat", Types: []string{"a.v1"}, Slices: slice},
		{StreamPrefix: "nul \x00"}, {Key: "\xff"}, {Types: []string{"nul \x00"}},
	} {
		for _, after := range []uint64{0, all[len(all)/2].Position, all[len(all)-1].Position} {
			var want []eventstore.Recorded
			for _, r := range all {
				if r.Position > after && f.Matches(r) {
					want = append(want, r)
				}
			}
			got, err := filtered(ctx, s, after, f)
			errs = append(errs, err, same(fmt.Sprintf("after %d, filter %+v", after, f), want, got))
		}
	}
	return errors.Join(errs...)
}

// rare puts a few events far apart: whoever looks in windows must cross many that have nothing.
func rare(ctx context.Context, k *kit) error {
	s := k.store()
	const between = 180 // appends of 100 events: more than a window of any store here
	var want []eventstore.Recorded
	for i := range 3 {
		a := request(fmt.Sprintf("rare-%d", i), eventstore.NoStream, "x")
		a.Events[0].Type = "rare.v1"
		done, err := append1(ctx, s, a)
		if err != nil {
			return err
		}
		want = append(want, recorded(a, done)...)
		if i == 2 {
			break
		}
		for range between {
			if _, err := append1(ctx, s, request("much", eventstore.AnyRevision, make([]string, 100)...)); err != nil {
				return err
			}
		}
	}
	var errs []error
	for _, f := range []eventstore.Filter{{StreamPrefix: "rare-"}, {Types: []string{"rare.v1"}}, {StreamPrefix: "rare-", First: true}, {Key: want[1].Key, StreamPrefix: "rare-1"},
		{Slices: eventstore.OneSlice(eventstore.Slice(want[1].Key)), StreamPrefix: "rare-"}, {Slices: eventstore.SliceRange{To: eventstore.Slices}, StreamPrefix: "rare-"}, {Without: []string{"x.v1"}, StreamPrefix: "rare-"}} {
		var matching []eventstore.Recorded
		for _, r := range want {
			if f.Matches(r) {
				matching = append(matching, r)
			}
		}
		got, err := filtered(ctx, s, 0, f)
		errs = append(errs, err, same(fmt.Sprintf("filter %+v", f), matching, got))
	}
	first, err := filtered(ctx, s, 0, eventstore.Filter{First: true})
	errs = append(errs, err, same("streams", 4, len(first)))
	return errors.Join(append(errs, pieces(ctx, s, eventstore.Filter{Key: "key of much"}))...)
}

// pieces reads a key of many pages, and ranges, and holds them to the whole.
func pieces(ctx context.Context, s eventstore.Store, f eventstore.Filter) error {
	all, err := readAll(ctx, s, 0)
	if err != nil {
		return err
	}
	within := func(take func(r eventstore.Recorded) bool) (out []eventstore.Recorded) {
		for _, r := range all {
			if take(r) {
				out = append(out, r)
			}
		}
		return out
	}
	got, err := filtered(ctx, s, 0, f)
	errs := []error{err, same(fmt.Sprintf("filter %+v", f), within(f.Matches), got)}
	ranged, is := s.(eventstore.Ranged)
	if !is {
		return errors.Join(errs...)
	}
	for _, of := range [][2]uint64{{0, 1}, {1, 1}, {5, 2}, {10, 10 + 2048}, {10, 10 + 2*2048 + 1}, {17_000, math.MaxUint64}, {math.MaxUint64, math.MaxUint64}} {
		var part []eventstore.Recorded
		for r, err := range ranged.ReadRange(ctx, of[0], of[1]) {
			if err != nil {
				return fmt.Errorf("read a range: %w", err)
			}
			part = append(part, r)
		}
		want := within(func(r eventstore.Recorded) bool { return r.Position > of[0] && r.Position <= of[1] })
		errs = append(errs, same(fmt.Sprintf("range %d", of), want, part))
	}
	return errors.Join(errs...)
}

func snapshots(ctx context.Context, k *kit) error {
	s := k.store()
	made := func(stream string, version int, revision eventstore.Revision, state []byte) eventstore.Snapshot {
		out := eventstore.Snapshot{Stream: stream, FoldVersion: version, Revision: revision, State: state}
		out.Hash = out.Sum()
		return out
	}
	_, found, err := s.Snapshot(ctx, "stream", 1)
	errs := []error{err, same("found in an empty store", false, found)}
	big := bytes.Repeat([]byte{0, 0xff, '"'}, 1<<20/3)
	for i, want := range []eventstore.Snapshot{
		made("stream", 1, 10, []byte(`{"a" :1}`)), made("stream", 1, 20, nil), made("stream", 1, 15, big), made("stream", 2, 5, []byte("\x00\xff")), made("another", 1, 0, []byte("x")),
	} {
		if err := k.instance(i).SaveSnapshot(ctx, want); err != nil {
			return err
		}
		for _, s := range k.stores {
			got, found, err := s.Snapshot(ctx, want.Stream, want.FoldVersion)
			errs = append(errs, err, same("found", true, found), same("the snapshot", want, got))
		}
	}
	if err := s.SaveSnapshot(ctx, made("stream", 1, 1, make([]byte, eventstore.MaxSnapshotBytes+1))); !errors.Is(err, eventstore.ErrTooLarge) {
		errs = append(errs, fmt.Errorf("a snapshot over the limit: want ErrTooLarge, got: %v", err))
	}
	for _, name := range []string{"", "nul \x00", "\xff"} {
		if err := s.SaveSnapshot(ctx, made(name, 1, 1, nil)); !errors.Is(err, eventstore.ErrInvalid) {
			errs = append(errs, fmt.Errorf("a snapshot of %q: want ErrInvalid, got: %v", name, err))
		}
		_, found, err := s.Snapshot(ctx, name, 1)
		errs = append(errs, err, same("found", false, found))
	}
	got, found, err := s.Snapshot(ctx, "stream", 1)
	errs = append(errs, err, same("found", true, found), same("the snapshot after the refusals", made("stream", 1, 15, big), got))
	// It is no event: nobody who reads the store meets it.
	all, err := readAll(ctx, s, 0)
	return errors.Join(append(errs, err, same("events", 0, len(all)))...)
}
