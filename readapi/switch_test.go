package readapi

import (
	"net/http"
	"sync"
	"testing"
	"time"

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
