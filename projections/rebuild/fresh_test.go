package rebuild

import (
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/projections/engine"
)

// byHand runs statements as somebody at the database would.
func (w *world) byHand(statements ...string) {
	w.t.Helper()
	for _, s := range statements {
		_, err := w.db.Writer().ExecContext(w.t.Context(), s)
		must(w.t, err)
	}
}

// lastOf is the position of the last event of a key that the projection uses.
func (w *world) lastOf(key string) (last uint64) {
	for _, e := range w.store.all() {
		if e.Key == key && e.Type != (ignored{}).EventType() {
			last = e.Position
		}
	}
	return last
}

func TestAVersionIsHeldToTheStoreWhileItIsWritten(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(1000, 8000)
		w.caughtUp(w.newest.Earlier[0])
		worker := w.worker()
		worker.MostRows = 200
		w.start(worker.Run)
		stop := w.underLoad() // of the first forty keys
		r := w.ask(Request{Kind: Verify, Projection: "toy", Options: Options{Fresh: true}})
		if r.State != Done || r.Version != 1 || r.Report == nil || !r.Report.Equal() || r.Report.Refolded != 1000 || r.Report.Rows < 1500 {
			t.Fatalf("nothing was touched: %+v: %+v", r, r.Report)
		}
		w.byHand(
			"UPDATE counters_v1 SET `count` = `count` + 1 WHERE `key` = 'salon-100'",
			"DELETE FROM counters_v1 WHERE `key` = 'salon-200'",
			"INSERT INTO notes_v1 (`key`, n, at_position, ordering_key) VALUES ('salon-300', 77, 1, 'salon-300')",
			"INSERT INTO notes_v1 (`key`, n, at_position, ordering_key) VALUES ('stranger', 1, 1, 'stranger'), ('stranger', 2, 1, 'stranger')",
			"UPDATE counters_v1 SET ordering_key = 'salon-500' WHERE `key` = 'salon-400'",
		)
		r = w.ask(Request{Kind: Verify, Projection: "toy@1", Options: Options{Fresh: true}})
		stop()
		if r.State != Done || r.Report == nil {
			t.Fatalf("%+v", r)
		}
		type found struct {
			Table, Row, Key string
			Columns         []string
			Last            uint64
		}
		var got []found
		for _, u := range r.Report.Listed {
			f := found{Table: u.Table, Row: u.Row, Key: u.Key, Columns: u.Columns}
			if u.Event != nil {
				f.Last = u.Event.Position
			}
			got = append(got, f)
		}
		for _, want := range []found{
			{"counters", "salon-100", "salon-100", []string{"count"}, w.lastOf("salon-100")},
			{"counters", "salon-200", "salon-200", nil, w.lastOf("salon-200")},
			{"notes", "salon-300/77", "salon-300", nil, 0},
			{"notes", "stranger/1", "stranger", nil, 0},
			{"notes", "stranger/2", "stranger", nil, 0},
		} {
			if !slices.ContainsFunc(got, func(f found) bool { return gocmp.Equal(f, want) }) {
				t.Errorf("want %+v among %+v", want, got)
			}
		}
		if !slices.ContainsFunc(got, func(f found) bool { return f.Row == "salon-400" }) {
			t.Errorf("the row that changed hands is not among %+v", got)
		}
		if n := r.Report.Differ; n != int64(len(got)) || n < 6 || n > 7 { // that row is one, or missing here and too much there
			t.Errorf("%d rows differ: %+v", n, got)
		}

		// A sample is what its seed draws, and finds what is drawn.
		r = w.ask(Request{Kind: Verify, Projection: "toy@1", Options: Options{Fresh: true, Sample: 30}})
		if r.Report == nil || r.Report.Refolded != 30 || r.Report.Seed == 0 {
			t.Fatalf("%+v: %+v", r, r.Report)
		}
		again := w.ask(Request{Kind: Verify, Projection: "toy@1", Options: Options{Fresh: true, Sample: 30, Seed: r.Report.Seed}})
		if diff := gocmp.Diff(r.Report, again.Report); diff != "" {
			t.Errorf("the same seed: %s", diff)
		}
		r = w.ask(Request{Kind: Verify, Projection: "toy@1", Options: Options{Fresh: true, Sample: 5000, Seed: 7}})
		if r.Report == nil || r.Report.Refolded != 1000 || r.Report.Differ < 4 || r.Report.Differ > 5 { // without the stranger's
			t.Errorf("%+v: %+v", r, r.Report)
		}

		w.refused(Request{Kind: Verify, Projection: "toy@2", Options: Options{Fresh: true}})
	})
}

// Partitions stand at different positions: each key is folded up to where its own does.
func TestAVersionIsHeldToTheStoreUpToWhereItStands(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(100, 1000)
		w.caughtUp(w.newest.Earlier[0])
		w.stopProjector(w.newest.Earlier[0])
		var head uint64
		for _, e := range w.store.all() {
			if engine.PartitionOf(e.Key, partitions) != 0 {
				head = w.store.add(e.Key, added{9})
			}
		}
		_, err := w.db.Writer().ExecContext(t.Context(), "UPDATE projection_offsets SET last_pos = ? WHERE part = 0", head) // as a marker does
		must(t, err)
		w.start(w.worker().Run)
		if r := w.ask(Request{Kind: Verify, Projection: "toy@1", Options: Options{Fresh: true}}); r.Report == nil || !r.Report.Equal() || r.Report.Refolded != 100 {
			t.Errorf("%+v: %+v", r, r.Report)
		}
	})
}
