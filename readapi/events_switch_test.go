package readapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dangdangsalon/salon/projections/engine"
	"github.com/dangdangsalon/salon/projections/history"
	"github.com/dangdangsalon/salon/projections/rebuild"
)

// TestAStreamGoesOnThroughSwitches follows a reservation while reads are moved to and fro between two versions of the
// history, of which now one is behind and now the other. One reader stays, the other leaves and comes again all the time.
// Each is told every change once, in order.
func TestAStreamGoesOnThroughSwitches(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		older := history.Projection()
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
		n := w.node(until(time.Now().Add(time.Hour)), false)

		ctx, leave := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		defer readers.Wait()
		defer leave()
		news := [2]chan string{make(chan string, 1000), make(chan string, 1000)}
		for r, as := range []string{"customer:c1", "groomer:kim"} {
			readers.Go(func() {
				for last := ""; ctx.Err() == nil; {
					answer, next, err := n.listen(ctx, as, v.ID, last)
					if err != nil {
						continue // ctx is over
					}
					if answer.StatusCode != http.StatusOK {
						t.Errorf("%s after %q: %d", as, last, answer.StatusCode)
						leave()
					}
					for heard := 0; r == 0 || heard < 2; heard++ {
						e, err := next()
						if err != nil {
							break
						}
						if e.event != "heartbeat" {
							last = e.id
							news[r] <- e.id
						}
					}
					answer.Body.Close()
				}
			})
		}
		want := []string{fmt.Sprint(v.Revision)}
		var told [2][]string
		hear := func() {
			t.Helper()
			for r := range told {
				for len(told[r]) < len(want) {
					select {
					case id := <-news[r]:
						told[r] = append(told[r], id)
					case <-time.After(time.Minute):
						t.Fatalf("reader %d was told %v of %v", r, told[r], want)
					}
				}
			}
		}
		versions := []engine.Projection{newer, older}
		for i := range 20 {
			for n := range 1 + rand.IntN(3) {
				s.Move(v, tenth.Add(time.Duration(4*i+n+1)*time.Hour))
				want = append(want, fmt.Sprint(v.Revision))
			}
			to, from := versions[i%2], versions[(i+1)%2]
			steps := []func(){
				func() { w.project(from) },
				func() { w.project(to) },
				func() {
					_, err := desk.Ask(t.Context(), rebuild.Request{Kind: rebuild.Switch, Projection: to.ID(), Options: rebuild.Options{Force: true, Reason: "a test"}})
					if err != nil {
						t.Error(err)
					}
				},
			}
			for _, step := range rand.Perm(len(steps)) {
				steps[step]()
			}
			if rand.IntN(2) == 0 {
				hear()
			}
		}
		hear()
		leave()
		readers.Wait()
		for r := range told {
			close(news[r])
			for id := range news[r] {
				told[r] = append(told[r], id)
			}
			if diff := cmp.Diff(want, told[r]); diff != "" {
				t.Errorf("reader %d (-history +told)\n%s", r, diff)
			}
		}
	})
}
