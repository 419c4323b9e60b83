package rebuild

import (
	"slices"
	"testing"
)

func TestAVerificationNamesWhatDiffersAndSinceWhichEvent(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(func(c *counter) { // a fault of the new fold
			if c.Key == "salon-7" && c.Count == 3 {
				c.Order += "!"
			}
		}))
		w.store.addMany(3000, 12_000)
		w.caughtUp(w.newest.Earlier[0])
		w.start(w.worker().Run)
		w.ask(Request{Kind: Rebuild, Projection: "toy"})
		w.caughtUp(w.newest)
		// And what somebody did by hand.
		for _, statement := range []string{
			"UPDATE counters_v2 SET `count` = `count` + 1 WHERE `key` = 'salon-100'",
			"DELETE FROM notes_v2 WHERE `key` = 'salon-200'",
			"UPDATE counters_v2 SET largest = 99 WHERE `key` = 'salon-300'", // nobody else has this column
		} {
			_, err := w.db.Writer().ExecContext(t.Context(), statement)
			must(t, err)
		}
		r := w.ask(Request{Kind: Verify, Projection: "toy"})
		if r.State != Done || r.Report == nil || r.Report.Equal() {
			t.Fatalf("%+v", r)
		}
		var third uint64 // of salon-7's events that the projection uses
		seen := 0
		for _, e := range w.store.all() {
			if e.Key == "salon-7" && e.Type != (ignored{}).EventType() {
				if seen++; seen == 3 {
					third = e.Position
				}
			}
		}
		found := map[string]bool{}
		for _, u := range r.Report.Listed {
			switch {
			case u.Table == "counters" && u.Row == "salon-7":
				if !slices.Equal(u.Columns, []string{"order_hash"}) || u.Event == nil || u.Event.Position != third {
					t.Errorf("the planted fault is told as %+v %+v; it is at position %d", u, u.Event, third)
				}
			case u.Table == "counters" && u.Row == "salon-100":
				if !slices.Equal(u.Columns, []string{"count"}) || u.Event != nil {
					t.Errorf("%+v", u)
				}
			case u.Table == "notes" && u.Key == "salon-200":
			default:
				t.Errorf("%+v", u)
			}
			found[u.Key] = true
		}
		if len(found) != 3 {
			t.Errorf("found %v", found)
		}
		if _, err := w.desk.Ask(t.Context(), Request{Kind: Switch, Projection: "toy"}); err == nil {
			t.Error("reads were moved to a version that differs")
		}
		w.serves(1)
	})
}

// Where two versions stand apart, the keys in between are held to the store: nothing wrong passes for that.
func TestVersionsThatStandApartAreHeldToTheStore(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		w := newWorld(t, url, toy(nil))
		w.store.addMany(200, 1000)
		w.caughtUp(w.newest.Earlier[0])
		stopWorker := w.start(w.worker().Run)
		w.ask(Request{Kind: Rebuild, Projection: "toy"})
		w.caughtUp(w.newest)
		stopWorker()
		w.stopProjector(w.newest)
		w.store.addMany(20, 100)
		w.caughtUp(w.newest.Earlier[0])
		w.start(w.worker().Run)
		if r := w.ask(Request{Kind: Verify, Projection: "toy"}); r.Report == nil || !r.Report.Equal() || r.Report.Refolded != 20 {
			t.Fatalf("%+v: %+v", r, r.Report)
		}
		for _, version := range []string{"counters_v1", "counters_v2"} {
			_, err := w.db.Writer().ExecContext(t.Context(), "UPDATE "+version+" SET `count` = `count` + 1 WHERE `key` = 'salon-0'")
			must(t, err)
		}
		r := w.ask(Request{Kind: Verify, Projection: "toy"})
		if r.Report == nil || r.Report.Differ != 2 {
			t.Fatalf("%+v: %+v", r, r.Report)
		}
	})
}
