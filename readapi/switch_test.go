package readapi

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dangdangsalon/salon/projections/calendar"
	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/rebuild"
	"github.com/dangdangsalon/salon/projections/reservations"
)

// Reads are moved to and fro between two versions of which now one is behind and now the other, while somebody writes and
// reads with tokens: no read fails, and none is older than its token.
func TestTokensAreHonouredThroughSwitches(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		older := reservations.Projection()
		newer := older
		newer.Version, newer.Earlier = older.Version+1, []engine.Projection{older}
		if err := engine.EnsureTables(t.Context(), w.db, newer); err != nil {
			t.Fatal(err)
		}
		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		w.project()
		w.project(newer)
		desk := &rebuild.Desk{DB: w.db, Of: []engine.Projection{newer}}
		versions := []engine.Projection{newer, older}
		var longest time.Duration
		for i := range 20 {
			s.Move(v, tenth.Add(time.Duration(i)*time.Hour))
			tok, revision := w.token(), v.Revision
			to, from := versions[i%2], versions[(i+1)%2]
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					got := want[Reservation](w.get("customer:c1", "/v1/reservations/"+v.ID, "Consistency-Token", tok, "Prefer", "wait=30"), http.StatusOK)
					if got.Revision < revision {
						t.Errorf("revision %d with a token of %d", got.Revision, revision)
					}
				})
			}
			all.Go(func() { w.project(from) }) // the one that will not serve has it first
			all.Go(func() {
				began := time.Now()
				_, err := desk.Ask(t.Context(), rebuild.Request{Kind: rebuild.Switch, Projection: to.ID(), Options: rebuild.Options{Force: true, Reason: "a test"}})
				if err != nil {
					t.Error(err)
				}
				longest = max(longest, time.Since(began))
				w.project(to)
			})
			all.Wait()
			if at, _, err := engine.ActiveVersion(t.Context(), w.db.Reader(), older.Name); at != to.Version || err != nil {
				t.Fatalf("version %d serves, want %d: %v", at, to.Version, err)
			}
		}
		t.Logf("the longest of 20 switches took %v", longest)
	})
}

// markOf is the buffer by which the second version of the calendar is told from the first.
const markOf = 7777

// twoCalendars are two versions of the calendar, the newer of which folds otherwise.
func twoCalendars() engine.Projection {
	older := calendar.Projection()
	newer := older
	newer.Version, newer.Earlier = older.Version+1, []engine.Projection{older}
	newer.Keys = func(e engine.Event) []engine.Ref { return append(older.Keys(e), calendar.Salons.Ref(e.Key)) }
	newer.Fold = func(u *engine.Unit, e engine.Event) error {
		if err := older.Fold(u, e); err != nil {
			return err
		}
		salon, found, err := calendar.Salons.Get(u, e.Key)
		if err != nil || !found {
			return err
		}
		salon.BufferMinutes = markOf
		calendar.Salons.Put(u, salon)
		return nil
	}
	return newer
}

// Reads of a view go with those of its tables: what began after a switch is answered by the new version, whoever answers, and
// nothing is older than its token, while versions, tables and views are behind in turn.
func TestAViewMovesWithItsTables(t *testing.T) {
	withViews(t, func(t *testing.T, w *viewed) {
		newer := twoCalendars()
		older, view := newer.Earlier[0], newer.InRedis("slots")
		if err := engine.EnsureTables(t.Context(), w.db, newer); err != nil {
			t.Fatal(err)
		}
		w.screens.Slots.Projection = view
		desk := &rebuild.Desk{DB: w.db, Of: []engine.Projection{newer, view}, Views: engine.Views{DB: w.db, Redis: w.redis}}
		all := []engine.Projection{older, newer, view.Earlier[0], view}

		s := w.log.Open("kim", "Asia/Seoul")
		v := s.Request("c1", tenth)
		w.fill(all...)
		type written struct {
			token string
			start time.Time
		}
		var last atomic.Pointer[written]
		last.Store(&written{w.token(), v.Start})
		var begun, ended atomic.Int64 // switches; after an even number the older version serves
		var byView, byTables atomic.Int64
		read := func() {
			before, want := ended.Load(), last.Load()
			var salons []calendar.Salon
			var taken []calendar.Interval
			err := w.screens.ReadView(t.Context(), ReadHeaders{ConsistencyToken: want.token, Prefer: "wait=30"}, w.screens.Slots, calendar.Topic, s.ID,
				func(rows engine.ViewRows) (err error) {
					byView.Add(1)
					if salons, err = engine.ViewTable(rows, calendar.Salons); err != nil {
						return err
					}
					taken, err = engine.ViewTable(rows, calendar.Intervals)
					return err
				},
				[]engine.Projection{newer}, func(ctx context.Context, snap Snapshot) (err error) {
					byTables.Add(1)
					if salons, err = engine.Query(ctx, snap, calendar.Salons, snap.Version("calendar"), ""); err != nil {
						return err
					}
					taken, err = engine.Query(ctx, snap, calendar.Intervals, snap.Version("calendar"), "")
					return err
				})
			if err != nil || len(salons) != 1 || len(taken) != 1 {
				t.Errorf("%v, %+v, %+v", err, salons, taken)
				return
			}
			if taken[0].StartAt.Before(want.start) {
				t.Errorf("a visit at %v with a token of %v", taken[0].StartAt, want.start)
			}
			if isNewer := salons[0].BufferMinutes == markOf; begun.Load() == before && isNewer != (before%2 == 1) {
				t.Errorf("answered by the newer version: %v, after %d switches", isNewer, before)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for ctx.Err() == nil {
					read()
				}
			})
		}
		for i := range 20 {
			s.Move(v, tenth.Add(time.Duration(i+1)*time.Minute))
			last.Store(&written{w.token(), v.Start})
			order := rand.Perm(len(all))
			to := newer.Versions()[i%2]
			for n, which := range order {
				if n == i%len(all) {
					begun.Add(1)
					if _, err := desk.Ask(t.Context(), rebuild.Request{Kind: rebuild.Switch, Projection: to.ID(), Options: rebuild.Options{Force: true, Reason: "a test"}}); err != nil {
						t.Error(err)
					}
					ended.Add(1)
					readers.Go(read) // it may have to wait for what is filled below
				}
				w.fill(all[which])
			}
			read()
		}
		stop()
		readers.Wait()
		if byView.Load() == 0 || byTables.Load() == 0 {
			t.Errorf("%d reads by the view, %d by the tables", byView.Load(), byTables.Load())
		}
		t.Logf("%d reads by the view, %d by the tables", byView.Load(), byTables.Load())
	})
}
