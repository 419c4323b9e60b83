package rebuild

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/eventstore"
	"github.com/dangdangsalon/salon/projections/engine"
)

// wrong is a toy whose version 2 counts one too many at the seventh event of salon-3, loses a note of salon-5 and makes one up
// for salon-6.
func wrong() engine.Projection {
	p := toy(func(c *counter) {
		if c.Key == "salon-3" && c.Count == 7 {
			c.Count++
		}
	})
	fold := p.Fold
	p.Fold = func(u *engine.Unit, e engine.Event) error {
		err := fold(u, e)
		switch e.Key {
		case "salon-5":
			notes.Delete(u, e.Key, 3)
		case "salon-6":
			notes.Put(u, note{Key: e.Key, N: 99})
		}
		return err
	}
	return p
}

// addVaried adds events of so many keys, each of which has several notes, that come and go.
func (m *memory) addVaried(keys, events int) {
	for i := range events {
		key, n := fmt.Sprintf("salon-%d", i%keys), int64(i/keys%11)
		switch i % 10 {
		case 9:
			m.add(key, ignored{})
		case 8:
			m.add(key, undone{n / 2})
		default:
			m.add(key, added{n})
		}
	}
}

var unexported = gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".d" || p.Last().String() == ".parts" }, gocmp.Ignore())

func desk(p engine.Projection) *Desk { return &Desk{Of: []engine.Projection{p}} }

// previewed previews version 2 against 1.
func previewed(t *testing.T, p engine.Projection, of Events, scans bool, q PreviewRequest) *Previewed {
	t.Helper()
	q.Projection, q.Against = "toy", 1
	out, err := desk(p).Preview(t.Context(), q, of, scans, codec())
	must(t, err)
	return out
}

// rowsThrough are the rows of the keys that have events after a position and through another, by the fold and nothing of ours.
func rowsThrough(t *testing.T, m *memory, p engine.Projection, from, to uint64) (map[string]counter, map[string]note) {
	t.Helper()
	u, within := engine.NewUnit(), map[string]bool{}
	for _, r := range m.all() {
		if r.Position > to {
			break
		}
		e := engine.Event{ID: r.ID, Position: r.Position, Stream: r.Stream, Key: r.Key}
		var err error
		e.Event, err = codec().Decode(r.Type, r.Data)
		must(t, err)
		must(t, u.Replay(p, e))
		within[r.Key] = within[r.Key] || r.Position >= from && p.Uses(r.Type)
	}
	c, n := map[string]counter{}, map[string]note{}
	for _, row := range counters.Rows(u) {
		if within[row.Key] {
			c[row.Key] = row
		}
	}
	for _, row := range notes.Rows(u) {
		if within[row.Key] {
			n[fmt.Sprintf("%s/%d", row.Key, row.N)] = row
		}
	}
	return c, n
}

// diffOf counts by comparing the rows themselves.
func diffOf[R comparable](table string, old, now map[string]R) TableDiff {
	d := TableDiff{Table: table, Rows: int64(len(now))}
	for name, x := range now {
		if before, was := old[name]; !was {
			d.Added++
		} else if before != x {
			d.Changed++
		}
	}
	for name := range old {
		if _, is := now[name]; !is {
			d.Removed++
		}
	}
	return d
}

func TestAPreviewTellsWhatAVersionChanges(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.addVaried(37, 1500)
	p := wrong()
	for _, c := range [][2]uint64{{1, 1500}, {1, 100}, {700, 750}, {1400, 1500}, {1500, 1500}} {
		q := PreviewRequest{From: fmt.Sprint(c[0]), To: fmt.Sprint(c[1]), Examples: 1000}
		got := previewed(t, p, m, false, q)
		oldC, oldN := rowsThrough(t, m, p.Earlier[0], c[0], got.To)
		newC, newN := rowsThrough(t, m, p, c[0], got.To)
		want := []TableDiff{diffOf("counters", oldC, newC), diffOf("notes", oldN, newN)}
		var columns [][]ColumnDiff
		tables := slices.Clone(got.Tables)
		for i := range tables {
			columns = append(columns, tables[i].Columns)
			tables[i].Columns = nil
		}
		if diff := gocmp.Diff(want, tables); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c, diff)
		}
		if got.Keys != len(newC) || got.Folded != len(newC) {
			t.Errorf("%v: %d keys of %d, want %d", c, got.Folded, got.Keys, len(newC))
		}
		for _, x := range columns[0] {
			if (x.Column == "largest") != (x.Expected != "") {
				t.Errorf("%v: %+v", c, x)
			}
		}
		// A store that is read whole, in portions, and a recording say the same.
		for name, other := range map[string]*Previewed{
			"scanned": previewed(t, p, m, true, q),
			"recorded": previewed(t, p, recording(func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] {
				return m.ReadAll(ctx, 0, eventstore.Filter{})
			}), true, q),
			"portions": portions(t, p, m, q),
		} {
			if diff := gocmp.Diff(got, other, unexported); diff != "" {
				t.Errorf("%v, %s (-want +got):\n%s", c, name, diff)
			}
		}
	}
}

// portions previews with room for a few keys at a time.
func portions(t *testing.T, p engine.Projection, m *memory, q PreviewRequest) *Previewed {
	t.Helper()
	w := Preview{Events: m, Scans: true, Codec: codec(), New: p, Old: p.Earlier[0], Examples: q.Examples, MostRows: 10}
	must(t, w.take(q))
	out, err := w.Run(t.Context())
	must(t, err)
	return out
}

func TestAPreviewNamesTheEventSinceWhichARowDiffers(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.addVaried(37, 1500)
	got := previewed(t, wrong(), m, false, PreviewRequest{Examples: 50})
	used, want := map[string]int{}, map[string]uint64{}
	for _, e := range m.all() {
		if e.Type == (ignored{}).EventType() {
			continue
		}
		used[e.Key]++
		switch {
		case e.Key == "salon-3" && used[e.Key] == 7, e.Key == "salon-6" && used[e.Key] == 1:
			want[e.Key] = e.Position
		case e.Key == "salon-5" && want[e.Key] == 0 && string(e.Data) == `{"N":3}` && e.Type == (added{}).EventType():
			want[e.Key] = e.Position
		}
	}
	unexpected := 0
	for _, x := range got.Examples {
		if x.Expected {
			continue
		}
		unexpected++
		if x.Event == nil || x.Key != "salon-5" && x.Event.Position != want[x.Key] {
			t.Errorf("%s of %s is %s since %+v, want position %d", x.Row, x.Key, x.Change, x.Event, want[x.Key])
		}
		if x.Key == "salon-3" && !slices.ContainsFunc(x.Columns, func(v ValueDiff) bool { return v.Column == "count" && v.Before != v.After }) {
			t.Errorf("%+v", x)
		}
	}
	if int64(unexpected) != got.Unexpected || unexpected == 0 || got.Examples[0].Expected {
		t.Errorf("%d of %d are told: %+v", unexpected, got.Unexpected, got.Examples)
	}
	if none := previewed(t, toy(nil), m, false, PreviewRequest{}); none.Unexpected != 0 || len(none.Examples) != 0 || none.Tables[0].Changed == 0 {
		t.Errorf("%+v", none)
	}
	if short := previewed(t, wrong(), m, false, PreviewRequest{Examples: 1}); len(short.Examples) != 1 || short.Examples[0].Expected || short.Unexpected != got.Unexpected {
		t.Errorf("%+v", short)
	}
}

func TestAPreviewOfASampleDrawsTheSameAgain(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.addVaried(37, 1500)
	first := previewed(t, wrong(), m, false, PreviewRequest{Sample: 10, Examples: 1000})
	if first.Folded != 10 || first.Keys <= 10 || first.Seed == 0 || first.Tables[0].Rows != 10 {
		t.Errorf("%+v", first)
	}
	again := previewed(t, wrong(), m, true, PreviewRequest{Sample: 10, Seed: first.Seed, Examples: 1000})
	keys := func(p *Previewed) (out []string) {
		for _, x := range p.Examples {
			out = append(out, x.Table+x.Row)
		}
		return out
	}
	if diff := gocmp.Diff(keys(first), keys(again)); diff != "" {
		t.Errorf("(-first +again):\n%s", diff)
	}
}

func TestAPreviewTellsOfKeysThatCannotBeFolded(t *testing.T) {
	t.Parallel()
	p, _ := fragile()
	m := newMemory()
	m.addMany(10, 200)
	at := m.add("salon-1", spoiled{refusing})
	panics := m.add("salon-2", spoiled{nameless})
	both := m.add("salon-4", broken{1})
	m.add("salon-1", added{7})
	got := previewed(t, p, m, true, PreviewRequest{})
	failed := map[string]uint64{}
	for _, f := range got.Failed {
		if failed[fmt.Sprintf("%s@%d", f.Key, f.Version)] = f.Event.Position; f.Cause == "" {
			t.Errorf("%+v", f)
		}
	}
	if diff := gocmp.Diff(map[string]uint64{"salon-1@2": at, "salon-2@2": panics, "salon-4@1": both, "salon-4@2": both}, failed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Unexpected != 2 || got.Tables[0].Rows != 7 {
		t.Errorf("%+v", got)
	}
	m.add("salon-9", foreign{})
	_, err := desk(p).Preview(t.Context(), PreviewRequest{Projection: "toy", Against: 1}, m, false, codec())
	if !errors.As(err, new(*eventstore.UnknownTypeError)) {
		t.Errorf("a type that the catalogue lacks: %v", err)
	}
}

func TestAPreviewByTime(t *testing.T) {
	t.Parallel()
	m := newMemory()
	day := time.Date(2026, 11, 24, 14, 0, 0, 0, time.UTC)
	for i := range 10 {
		m.addTo(fmt.Sprintf("groomer-%d", i), fmt.Sprintf("salon-%d", i), added{1}, day.Add(time.Duration(i)*time.Minute))
	}
	got := previewed(t, toy(nil), m, false, PreviewRequest{From: "2026-11-24T23:02:00+09:00", To: "2026-11-24T14:05:30Z"})
	if got.From != 3 || got.To != 6 || got.Keys != 4 {
		t.Errorf("%+v", got)
	}
	if none := previewed(t, toy(nil), m, false, PreviewRequest{From: "2027-01-01T00:00:00Z"}); none.Keys != 0 || none.Unexpected != 0 {
		t.Errorf("%+v", none)
	}
}

func TestAPreviewThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	d := desk(toy(nil))
	d.Of = append(d.Of, toy(nil).InRedis("toy_view"))
	for name, q := range map[string]PreviewRequest{
		"from":     {Projection: "toy", Against: 1, From: "-1"},
		"to":       {Projection: "toy", Against: 1, From: "10", To: "9"},
		"sample":   {Projection: "toy", Against: 1, Sample: -1},
		"seed":     {Projection: "toy", Against: 1, Seed: 1},
		"examples": {Projection: "toy", Against: 1, Examples: 1001},
		"against":  {Projection: "toy"},
	} {
		_, err := d.Preview(t.Context(), q, newMemory(), false, codec())
		if option := new(OptionError); !errors.As(err, &option) || option.Option != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, q := range []PreviewRequest{{Projection: "toys", Against: 1}, {Projection: "toy", Against: 9}} {
		if _, err := d.Preview(t.Context(), q, newMemory(), false, codec()); !errors.Is(err, ErrUnknown) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := d.Preview(t.Context(), PreviewRequest{Projection: "toy@1", Against: 1}, newMemory(), false, codec()); !errors.As(err, new(*OptionError)) {
		t.Errorf("against itself: %v", err)
	}
	if _, err := d.Preview(t.Context(), PreviewRequest{Projection: "toy_view", Against: 1}, newMemory(), false, codec()); !errors.As(err, new(*RefusedError)) {
		t.Errorf("a view: %v", err)
	}
}

// recording makes events of an iterator that begins anew each time it is called for, as an exported file does.
type recording func(ctx context.Context) iter.Seq2[eventstore.Recorded, error]

func (r recording) ReadAll(ctx context.Context, after uint64, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range r(ctx) {
			if (err != nil || e.Position > after && f.Matches(e)) && !yield(e, err) {
				return
			}
		}
	}
}

// A slice is compared where it has a key from its beginning on, as the whole is; a key that was cut is told, whichever of its
// streams lacks something, and wherever.
func TestAPreviewOfASliceTellsWhatItLacks(t *testing.T) {
	t.Parallel()
	m, p := newMemory(), wrong()
	m.addVaried(4, 80)                                        // salon-0 to 3
	m.addTo("groomer-late", "late", added{1}, time.Now())     // begins behind the middle
	m.addTo("groomer-late-kim", "late", added{2}, time.Now()) // and another stream of it
	m.addTo("groomer-salon-3-kim", "salon-3", added{2}, time.Now())
	all, ends := m.all(), map[string]eventstore.Revision{}
	for i, e := range all { // the toy's streams do not count from 0
		all[i].Revision = ends[e.Stream]
		ends[e.Stream]++
	}
	of := func(keep func(i int, e eventstore.Recorded) bool) *Previewed {
		t.Helper()
		events := []eventstore.Recorded{}
		for i, e := range all {
			if keep(i, e) {
				events = append(events, e)
			}
		}
		return previewed(t, p, recording(func(context.Context) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for _, e := range events {
					if !yield(e, nil) {
						return
					}
				}
			}
		}), true, PreviewRequest{Slice: true, Examples: 20})
	}
	whole := of(func(int, eventstore.Recorded) bool { return true })
	if want := previewed(t, p, m, false, PreviewRequest{Examples: 20}); gocmp.Diff(want, whole, unexported) != "" || want.Unexpected == 0 {
		t.Errorf("the whole as a slice (-whole +slice):\n%s", gocmp.Diff(want, whole, unexported))
	}
	for _, c := range []struct {
		name string
		keep func(i int, e eventstore.Recorded) bool
		cut  []string
	}{
		{"from the middle on", func(i int, _ eventstore.Recorded) bool { return i >= 40 }, []string{"salon-0", "salon-1", "salon-2", "salon-3"}},
		{"without one key's first event", func(i int, _ eventstore.Recorded) bool { return i > 0 }, []string{"salon-0"}},
		{"without an event between", func(i int, _ eventstore.Recorded) bool { return i != 41 }, []string{"salon-1"}},
		{"only another stream of a key", func(_ int, e eventstore.Recorded) bool { return e.Stream != "groomer-salon-3" }, []string{"salon-3"}},
		{"up to the middle", func(i int, _ eventstore.Recorded) bool { return i < 40 }, nil},
	} {
		got := of(c.keep)
		if got.Cut != len(c.cut) || !slices.Equal(got.CutKeys, c.cut) {
			t.Errorf("%s: cut %d, %q", c.name, got.Cut, got.CutKeys)
		}
		for _, x := range got.Examples {
			if slices.Contains(c.cut, x.Key) {
				t.Errorf("%s: a row of %q, which is cut, is compared: %+v", c.name, x.Key, x)
			}
		}
	}
}
