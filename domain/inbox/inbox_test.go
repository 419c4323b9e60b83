package inbox

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dangdangsalon/salon/domain"
)

var ana = domain.Actor{ID: "ana", Role: domain.Customer}

func TestMark(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		at, through, head uint64
		want              []domain.Event
		refused           error
	}{
		{"it moves forward", 3, 5, 9, []domain.Event{Read{Reader: ana, Through: 5}}, nil},
		{"up to the store's end", 3, 9, 9, []domain.Event{Read{Reader: ana, Through: 9}}, nil},
		{"it never goes back", 3, 2, 9, nil, nil},
		{"where it is already it stays", 3, 3, 9, nil, nil},
		{"nothing read is nothing", 0, 0, 0, nil, nil},
		{"what has not happened cannot be read", 3, 10, 9, nil, domain.Refuse("request.invalid", "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := Evolve(Mark{}, domain.Fact{Event: Read{Reader: ana, Through: c.at}})
			got, err := m.Read(ana, c.through, c.head)
			if !errors.Is(err, c.refused) || err != nil && c.refused == nil {
				t.Fatalf("refused with %v, want %v", err, c.refused)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestTheMarkIsTheFurthestEverGiven(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var m Mark
		var furthest uint64
		for range rapid.IntRange(0, 30).Draw(t, "marks") {
			through := rapid.Uint64Range(0, 20).Draw(t, "through")
			events, err := m.Read(ana, through, 15)
			if (err != nil) != (through > 15) {
				t.Fatalf("through %d: %v", through, err)
			}
			if err == nil {
				furthest = max(furthest, through)
			}
			for _, e := range events {
				m = Evolve(m, domain.Fact{Event: e})
			}
			if m.Through != furthest {
				t.Fatalf("the mark is at %d, want %d", m.Through, furthest)
			}
		}
	})
}

// TestTheFoldIsItsVersion pins what a snapshot of a mark looks like: another look is another FoldVersion.
func TestTheFoldIsItsVersion(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(Evolve(Mark{}, domain.Fact{Event: Read{Reader: ana, Through: 17}}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]string{1: `{"through":17}`}
	if diff := cmp.Diff(want[FoldVersion], string(got)); diff != "" {
		t.Errorf("if that is meant, raise FoldVersion and add its line (-want +got)\n%s", diff)
	}
}
