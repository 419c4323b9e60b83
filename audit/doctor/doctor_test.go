package doctor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/admin"
)

// TestPartsAreLookedAtTogether has parts that answer late, or never: all of them end with the slowest limit, in their order.
func TestPartsAreLookedAtTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		after := func(d time.Duration, err error) func(context.Context) (string, error) {
			return func(ctx context.Context) (string, error) {
				select {
				case <-time.After(d):
					return "seen", err
				case <-ctx.Done():
					return "", fmt.Errorf("ask: %w", ctx.Err())
				}
			}
		}
		began := time.Now()
		got := Examine(t.Context(), time.Second, []Probe{
			{Part: "slow", Look: after(900*time.Millisecond, nil)},
			{Part: "hurt", Look: after(0, errors.Join(errors.New("one: run `salon a`"), errors.New("two: run `salon b c`, then `salon a`")))},
			{Part: "away", Look: after(time.Hour, nil)},
			{Part: "long", Look: after(5*time.Second, nil), Long: true},
			{Part: "quick", Look: after(0, nil)},
		})
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v: the slowest takes 5 s", took)
		}
		want := []Finding{
			{Part: "slow", Well: true, Detail: "seen"},
			{Part: "hurt", Detail: "one: run `salon a`\ntwo: run `salon b c`, then `salon a`", Mend: []string{"salon a", "salon b c"}},
			{Part: "away", Detail: "did not answer within 1s"},
			{Part: "long", Well: true, Detail: "seen"},
			{Part: "quick", Well: true, Detail: "seen"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if err := Unwell(got); err == nil || err.Error() != "hurt and away are not well" {
			t.Error(err)
		}
		if err := Unwell(got[:1]); err != nil {
			t.Error(err)
		}
	})
}

// TestWatchTellsWhatChanges goes through the looks of a day: numbers that move are no news.
func TestWatchTellsWhatChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		looks := [][]Finding{
			{{Part: "a", Well: true, Detail: "at 1"}, {Part: "b", Well: true}},
			{{Part: "a", Well: true, Detail: "at 2"}, {Part: "b", Detail: "3 behind"}},
			{{Part: "a", Well: true, Detail: "at 3"}, {Part: "b", Detail: "4 behind"}},
			{{Part: "a", Well: true, Detail: "at 4"}, {Part: "b", Detail: "away"}},
			{{Part: "up", Detail: "gone"}},
			{{Part: "a", Well: true, Detail: "at 5"}, {Part: "b", Detail: "away"}},
		}
		var told []string
		n, began := 0, time.Now()
		last, err := Watch(ctx, 2*time.Second, func(context.Context) []Finding {
			if n == len(looks) {
				stop() // in the middle of a look: it does not count
				return nil
			}
			n++
			return looks[n-1]
		}, func(_, changed []Finding) error {
			var parts []string
			for _, f := range changed {
				parts = append(parts, f.Part)
			}
			told = append(told, strings.Join(parts, " "))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"a b", "b", "", "b", "up", "a b"}, told); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(looks[5], last); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(began); took != 12*time.Second {
			t.Errorf("%v for six looks, two seconds apart, and the start of another", took)
		}
	})
}

func TestClocks(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		off  time.Duration // of the other clock
		took time.Duration // to ask
		err  error
		want string
		well bool
	}{
		{"together", 0, 0, nil, "db 0s ahead", true},
		{"a little apart", -3 * time.Second, 0, nil, "db 3s short", true},
		{"ahead", 6 * time.Second, 0, nil, "the clock of db is 6s ahead of ours, and at most 5s is accepted: on the machine that is wrong, run `chronyc makestep`", false},
		{"behind", -time.Hour, 0, nil, "1h0m0s short of ours", false},
		{"as far as a slow answer tells, together", 6 * time.Second, 4 * time.Second, nil, "db 6s ahead", true},
		{"away", 0, 0, errors.New("refused"), "the clock of db is not known: refused", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ours := noon
			got, err := Clocks(t.Context(), func() time.Time { return ours }, []Clock{{"db", func(context.Context) (time.Time, error) {
				middle := ours.Add(c.took / 2)
				ours = ours.Add(c.took)
				return middle.Add(c.off), c.err
			}}})
			if err != nil {
				got = err.Error()
			}
			if (err == nil) != c.well || !strings.Contains(got, c.want) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	part := func(n int32, state string, next, end int64, position uint64) admin.PartitionStatus {
		return admin.PartitionStatus{Topic: "t", Part: n, State: state, NextOffset: next, LogEnd: end, LagEvents: max(0, end-next), Position: position}
	}
	well := func(name, target string, parts ...admin.PartitionStatus) admin.Status {
		s := admin.Status{Name: name, Version: 2, Serves: true, Target: target, State: admin.Well, Partitions: parts}
		for _, p := range parts {
			s.LagEvents += p.LagEvents
			if p.State != admin.Well {
				s.State = p.State
			}
		}
		return s
	}
	in := func(s admin.Status, state, detail string) admin.Status {
		s.State, s.Detail = state, detail
		return s
	}
	good := well("good", "sql", part(0, admin.Well, 5, 5, 90), part(1, admin.Behind, 3, 5, 80))
	for _, c := range []struct {
		name string
		all  []admin.Status
		want []string // "" first: well
		mend []string
	}{
		{"all well", []admin.Status{good, in(well("next", "sql"), admin.Absent, ""), in(well("new", "sql"), admin.Building, "")}, []string{"", "1 versions of projections, 2 records behind"}, nil},
		{"nothing has begun", []admin.Status{well("a", "sql", part(0, admin.Waiting, 0, 0, 0))}, []string{"no projection has begun"}, []string{"salon serve projector"}},
		{"one has not", []admin.Status{good, well("a", "sql", part(0, admin.Waiting, 0, 0, 0))}, []string{"1 projections have not begun"}, []string{"salon serve projector"}},
		{"an offset is gone", []admin.Status{good, well("rows", "sql", part(0, admin.Well, 5, 5, 90), part(1, admin.Waiting, 0, 5, 0))}, []string{"rows@2 has no offset for a partition (t/1)"}, []string{"salon projections drop rows@2", "salon projections rebuild rows@2"}},
		{"Redis forgot one", []admin.Status{good, well("view", "redis", part(0, admin.Well, 5, 5, 90), part(1, admin.Waiting, 0, 5, 0))}, []string{"view@2 has no offset for a partition (t/1): Redis forgot it"}, []string{"salon serve projector"}},
		{"beyond the log", []admin.Status{well("rows", "sql", part(3, admin.Well, 6, 5, 90))}, []string{"rows@2 is beyond the log", "t/3, offset 6 of 5"}, []string{"salon topics accept"}},
		{"beyond the store", []admin.Status{well("rows", "sql", part(3, admin.Well, 5, 5, 101))}, []string{"rows@2 is beyond the event store", "t/3, position 101 of 100"}, []string{"salon projections rebuild rows@2"}},
		{"stuck", []admin.Status{well("rows", "sql", part(3, admin.Stuck, 1, 5, 9))}, []string{"rows@2 does not move (t/3, 4 records"}, []string{"salon serve projector"}},
		{"paused while it serves", []admin.Status{in(good, admin.Paused, "")}, []string{"good@2 serves and is paused"}, []string{"salon projections resume good@2"}},
		{"Redis is away", []admin.Status{good, in(well("view", "redis"), admin.Away, "Redis does not answer: refused")}, []string{"where view@2 stands is not known: Redis does not answer"}, nil},
		{"several things", []admin.Status{well("rows", "sql", part(0, admin.Well, 6, 5, 90), part(1, admin.Well, 7, 5, 101))}, []string{"t/0, offset 6 of 5; t/1, offset 7 of 5"}, []string{"salon topics accept"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			detail, err := Offsets(admin.Overview{StorePosition: 100, Items: c.all})
			got := Found("offsets", detail, err)
			if got.Well != (c.want[0] == "") {
				t.Errorf("%+v", got)
			}
			for _, want := range c.want {
				if !strings.Contains(got.Detail, want) {
					t.Errorf("it does not say %q: %s", want, got.Detail)
				}
			}
			if diff := cmp.Diff(c.mend, got.Mend); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// memory is a store of a few events. Reading lasts as long as took says.
type memory struct {
	events []eventstore.Recorded
	head   uint64
	took   func(ctx context.Context, events int) error
}

func newMemory(n int) *memory {
	m := &memory{head: uint64(n)} //nolint:gosec // a few
	for i := range n {
		r := eventstore.Recorded{
			Position: uint64(i + 1), Stream: fmt.Sprintf("groomer-%d", i%7), Revision: eventstore.Revision(i / 7), Type: "known.v1", Key: fmt.Sprint(i % 7), //nolint:gosec // a few
			RecordedAt: time.Unix(int64(i), 0).UTC(), Metadata: []byte("{}"), Data: []byte("{}"),
		}
		r.Hash = eventstore.ContentHash(r)
		m.events = append(m.events, r)
	}
	return m
}

func (m *memory) Head(context.Context) (eventstore.Head, error) {
	return eventstore.Head{Position: m.head, Incarnation: "i"}, nil
}

func (m *memory) LastPlace(_ context.Context, position uint64, _ time.Time) (p eventstore.Place, _ error) {
	for _, r := range m.events {
		if r.Position <= position {
			p.Position = r.Position
		}
	}
	return p, nil
}

func (m *memory) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if m.took != nil {
			if err := m.took(ctx, int(m.head-after)); err != nil { //nolint:gosec // a few
				yield(eventstore.Recorded{}, err)
				return
			}
		}
		for _, r := range m.events {
			if r.Position > after && f.Matches(r) && !yield(r, nil) {
				return
			}
		}
	}
}

func TestDamageAtTheEndIsSeen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		hurt func(m *memory)
		want string
	}{
		{"nothing", func(*memory) {}, ""},
		{"an event that was changed", func(m *memory) { m.events[2400].Data = []byte("{} ") }, "position 2401 is not what was stored"},
		{"a hole", func(m *memory) { m.events = append(m.events[:2000:2000], m.events[2001:]...) }, "position 2000 is followed by 2002"},
		{"a hole where the look begins", func(m *memory) { m.events = append(m.events[:1500:1500], m.events[1501:]...) }, "position 1500 is followed by 1502"},
		{"a tail that is gone", func(m *memory) { m.events = m.events[:2499] }, "the last position is 2499, the head says 2500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(2500)
			c.hurt(m)
			tail, err := ReadTail(t.Context(), m, true)
			if c.want == "" {
				if err != nil || len(tail.Events) != tailEvents || tail.Head.Position != 2500 {
					t.Errorf("%d events, %v", len(tail.Events), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || len(Found("", "", err).Mend) == 0 {
				t.Errorf("%v; want %q, and a command", err, c.want)
			}
			if _, err := EveryEvent(t.Context(), m, []string{"known.v1"}, true, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("every event: %v; want %q", err, c.want)
			}
		})
	}
}

func TestAnUnknownTypeIsNamed(t *testing.T) {
	t.Parallel()
	known := []string{"known.v1"}
	m := newMemory(200_000)
	if got, err := Types(t.Context(), m, known, true); err != nil || got != "the type of every stored event is known" {
		t.Error(got, err)
	}
	m.events[3].Type = "known.v9"
	m.events[3].Hash = eventstore.ContentHash(m.events[3])
	for _, dense := range []bool{true, false} {
		if got, err := Types(t.Context(), m, known, dense); err == nil || !strings.Contains(err.Error(), "known.v9 (position 4, groomer-3)") {
			t.Error(got, err)
		}
	}
	if got, err := EveryEvent(t.Context(), m, known, true, nil); err == nil || !strings.Contains(err.Error(), "known.v9 (position 4") {
		t.Error(got, err)
	}
	synctest.Test(t, func(t *testing.T) { // of a long history, what there is time for
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		m.took = func(ctx context.Context, events int) error {
			select {
			case <-time.After(time.Duration(events) * 10 * time.Microsecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if got, err := Types(ctx, m, known, true); err != nil || !strings.Contains(got, "last 100000 events") || ctx.Err() != nil {
			t.Error(got, err, ctx.Err())
		}
	})
}

// TestKeysAreDrawnFromAllOfTheHistory draws the keys that were changed last, and others from everywhere.
func TestKeysAreDrawnFromAllOfTheHistory(t *testing.T) {
	t.Parallel()
	m := newMemory(0)
	for i := range 10_000 {
		m.events = append(m.events, eventstore.Recorded{Position: uint64(i + 1), Stream: fmt.Sprintf("groomer-%d", i/10), Key: fmt.Sprint(i / 10)}) //nolint:gosec // a few
	}
	m.head = 10_000
	keys, err := Draw(t.Context(), m, Tail{Head: eventstore.Head{Position: 10_000}, Events: m.events[9000:]}, true, 12, func(n uint64) uint64 { return n / 2 })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range keys {
		got = append(got, k.Key)
	}
	if diff := cmp.Diff([]string{"999", "998", "997", "996", "995", "994", "83", "249", "416", "583", "749", "916"}, got); diff != "" {
		t.Error(diff)
	}
	if at, waits, err := Behind(t.Context(), m, 9_990, m.events[9990].RecordedAt.Add(time.Minute)); err != nil || at != 10 || waits != time.Minute {
		t.Error(at, waits, err)
	}
}
