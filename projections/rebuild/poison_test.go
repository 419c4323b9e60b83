package rebuild

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/reads"
)

// foreign is an event that the catalogue lacks, broken one that is stored as a spoiled one and cannot be read as that.
type (
	foreign struct{}
	broken  []int
)

func (foreign) EventType() string { return "test.foreign.v1" }
func (broken) EventType() string  { return spoiled{}.EventType() }

// The ways in which an event fails.
const (
	refusing  = "refused"
	panicking = "panicking"
	nameless  = "nameless"
	tooLong   = "too long" // for the key column, where the database counts
)

// fragile is the toy whose version 2 fails at spoiled events until it is mended. Version 1 takes them for others.
func fragile() (p engine.Projection, mended *atomic.Bool) {
	p, mended = toy(nil), &atomic.Bool{}
	sound := func(e engine.Event) engine.Event {
		if _, is := e.Event.(spoiled); is {
			e.Event = added{1}
		}
		return e
	}
	fold, keys, old := p.Fold, p.Keys, p.Earlier[0].Fold
	p.Earlier[0].Fold = func(u *engine.Unit, e engine.Event) error { return old(u, sound(e)) }
	p.Keys = func(e engine.Event) []engine.Ref {
		if x, is := e.Event.(spoiled); is && x.How == nameless && !mended.Load() {
			panic("no such key")
		}
		return keys(e)
	}
	p.Fold = func(u *engine.Unit, e engine.Event) error {
		if x, is := e.Event.(spoiled); is && !mended.Load() {
			switch x.How {
			case refusing:
				return errors.New("refused")
			case panicking:
				panic("out of its depth")
			case tooLong:
				notes.Put(u, note{strings.Repeat("댕", 300), 1, 1})
				return nil
			}
		}
		return fold(u, sound(e))
	}
	return p, mended
}

// parkedIn is where the keys of a version wait.
func (w *world) parkedIn(p engine.Projection) map[string]uint64 {
	w.t.Helper()
	list, err := engine.ListParked(w.t.Context(), w.db.Reader(), p.ID())
	must(w.t, err)
	out := map[string]uint64{}
	for _, k := range list {
		out[k.Key] = k.FromPos
		if k.Cause == "" || k.AfterPos >= k.FromPos || k.Part != engine.PartitionOf(k.Key, partitions) || k.Topic != p.Topics[0] {
			w.t.Errorf("%+v", k)
		}
	}
	return out
}

func TestAnEventOfHistoryThatFailsParksItsKeyAlone(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		p, mended := fragile()
		w := newWorld(t, url, p)
		w.store.addMany(300, 3000)
		for i := range 900 { // a history that does not fit into memory
			w.store.add("busy", added{int64(i)})
		}
		want := map[string]uint64{"busy": w.store.add("busy", spoiled{refusing})}
		for key, how := range map[string]string{"salon-10": refusing, "salon-20": panicking, "salon-30": nameless, "first": refusing} {
			want[key] = w.store.add(key, spoiled{how})
		}
		broke := w.store.add("salon-40", broken{1})
		want["salon-40"] = broke // in version 1, too
		if w.db.Dialect() == reads.MySQL {
			want["salon-50"] = w.store.add("salon-50", spoiled{tooLong})
		}
		w.store.addMany(300, 3000) // what waits
		for i := range 200 {
			w.store.add("busy", added{int64(i)})
		}
		w.caughtUp(w.newest.Earlier[0])
		worker := w.worker()
		worker.MostRows = 200
		w.start(worker.Run)
		r := w.ask(Request{Kind: Rebuild, Projection: "toy"})
		if r.State != Done || !strings.Contains(r.Detail, fmt.Sprintf("%d keys are parked", len(want))) {
			t.Fatalf("%+v", r)
		}
		if diff := gocmp.Diff(want, w.parkedIn(p)); diff != "" {
			t.Errorf("parked (-want +got):\n%s", diff)
		}
		w.caughtUp(p)
		if diff := gocmp.Diff(w.wantUpTo(p, want), w.rows(2)); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}

		r = w.ask(Request{Kind: Verify, Projection: "toy"})
		if r.Report == nil || !r.Report.Equal() || !slices.Equal(r.Report.Parked, slices.Sorted(maps.Keys(want))) {
			t.Errorf("%+v: %+v", r, r.Report)
		}
		w.refused(Request{Kind: Switch, Projection: "toy"})
		w.refused(Request{Kind: Switch, Projection: "toy", Options: Options{AcceptParked: true}})
		w.refused(Request{Kind: Switch, Projection: "toy", Options: Options{Force: true, Reason: "not that"}})
		w.serves(1)
		r = w.ask(Request{Kind: Switch, Projection: "toy", Options: Options{AcceptParked: true, Reason: "these few can wait"}})
		if r.Reason != "these few can wait" || !strings.Contains(r.Detail, "parked") {
			t.Errorf("%+v", r)
		}
		w.serves(2)

		// Whoever mends the release has them drained, in order.
		mended.Store(true)
		for key := range want {
			if found, err := engine.RequestRetry(t.Context(), w.db, p.ID(), key); !found || err != nil {
				t.Errorf("%s: %v, %v", key, found, err)
			}
		}
		w.eventually(func() bool { return len(w.parkedIn(p)) == 1 })
		if diff := gocmp.Diff(w.wantUpTo(p, map[string]uint64{"salon-40": broke}), w.rows(2)); diff != "" {
			t.Errorf("rows when mended (-want +got):\n%s", diff)
		}
	})
}

func TestAFoldThatFailsForManyKeysFailsTheRebuild(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, url string) {
		p, mended := fragile()
		w := newWorld(t, url, p)
		for i := range 101 {
			w.store.add(fmt.Sprintf("salon-%d", i), added{1})
			w.store.add(fmt.Sprintf("salon-%d", i), spoiled{refusing})
		}
		w.caughtUp(p.Earlier[0])
		w.start(w.worker().Run)
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Failed || !strings.Contains(r.Detail, "100 keys") {
			t.Errorf("%+v", r)
		}
		w.gone(p)
		if left := w.parkedIn(p); len(left) != 0 {
			t.Errorf("parked keys are left: %v", left)
		}
		mended.Store(true)
		if r := w.ask(Request{Kind: Rebuild, Projection: "toy"}); r.State != Done || r.Detail != "" {
			t.Errorf("%+v", r)
		}
	})
}
