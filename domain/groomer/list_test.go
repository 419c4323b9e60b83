package groomer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestListIsASortedMapThatIsNeverChanged grows past several chunks, and compares every list that ever was with what it
// held when it was made.
func TestListIsASortedMapThatIsNeverChanged(t *testing.T) {
	t.Parallel()
	contents := func(l List[*TimeOff]) []string {
		out := []string{}
		for o := range l.All() {
			out = append(out, o.TimeOffID+o.Reason.KeyID)
		}
		return out
	}
	var numbers []int // sampled, since rapid prefers a range's small end
	for i := range 400 {
		numbers = append(numbers, i)
	}
	rapid.Check(t, func(t *rapid.T) {
		var l List[*TimeOff]
		want := map[string]string{}
		var lists []List[*TimeOff]
		var then [][]string
		for step := range rapid.SampledFrom([]int{10, 100, 400}).Draw(t, "steps") {
			id := fmt.Sprintf("t%03d", rapid.SampledFrom(numbers).Draw(t, "id"))
			switch rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "what") {
			case 0:
				o := &TimeOff{TimeOffID: id}
				o.Reason.KeyID = fmt.Sprint("/", step)
				l, want[id] = l.with(o), o.Reason.KeyID
			case 1:
				l = l.without(id)
				delete(want, id)
			case 2:
				over := func(o *TimeOff) bool { return o.TimeOffID[3] == id[3] && o.TimeOffID[2] == id[2] }
				l = l.prune(over)
				maps.DeleteFunc(want, func(id, _ string) bool { return over(&TimeOff{TimeOffID: id}) })
			}
			if o, ok := l.find(id); ok != (want[id] != "") || ok && o.Reason.KeyID != want[id] {
				t.Fatalf("found %v %v, want %q", o, ok, want[id])
			}
			lists, then = append(lists, l), append(then, contents(l))
		}
		other := lists[rapid.IntRange(0, len(lists)-1).Draw(t, "other")]
		since, changes := map[string]*TimeOff{}, map[string]*TimeOff{}
		for id, o := range l.Since(other) {
			since[id] = o
		}
		for o := range other.All() {
			if now, _ := l.find(o.TimeOffID); now != o {
				changes[o.TimeOffID] = now
			}
		}
		for o := range l.All() {
			if was, _ := other.find(o.TimeOffID); was != o {
				changes[o.TimeOffID] = o
			}
		}
		if !maps.Equal(since, changes) {
			t.Fatalf("since: %v, want %v", since, changes)
		}
		all := []string{}
		for _, id := range slices.Sorted(maps.Keys(want)) {
			all = append(all, id+want[id])
		}
		if diff := cmp.Diff(all, contents(l)); diff != "" || l.Len() != len(want) {
			t.Fatalf("length %d of %d (-want +got)\n%s", l.Len(), len(want), diff)
		}
		bytes := 0
		for o := range l.All() {
			bytes += o.size()
		}
		if l.bytes != bytes {
			t.Fatalf("of %d bytes by its count, of %d by its items", l.bytes, bytes)
		}
		for i := range lists {
			if diff := cmp.Diff(then[i], contents(lists[i])); diff != "" {
				t.Fatalf("list %d was changed (-then +now)\n%s", i, diff)
			}
		}
		for _, c := range l.chunks {
			if len(c) == 0 || len(c) > chunk {
				t.Fatalf("a chunk of %d: a change would copy all of it", len(c))
			}
		}
		var again List[*TimeOff]
		if b, err := json.Marshal(l); err != nil || json.Unmarshal(b, &again) != nil {
			t.Fatalf("not readable: %s, %v", b, err)
		}
		if diff := cmp.Diff(contents(l), contents(again)); diff != "" {
			t.Fatalf("after JSON (-want +got)\n%s", diff)
		}
	})
}
