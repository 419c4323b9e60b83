package esdb_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/eventstore/esdb"
	"github.com/dangdangsalon/salon/eventstore/esdb/esdbtest"
)

// The ledger has each accepted command as Command finds it, in the order of the log, and nothing of what was refused; seals
// are taken one behind the other.
func TestLedger(t *testing.T) {
	t.Parallel()
	server := esdbtest.New(t)
	s := openAt(t, esdb.Config{URL: server.URL(), Namespace: "ours-"})
	var ids, silent []uuid.UUID
	for n := range 30 {
		a := request("groomer-"+string(rune('a'+n%3)), "x", "y")
		if n%5 == 4 {
			a.Events = nil
			silent = append(silent, a.Command.ID)
		} else {
			ids = append(ids, a.Command.ID)
		}
		a.Expected = eventstore.AnyRevision
		if _, err := s.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		refused := request(a.Stream)
		refused.Expected, refused.Events = 1000, nil
		var conflict *eventstore.ConflictError
		if _, err := s.Append(t.Context(), refused); !errors.As(err, &conflict) {
			t.Fatal(err)
		}
	}
	found, err := s.CommandsOf(t.Context(), append(slices.Clone(ids), uuid.New()), 0)
	if err != nil || len(found) != len(ids) {
		t.Fatalf("found %d of %d: %v", len(found), len(ids), err)
	}
	after := uint64(0)
	for range 2 { // the second time from where the first one ended
		got := []uuid.UUID{}
		from := after
		for c, err := range s.Silent(t.Context(), from) {
			if err != nil {
				t.Fatal(err)
			}
			if c.Silent <= after {
				t.Errorf("number %d behind %d", c.Silent, after)
			}
			got, after, found = append(got, c.ID), c.Silent, append(found, c)
		}
		want := silent
		if from > 0 {
			want = []uuid.UUID{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("commands without events behind %d (-want +got):\n%s", from, diff)
		}
	}
	more := request("groomer-a")
	more.Events, more.Expected = nil, eventstore.AnyRevision
	if _, err := s.Append(t.Context(), more); err != nil {
		t.Fatal(err)
	}
	for c, err := range s.Silent(t.Context(), after) {
		if err != nil || c.ID != more.Command.ID {
			t.Errorf("one more: %v, %v", c, err)
		}
	}
	for _, c := range found {
		want, ok, err := s.Command(t.Context(), c.ID)
		if err != nil || !ok || cmp.Diff(want, c.Command) != "" || c.RecordedAt.IsZero() {
			t.Errorf("%v, %v: %s", ok, err, cmp.Diff(want, c.Command))
		}
	}

	seal := func(block uint64) eventstore.Seal {
		return eventstore.Seal{Block: block, Through: 10 * block, SilentThrough: block, Note: []byte("note"), Outline: []byte("outline")}
	}
	if last, err := s.LastSeal(t.Context()); err != nil || last.Block != 0 {
		t.Errorf("before the first: %+v, %v", last, err)
	}
	var want []eventstore.Seal
	for block := range uint64(20) {
		want = append(want, seal(block+1))
		if err := s.AddSeal(t.Context(), seal(block+1)); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []uint64{block + 1, block + 3} {
			if err := s.AddSeal(t.Context(), seal(wrong)); !errors.Is(err, eventstore.ErrSealed) {
				t.Errorf("block %d behind %d: %v", wrong, block+1, err)
			}
		}
		if last, err := s.LastSeal(t.Context()); err != nil || last.Block != block+1 {
			t.Errorf("last: %+v, %v", last, err)
		}
	}
	var got []eventstore.Seal
	for l, err := range s.Seals(t.Context(), 3) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	if diff := cmp.Diff(want[3:], got); diff != "" {
		t.Errorf("seals (-want +got):\n%s", diff)
	}
	for r, err := range s.ReadAll(t.Context(), 0, eventstore.Filter{}) {
		if err != nil || r.Type == "salon.seal.v1" {
			t.Errorf("a reader meets a seal: %v, %v", r, err)
		}
	}
	server.Stop()
	_, err = s.CommandsOf(t.Context(), ids, 0)
	wants(t, err, eventstore.ErrUnavailable)
}
